"""Glyphs: an endless data set of hand-drawn characters of invented alphabets.

Nothing is downloaded: every drawing is a pure function of (seed, alphabet,
character, drawing).  Asking for more classes or more drawings adds to what was
there and changes none of it.  Drawing k of every character of an alphabet comes
from the same imagined writer, as in Omniglot, whose look the pictures have: a
pen 5 pixels wide on paper of 105 x 105, made smaller with a Lanczos filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from innerloop.data.base import ImageClasses, load_npy
from innerloop.data.glyph_alphabets import Character, invent_character, invent_style
from innerloop.data.glyph_hands import HABITS, by_hand, pen_and_ink
from innerloop.data.glyph_strokes import plain
from innerloop.data.progress import progress_bar
from innerloop.errors import UserError
from innerloop.files import cache_folder, one_at_a_time, write_whole
from innerloop.keywords import keywords_checked

# Part of the name of cached files: raise it whenever a pixel changes.
GENERATOR_VERSION = 8

_SMALLEST, _LARGEST = 14, 55  # characters of an alphabet, as in Omniglot


@keywords_checked
def glyphs(
    classes: int = 1500,
    per_class: int = 20,
    *,
    seed: int = 0,
    size: int = 28,
    progress: bool = False,
    cache: bool = True,
) -> ImageClasses:
    """Characters of invented alphabets, drawn by invented writers.

    The split `"glyphs"` keeps alphabets together: about 100 of 1,500 classes for
    validation and 300 for testing, in proportion for other numbers.  With fewer
    than three alphabets it splits by characters.

    Args:
        classes: number of characters, at least 1; 14 to 55 make an alphabet.
        per_class: drawings of each character, at least 1.
        seed: any number from 0 up; another seed gives other alphabets.
        size: height and width of the pictures in pixels, 8 to 256.
        progress: show a bar on stderr while drawing.
        cache: keep the pictures in `cache_folder()/glyphs` and read them from there.

    Returns:
        Images `[classes * per_class, 1, size, size]`, ink 0 on paper 255, memory-mapped
        from the cache; names like `"alphabet003/character07"`; groups are alphabets.

    Raises:
        UserError: a number is out of range, or the cache cannot be written.
    """
    _check(classes, per_class, seed, size)
    path = cache_folder() / "glyphs" / _file_name(classes, per_class, seed, size)
    shape = (classes, per_class, 1, size, size)

    def draw() -> np.ndarray:
        return _draw_all(classes, per_class, seed, size, progress)

    images = _kept(path, shape, draw) if cache else draw()
    numbering = [pair for pair, _ in zip(_numbering(seed), range(classes), strict=False)]
    groups = [f"alphabet{alphabet:03d}" for alphabet, _ in numbering]
    return ImageClasses.from_square(
        images,
        names=[
            f"{group}/character{character + 1:02d}"
            for group, (_, character) in zip(groups, numbering, strict=True)
        ],
        groups=groups,
        name="glyphs",
        dark_ink=True,
        splits={"glyphs": split_alphabets(groups)},
    )


def draw_glyph(
    seed: int, alphabet: int, character: int, drawing: int, size: int = 28
) -> np.ndarray:
    """One drawing, the same as in `glyphs`.

    Args:
        seed: as in `glyphs`.
        alphabet: its number, from 0.
        character: its number in the alphabet, from 0.
        drawing: its number, from 0; also the writer's.
        size: height and width in pixels.

    Returns:
        `uint8` `[size, size]`, ink 0 on paper 255.
    """
    design = _alphabet(seed, alphabet, character + 1)[character]
    drawn: np.ndarray = _draw(design, seed, alphabet, character, drawing + 1, size)[drawing]
    return drawn


def split_alphabets(groups: list[str]) -> dict[str, np.ndarray]:
    """Split classes 1100 : 100 : 300 without dividing an alphabet.

    Args:
        groups: the alphabet of each class, equal ones side by side.

    Returns:
        `{"train", "val", "test"}` to class numbers.  Training alphabets come first,
        testing ones last.  Below three alphabets it divides by characters, and a
        part may be empty below three classes.
    """
    classes = len(groups)
    starts = [i for i in range(classes) if i == 0 or groups[i] != groups[i - 1]]
    val, test = classes * 11 / 15, classes * 12 / 15
    if len(starts) >= 3:
        test = min(starts[2:], key=lambda start: abs(start - test))
        inner = [start for start in starts[1:] if start < test]
        val = min(inner, key=lambda start: abs(start - (test - classes / 15)))
    else:
        test = max(min(round(test), classes - 1), 1)
        val = max(min(round(val), test - 1), 1)
    numbers = np.arange(classes, dtype=np.int64)
    val, test = int(val), int(test)
    return {"train": numbers[:val], "val": numbers[val:test], "test": numbers[test:]}


# --- asking and caching ------------------------------------------------------------------------


def _check(classes: int, per_class: int, seed: int, size: int) -> None:
    for name, value, low, high in (
        ("classes", classes, 1, 10_000_000),
        ("per_class", per_class, 1, 10_000),
        ("seed", seed, 0, 2**63),
        ("size", size, 8, 256),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise UserError(
                f"glyphs: {name} must be a whole number from {low} to {high}, not {value!r}"
            )


def _file_name(classes: int, per_class: int, seed: int, size: int) -> str:
    return f"v{GENERATOR_VERSION}-{classes}x{per_class}-size{size}-seed{seed}.npy"


def _kept(path: Path, shape: tuple[int, ...], draw: Callable[[], np.ndarray]) -> np.ndarray:
    """The cached pictures, drawn if need be: by one of several processes, the others wait."""
    images = _cached(path, shape)
    if images is None:
        with one_at_a_time(path.parent / ".lock"):
            images = _cached(path, shape)
            if images is None:
                drawn = draw()
                with write_whole(path) as file:
                    np.save(file, drawn)
                images = load_npy(path)
    return images


def _cached(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached pictures; None if there are none or the file is damaged (then drawn again)."""
    if not path.exists():
        return None
    try:
        images = load_npy(path)
    except UserError:
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


# --- which characters --------------------------------------------------------------------------


def _random(seed: int, alphabet: int, *purpose: int) -> np.random.Generator:
    """A generator for one purpose in one alphabet, independent of all others."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, alphabet, *purpose])))


def _alphabet_size(seed: int, alphabet: int) -> int:
    return int(_random(seed, alphabet, 0).integers(_SMALLEST, _LARGEST + 1))


def _numbering(seed: int) -> Iterator[tuple[int, int]]:
    """`(alphabet, character)` of class 0, 1, 2 and so on, without end."""
    alphabet = 0
    while True:
        for character in range(_alphabet_size(seed, alphabet)):
            yield alphabet, character
        alphabet += 1


def _alphabet(seed: int, alphabet: int, count: int) -> list[Character]:
    """The first `count` characters of an alphabet, no two of which look the same."""
    style = invent_style(_random(seed, alphabet, 1))
    designs: list[Character] = []
    looks = np.empty((count, 121))
    for number in range(count):
        rng = _random(seed, alphabet, 2, number)
        for attempt in range(40):
            design = invent_character(style, rng)
            look = _look(design)
            # An alphabet with few strokes may run out: ask for less and less difference.
            nearest = np.abs(looks[:number] - look).mean(axis=1).min(initial=np.inf)
            if nearest > 0.11 * 0.9**attempt:
                break
        designs.append(design)
        looks[number] = look
    return designs


def _look(design: Character) -> np.ndarray:
    """A coarse picture `[121]` of a design, 0 to 1, to tell it from others."""
    drawn: list[np.ndarray] = []
    for stroke in design.strokes:
        drawn.append(plain(stroke, drawn))
    points = [p[0] for p in drawn]
    middles = [(p[1:] + p[:-1]) / 2 for p in points]
    ink = (np.concatenate(points + middles) - design.centre) * design.unit / 40
    side = np.linspace(-1, 1, 11)
    grid = (side + 1j * side[:, None]).ravel()
    nearest = np.abs(grid[:, None] - ink).min(axis=1)
    near: np.ndarray = np.exp(-((nearest / 0.25) ** 2))
    return near


# --- drawing -----------------------------------------------------------------------------------


def _draw_all(classes: int, per_class: int, seed: int, size: int, progress: bool) -> np.ndarray:
    images = np.empty((classes, per_class, 1, size, size), dtype=np.uint8)
    done, alphabet = 0, 0
    with progress_bar("drawing glyphs", classes, shown=progress) as advance:
        while done < classes:
            count = min(_alphabet_size(seed, alphabet), classes - done)
            for character, design in enumerate(_alphabet(seed, alphabet, count)):
                images[done, :, 0] = _draw(design, seed, alphabet, character, per_class, size)
                done += 1
            alphabet += 1
            advance(count)
    return images


def _draw(
    design: Character, seed: int, alphabet: int, character: int, drawings: int, size: int
) -> np.ndarray:
    """The first drawings of a character: `uint8` `[drawings, size, size]`."""
    # Row k of a table filled row by row is the same however many rows there are.
    writers = _random(seed, alphabet, 3).standard_normal((drawings, HABITS))
    columns = HABITS + sum(3 * len(s.lengths) + 4 + int(s.steps.sum()) for s in design.strokes)
    moods = _random(seed, alphabet, 4, character).standard_normal((drawings, columns))
    strokes = by_hand(design, writers, moods)
    # Plain lists x, y, x, y are what the pen takes fastest.
    tracks = [np.stack([s.real, s.imag], axis=-1).reshape(drawings, -1).tolist() for s in strokes]
    return np.stack([pen_and_ink(drawing, size) for drawing in zip(*tracks, strict=True)])
