"""How a report is tried, and what must happen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from innerloop.errors import UserError


@dataclass(frozen=True)
class Trial:
    """One problem that people reported, tried with innerloop.

    Attributes:
        tried: what is done, in a few words.
        came: what comes of it; `run` raises `AssertionError` if it does not.
        run: does it, in an empty folder.
    """

    tried: str
    came: str
    run: Callable[[Path], None]


TRIALS: dict[str, Trial] = {}


def trial(tried: str, came: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Keep a function as the trial of its name."""

    def keep(run: Callable[[Path], None]) -> Callable[[Path], None]:
        TRIALS[run.__name__] = Trial(tried, came, run)
        return run

    return keep


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """A context that expects one error whose message has all of these texts."""
    message = None
    try:
        yield
    except UserError as error:
        message = str(error)
    assert message is not None, f"not refused: {words}"
    assert "\n" not in message, message
    assert all(word in message for word in words), message


@contextmanager
def warned(*words: str) -> Iterator[None]:
    """A context that expects warnings, one of which has all of these texts."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    texts = [str(each.message) for each in found]
    assert any(all(word in text for word in words) for text in texts), texts


def noise(seed: int, shape: tuple[int, ...] = (16, 16, 3)) -> np.ndarray:
    """A random picture, different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    """A picture file, with the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def classes(root: Path, names: str = "cat dog owl", number: int = 3, first: int = 0) -> Path:
    """Folders of classes with so many pictures each, all different."""
    for i, name in enumerate(names.split()):
        for k in range(number):
            save(root / name / f"{k}.png", noise(first + 100 * i + k))
    return root
