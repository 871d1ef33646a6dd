"""People's own pictures: a folder a class, mini-ImageNet's csv files, or a `.npy` array."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data.base import ImageClasses, load_npy
from innerloop.data.layouts import Layout, find_layout
from innerloop.data.pictures import (
    MIDDLE,
    border_brightness,
    file_status,
    is_grey,
    picture_size,
    read_picture,
)
from innerloop.data.progress import progress_bar
from innerloop.errors import UserError
from innerloop.files import cache_folder, one_at_a_time, write_whole

# Pictures up to this size are kept as they are, if all have the same.
LARGEST_KEPT = 84
GREY_SIZE, COLOUR_SIZE = 28, 84
# Raised when prepared arrays change, so that older ones are no longer used.
_FORMAT = 2
_BATCH = 256


def folder(
    path: str | Path,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    progress: bool = False,
) -> ImageClasses:
    """Load pictures of one's own, preparing them the first time.

    Four layouts are understood:

    - one folder a class, directly in `path` or deeper (`Greek/alpha/1.png`: the class
      is `"Greek/alpha"`, its group `"Greek"`), with any number of pictures each;
    - one folder a part of the split, `train`, `val` and `test` (also `valid`, `validation`,
      `meta_train` and the like, in any case), each with folders of classes; they become the
      split `"folders"`, or one set of classes if the parts have the same ones (a warning);
    - mini-ImageNet's: `images/` and `train.csv`, `val.csv`, `test.csv` with columns
      `filename` and `label`; they become the split `"csv"`;
    - a `.npy` file, `uint8` `[classes, images a class, C, H, W]`.

    Pictures are png, jpg (jpeg, jfif), bmp, gif, tif or webp.  Hidden files and other files are
    ignored.  The prepared pictures are kept in the cache folder and memory-mapped;
    they are prepared anew when a file's name, size or time changes.  Neither step
    needs all of them in memory.

    Args:
        path: the folder or the `.npy` file.
        image_size: height and width in pixels to scale all pictures to, whatever
            their proportions; by default pictures that all have one size of at most
            84 keep it, others become 28 x 28 (grey) or 84 x 84 (colour).
        channels: 1 for grey, 3 for colour; by default 1 if no picture has any colour.
        progress: show progress on standard error.

    Returns:
        Classes sorted by name, pictures by file name.  `dark_ink` is True for grey
        pictures whose edges are mostly light.

    Raises:
        UserError: the layout is not understood, or a picture cannot be read; the
            message names the file.
    """
    path = Path(path).expanduser()
    if channels not in (None, 1, 3):
        raise UserError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if image_size is not None and not 1 <= image_size <= 4096:
        raise UserError(f"image_size must be between 1 and 4096 pixels, not {image_size}")
    if path.suffix.lower() == ".npy":
        return _from_array(path, image_size, channels)

    layout = find_layout(path)
    options = {"image_size": image_size, "channels": channels, "format": _FORMAT}
    fingerprint = _fingerprint(path, layout, options)
    name = path.resolve().name or "images"
    # Only letters that every file system takes, and no endless names.
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:40].strip("._") or "images"
    home = cache_folder() / "folders" / f"{safe}-{fingerprint[:16]}"
    prepared = _prepared(home, fingerprint)
    if prepared is not None:
        return prepared  # Without the lock: the cache folder may be read-only.
    with one_at_a_time(home / ".lock"):
        prepared = _prepared(home, fingerprint)
        if prepared is None:
            _prepare(home, name, layout, fingerprint, image_size, channels, progress)
            prepared = _prepared(home, fingerprint)
    if prepared is None:
        raise UserError(f"what was just written to {home} cannot be read back; is the disk sound?")
    return prepared


def _from_array(path: Path, image_size: int | None, channels: int | None) -> ImageClasses:
    array = load_npy(path)
    if (
        array.ndim != 5
        or array.dtype != np.uint8
        or 0 in array.shape
        or array.shape[2] not in (1, 3)
    ):
        raise UserError(
            f"{path}: need a uint8 array [classes, images a class, 1 or 3 channels, height, "
            f"width], not {array.dtype} of shape {array.shape}"
        )
    for what, wanted, found in (
        ("image_size", image_size, array.shape[3:]),
        ("channels", channels, array.shape[2:3]),
    ):
        if wanted is not None and any(number != wanted for number in found):
            raise UserError(f"{path} is used as it is, so {what} must be {found[0]}, not {wanted}")
    data = ImageClasses.from_square(array, name=path.stem)
    every = max(1, len(data.images) // 1000)
    light = array.shape[2] == 1 and border_brightness(data.images[::every]) > MIDDLE
    return ImageClasses.from_square(array, name=path.stem, dark_ink=light)


def _fingerprint(path: Path, layout: Layout, options: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([str(path.resolve()), options, layout.split]).encode())
    for name, files in layout.classes.items():
        for file in files:
            status = file_status(file)
            line = [name, file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns]
            digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _prepared(home: Path, fingerprint: str) -> ImageClasses | None:
    """What an earlier run left; None if there is none, or it is not usable any more."""
    try:
        index = json.loads((home / "index.json").read_text("utf-8"))
        if index["fingerprint"] != fingerprint:
            return None
        counts = np.array(index["counts"], dtype=np.int64)
        classes = {name: i for i, name in enumerate(index["names"])}
        split = {
            part: np.array([classes[name] for name in names], dtype=np.int64)
            for part, names in index["split"].items()
        }
        return ImageClasses(
            images=load_npy(home / "images.npy"),
            starts=np.cumsum(counts) - counts,
            counts=counts,
            names=index["names"],
            groups=index["groups"],
            name=index["name"],
            dark_ink=index["dark_ink"],
            splits={index.get("split_name", "csv"): split} if split else {},
        )
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):
        # Not there, or damaged from outside (UserError is a ValueError): as it is
        # ours, preparing it again mends it.
        return None


def _prepare(
    home: Path,
    name: str,
    layout: Layout,
    fingerprint: str,
    image_size: int | None,
    channels: int | None,
    progress: bool,
) -> None:
    files = [file for members in layout.classes.values() for file in members]
    if channels is None:
        channels = 1 if all(map(is_grey, files)) else 3
    size = (image_size, image_size) if image_size else _common_size(files, channels)
    borders = []
    # Written front to back rather than through a memory map, because a full disk is
    # then an error to report, where a memory map would end the process.
    with (
        write_whole(home / "images.npy") as out,
        progress_bar(f"prepare {name}", len(files), shown=progress) as advance,
    ):
        shape = (len(files), channels, size[1], size[0])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(out, header)
        for image in _read_all(files, channels, size):
            out.write(np.ascontiguousarray(image).tobytes())
            borders.append(border_brightness(image))
            advance(1)
    index = {
        "fingerprint": fingerprint,
        "name": name,
        "names": list(layout.classes),
        "groups": [layout.groups[class_name] for class_name in layout.classes],
        "counts": [len(members) for members in layout.classes.values()],
        "dark_ink": channels == 1 and float(np.median(borders)) > MIDDLE,
        "split": layout.split,
        "split_name": layout.split_name,
    }
    with write_whole(home / "index.json") as out:
        out.write(json.dumps(index).encode())


def _common_size(files: list[Path], channels: int) -> tuple[int, int]:
    """(width, height) of all pictures, or the usual size where they differ or are large."""
    usual = GREY_SIZE if channels == 1 else COLOUR_SIZE
    first = picture_size(files[0])
    if max(first) <= LARGEST_KEPT and all(picture_size(file) == first for file in files):
        return first
    return usual, usual


def _read_all(files: list[Path], channels: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The pictures in order, at most 256 of them in memory."""
    # Threads help where decoding dominates; thumbnails are done sooner without.
    large = sum(file_status(file).st_size for file in files[:100]) > 30_000 * len(files[:100])
    if not large:
        for file in files:
            yield read_picture(file, channels, size)
        return
    with ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            yield from pool.map(lambda file: read_picture(file, channels, size), batch)
