"""Omniglot: 1,623 characters of 50 alphabets, 20 drawings each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from innerloop.data.archive import Drawings, grey_png, open_drawings
from innerloop.data.base import ImageClasses, load_npy
from innerloop.data.download import download_file
from innerloop.data.omniglot_facts import (
    DRAWINGS,
    HALVES,
    OFFICIAL,
    check_drawings,
    class_names,
    facts,
)
from innerloop.data.progress import progress_bar
from innerloop.errors import UserError
from innerloop.files import at_home, cache_folder, one_at_a_time, write_whole
from innerloop.keywords import keywords_checked

SIZE = 28
MD5 = {
    "background": "68d2efa1b9178cc56df9314c21c6e718",
    "evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
# Raised when prepared arrays change, so that older ones are no longer used.
_FORMAT = 1


@keywords_checked
def omniglot(
    source: str | Path | None = None, *, download: bool = True, progress: bool = False
) -> ImageClasses:
    """Load Omniglot, preparing it the first time.

    Each drawing becomes greyscale and 28 x 28 with Pillow's Lanczos filter, the
    one of the original MAML code.  The result is kept in the cache folder and
    memory-mapped from then on.  An explicit `source` is always looked at again:
    its counts are checked, and the prepared array is reused only if it was made
    from the very same drawings.

    Args:
        source: a folder with `images_background.zip` and `images_evaluation.zip`, or
            with the unpacked folders `images_background` and `images_evaluation`; or a
            prepared `.npy` file `[1623, 20, 1, 28, 28]`.  Without it: the one named by
            `INNERLOOP_OMNIGLOT`, else the array prepared last, else archives in the
            cache folder, else a download of 14 MB.
        download: False never touches the network.
        progress: show progress on standard error.

    Returns:
        1,623 classes of 20 images `[1, 28, 28]`, dark ink on light paper; names such
        as `"Greek/character03"`, groups the alphabets; background alphabets first,
        all sorted.

    Raises:
        UserError: no source and no connection, or a source that is incomplete,
            damaged or not Omniglot.

    References:
        Lake, Salakhutdinov and Tenenbaum (2015), Human-level concept learning through
        probabilistic program induction, Science 350.
    """
    home = cache_folder() / "omniglot"
    alphabets = facts()
    source = source or os.environ.get("INNERLOOP_OMNIGLOT")
    if source is None or source == "":
        prepared = _prepared_last(home, alphabets)
        if prepared is not None:
            return prepared
        source = _archives(home, download, progress)
    path = at_home(source)
    if path.suffix == ".npy":
        return _wrap(load_npy(path), alphabets, str(path))
    return _prepare(path, home, alphabets, progress)


def download_archives(
    folder: Path,
    *,
    base_url: str = OFFICIAL,
    md5: Mapping[str, str] = MD5,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    progress: bool = False,
) -> Path:
    """Download the two official archives, unless they are there.

    Args:
        folder: where they go.
        base_url: address of the folder on the server, with a slash at its end.
        md5: half to the MD5 of its archive.
        timeout: seconds to wait for the server.
        attempts: how often to try each file.
        pause: seconds before the second attempt, doubled for each further one.
        progress: show progress on standard error.

    Returns:
        `folder`.

    Raises:
        UserError: an archive cannot be had; the message says how to get it by hand.
    """
    names = [f"images_{half}.zip" for half in HALVES]
    advice = (
        f"Without a connection: fetch {names[0]} and {names[1]} from {OFFICIAL} on another "
        f"machine, put both into {folder}, or into any folder and name it with "
        "--omniglot-source FOLDER (from Python: omniglot(source=FOLDER))"
    )
    for half, name in zip(HALVES, names, strict=True):
        if not (folder / name).exists():
            download_file(
                base_url + name,
                folder / name,
                md5=md5[half],
                advice=advice,
                timeout=timeout,
                attempts=attempts,
                pause=pause,
                progress=progress,
            )
    return folder


def _archives(home: Path, download: bool, progress: bool) -> Path:
    if all((home / f"images_{half}.zip").exists() for half in HALVES):
        return home
    if not download:
        raise UserError(
            "Omniglot has not been prepared here yet, and downloading is switched off; "
            f"put images_background.zip and images_evaluation.zip into {home}, or name "
            "their folder with --omniglot-source FOLDER (from Python: omniglot(source=FOLDER))"
        )
    with one_at_a_time(home / ".lock"):
        return download_archives(home, progress=progress)


def _halves(source: Path) -> dict[str, Path]:
    """Half to its zip file or folder."""
    archives = [f"images_{half}.zip" for half in HALVES]
    if not source.exists():
        raise UserError(
            f"Omniglot's source {source} does not exist: give the folder of its archives"
        )
    if not source.is_dir():
        if source.name not in archives:
            raise UserError(
                f"{source} is not one of Omniglot's two archives, {' and '.join(archives)}, which "
                f"are at {OFFICIAL}: give the folder that holds both"
            )
        source = source.parent
    halves = {}
    for half in HALVES:
        name = f"images_{half}"
        # A clone of the official repository has the archives in python/.
        places = [
            place
            for folder in (source, source / "python")
            for place in (folder / f"{name}.zip", folder / name)
            if place.exists()
        ]
        if not places:
            raise UserError(
                f"{source} has neither {name}.zip nor the folder {name}; "
                f"it can be downloaded from {OFFICIAL}{name}.zip"
            )
        halves[half] = places[0]
    return halves


def _prepare(
    source: Path, home: Path, alphabets: Mapping[str, Mapping[str, int]], progress: bool
) -> ImageClasses:
    with ExitStack() as stack:
        halves = {
            half: stack.enter_context(open_drawings(place))
            for half, place in _halves(source).items()
        }
        check_drawings({half: list(part.crcs) for half, part in halves.items()}, str(source))
        fingerprint = _fingerprint(halves)
        array_path = home / f"omniglot-{fingerprint}.npy"
        prepared = _prepared(array_path, alphabets)
        if prepared is not None and _remembered(home) == array_path:
            return prepared  # Nothing to write: the cache folder may be read-only.
        # Of several processes started together one prepares, the others wait for it.
        with one_at_a_time(home / ".lock"):
            prepared = _prepared(array_path, alphabets)
            if prepared is None:
                array = _convert(halves, alphabets, progress)
                with write_whole(array_path) as file:
                    np.save(file, array)
                prepared = _wrap(load_npy(array_path), alphabets, str(array_path))
            _remember(home, array_path, prepared)
    return prepared


def _fingerprint(halves: Mapping[str, Drawings]) -> str:
    """A digest of the names and contents of all drawings, the same for zip and folder."""
    digest = hashlib.sha256(f"{_FORMAT} {SIZE} lanczos\n".encode())
    for half in HALVES:
        for key, crc in sorted(halves[half].crcs.items()):
            digest.update(f"{half}/{key} {crc}\n".encode())
    return digest.hexdigest()[:16]


def _convert(
    halves: Mapping[str, Drawings], alphabets: Mapping[str, Mapping[str, int]], progress: bool
) -> np.ndarray:
    """The drawings as `uint8` `[characters, 20, 1, 28, 28]`."""
    # Sorted keys are sorted alphabets, characters and drawings, as in class_names.
    work = [(halves[half], key) for half in HALVES for key in sorted(halves[half].crcs)]
    images = np.empty((len(work), 1, SIZE, SIZE), dtype=np.uint8)
    # One thread: the drawings are so small that a second one only waits for the first.
    with progress_bar("prepare Omniglot", len(work), shown=progress) as advance:
        for image, (part, key) in zip(images, work, strict=True):
            image[0] = _shrink(part.read(key), f"{part.origin}: {key}")
            advance(1)
    return images.reshape(len(class_names(alphabets)), DRAWINGS, 1, SIZE, SIZE)


def _shrink(data: bytes, what: str) -> np.ndarray:
    """One PNG file as `uint8` `[28, 28]`."""
    grey = grey_png(data, what)
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def _wrap(array: np.ndarray, alphabets: Mapping[str, Mapping[str, int]], what: str) -> ImageClasses:
    names = class_names(alphabets)
    shape = (len(names), DRAWINGS, 1, SIZE, SIZE)
    if array.shape != shape or array.dtype != np.uint8:
        raise UserError(
            f"{what}: prepared Omniglot is a uint8 array of shape {shape}, "
            f"this is {array.dtype} of shape {array.shape}"
        )
    return ImageClasses.from_square(
        array,
        names=names,
        groups=[name.split("/")[0] for name in names],
        name="omniglot",
        dark_ink=True,
    )


def _prepared(array_path: Path, alphabets: Mapping[str, Mapping[str, int]]) -> ImageClasses | None:
    """The array of an earlier run; None if there is none or it is no longer usable."""
    if not array_path.exists():
        return None
    try:
        return _wrap(load_npy(array_path), alphabets, str(array_path))
    except UserError:
        # A damaged cache: prepare it again.
        return None


def _prepared_last(home: Path, alphabets: Mapping[str, Mapping[str, int]]) -> ImageClasses | None:
    array_path = _remembered(home)
    return None if array_path is None else _prepared(array_path, alphabets)


def _remembered(home: Path) -> Path | None:
    """Where the array prepared last should be."""
    try:
        record = json.loads((home / "omniglot.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        return None
    # Only the name counts: the record cannot point outside the folder.
    return home / Path(str(record.get("array"))).name


def _remember(home: Path, array_path: Path, data: ImageClasses) -> None:
    record = {
        "format": _FORMAT,
        "array": array_path.name,
        "shape": [data.num_classes, DRAWINGS, *data.image_shape],
        "names": list(data.names),
    }
    with write_whole(home / "omniglot.json") as file:
        file.write(json.dumps(record, indent=1).encode())
