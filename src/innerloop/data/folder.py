"""People's own pictures: a folder a class, mini-ImageNet's csv files, or a `.npy` array."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from innerloop.data.base import ImageClasses, load_npy
from innerloop.data.examples import evenly_spread
from innerloop.data.layouts import Layout, find_layout
from innerloop.data.other_forms import remark_on
from innerloop.data.paper import SAMPLE
from innerloop.data.pictures import (
    BrokenPicture,
    file_status,
    read_picture,
)
from innerloop.data.polarity import ink_is_dark
from innerloop.data.progress import progress_bar
from innerloop.data.remarks import Remark, counted, some, warn
from innerloop.data.survey import Survey, Watcher, sound_ones, survey
from innerloop.errors import UserError, finite_above_zero, side_of_image
from innerloop.files import at_home, cache_folder, one_at_a_time, quoted, write_whole
from innerloop.keywords import keywords_checked

# Raised when prepared arrays change, so that older ones are no longer used.
_FORMAT = 6
_BATCH = 256


@keywords_checked
def folder(
    path: str | Path,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    white: float | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> ImageClasses:
    """Load pictures of one's own, preparing them the first time.

    Four layouts are understood:

    - one folder a class, directly in `path` or deeper (`Greek/alpha/1.png`: the class
      is `"Greek/alpha"`, its group `"Greek"`), with any number of pictures each;
    - one folder a part of the split, `train`, `val` and `test` (also `valid`, `validation`,
      `meta_train`, `test_set` and the like, in any case), each with folders of classes; they
      become the split `"folders"`, or one set of classes if the parts have the same ones (a
      warning);
    - mini-ImageNet's: `images/` and `train.csv`, `val.csv`, `test.csv` with columns
      `filename` and `label`; they become the split `"csv"`;
    - a `.npy` file, `uint8` `[classes, images a class, C, H, W]`.

    These may lie in one folder more, as archives are unpacked.

    Pictures are png, jpg (jpeg, jfif), bmp, gif, tif, webp or pnm (pgm, ppm, pbm).  Hidden files
    are ignored; what else is left out is said (see `remarks` of the result).  The prepared
    pictures are kept in the cache folder and memory-mapped; they are prepared again when a file's
    name, size or time changes.  Neither step needs all of them in memory.

    Args:
        path: the folder or the `.npy` file.
        image_size: height and width in pixels to scale all pictures to, whatever
            their proportions; by default pictures that all have one size of at most
            84 keep it, others become 28 x 28 (grey) or 84 x 84 (colour).
        channels: 1 for grey, 3 for colour; by default 1 if no picture has any colour.
        white: the value of white in pictures of more than 8 bits a channel (16-bit PNG and
            TIFF, floating point); by default the smallest of 1 (for floating point), 255, 1023,
            4095, 16383 and 65535 that no value of any picture exceeds.
        skip_broken: leave out pictures that cannot be read.  The prepared folder stays as it is:
            later calls find it without them, and say so.
        progress: show progress on standard error.

    Returns:
        Classes sorted by name, pictures by file name.  `dark_ink` is True for grey
        pictures whose strokes are darker than their paper.

    Raises:
        UserError: the layout is not understood, or a picture cannot be read; the
            message names the file.

    Warns:
        UserWarning: for each remark that matters: files of kinds that are not read, class
            folders without pictures, a picture in two classes or twice in one, blank pictures,
            a range of values that was concluded from the files.
    """
    path = at_home(path)
    if channels not in (None, 1, 3):
        raise UserError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    side_of_image(image_size=image_size)
    finite_above_zero(white=white)
    if path.suffix.lower() == ".npy":
        data = _from_array(path, image_size, channels)
    else:
        options = _Options(image_size, channels, white, skip_broken, progress)
        data = _from_pictures(path, options)
    warn(data.remarks, data.name)
    return data


@dataclass(frozen=True)
class _Options:
    """See `folder`."""

    image_size: int | None
    channels: int | None
    white: float | None
    skip_broken: bool
    progress: bool


def _from_pictures(path: Path, options: _Options) -> ImageClasses:
    layout = find_layout(path)
    known = remark_on(path)
    remarks = [Remark("known data set", 1, known)] if known else []
    remarks += layout.remarks
    fingerprint = _fingerprint(path, layout, options)
    name = path.resolve().name or "images"
    # Only letters that every file system takes, and no endless names.
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:40].strip("._") or "images"
    home = cache_folder() / "folders" / f"{safe}-{fingerprint[:16]}"
    prepared = _prepared(home, fingerprint)
    if prepared is None:  # Else without the lock: the cache folder may be read-only.
        with one_at_a_time(home / ".lock"):
            prepared = _prepared(home, fingerprint)
            if prepared is None:
                _prepare(home, name, path, layout, fingerprint, options)
                prepared = _prepared(home, fingerprint)
    if prepared is None:
        raise UserError(f"what was just written to {home} cannot be read back; is the disk sound?")
    return replace(prepared, remarks=[*remarks, *prepared.remarks])


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
            f"width], not {array.dtype} of shape {array.shape}; innerloop.data.from_arrays(X, y) "
            "takes other arrays and their labels"
        )
    for what, wanted, found in (
        ("image_size", image_size, array.shape[3:]),
        ("channels", channels, array.shape[2:3]),
    ):
        if wanted is not None and any(number != wanted for number in found):
            raise UserError(f"{path} is used as it is, so {what} must be {found[0]}, not {wanted}")
    data = ImageClasses.from_square(array, name=path.stem)
    every = max(1, len(data.images) // 1000)
    some_images = data.images[::every]
    light = array.shape[2] == 1 and ink_is_dark(some_images)
    remarks = []
    if 0 < int(some_images.max()) <= 1:
        text = "the largest value is 1, where 255 is white: multiply the array by 255"
        remarks.append(Remark("dark", len(data.images), text))
    return replace(data, dark_ink=light, remarks=remarks)


def _fingerprint(path: Path, layout: Layout, options: _Options) -> str:
    # Without skip_broken: what was left out once stays so, until a file changes.
    asked = [options.image_size, options.channels, options.white, _FORMAT]
    digest = hashlib.sha256(json.dumps([str(path.resolve()), asked, layout.split]).encode())
    for name, files in layout.classes.items():
        for file in files:
            status = file_status(file)
            line = [name, file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns]
            digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _prepared(home: Path, fingerprint: str) -> ImageClasses | None:
    """The prepared data of an earlier run; None if there is none or it is no longer usable."""
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
            splits={index["split_name"]: split} if split else {},
            remarks=[Remark(**remark) for remark in index["remarks"]],
            white=index["white"],
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
    home: Path, name: str, path: Path, layout: Layout, fingerprint: str, options: _Options
) -> None:
    classes, remarks = layout.classes, []
    if options.skip_broken:
        classes, more = _without_broken(path, layout, options.progress)
        remarks += more
    members = [(file, class_name) for class_name, files in classes.items() for file in files]
    files = [file for file, _ in members]
    with _way_out(path):
        found = survey(files, options.image_size, options.channels, options.white)
    watcher = Watcher()
    # Written front to back rather than through a memory map, because a full disk is
    # then an error to report, where a memory map would end the process.
    with (
        _way_out(path),
        write_whole(home / "images.npy") as out,
        progress_bar(f"prepare {name}", len(files), shown=options.progress) as advance,
    ):
        shape = (len(files), found.channels, found.size[1], found.size[0])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(out, header)
        for (file, class_name), image in zip(members, _read_all(files, found), strict=True):
            data = np.ascontiguousarray(image).tobytes()
            out.write(data)
            digest = hashlib.blake2b(data, digest_size=16).digest()
            watcher.look(image, digest, str(file.relative_to(path)), class_name)
            advance(1)
    remarks += [*found.remarks, *watcher.remarks()]
    dark_ink = False
    if found.channels == 1:
        dark_ink = ink_is_dark(load_npy(home / "images.npy")[evenly_spread(len(files), SAMPLE)])
    index = {
        "fingerprint": fingerprint,
        "name": name,
        "names": list(classes),
        "groups": [layout.groups[class_name] for class_name in classes],
        "counts": [len(files) for files in classes.values()],
        "dark_ink": dark_ink,
        "split": {
            part: [name for name in names if name in classes]
            for part, names in layout.split.items()
        },
        "split_name": layout.split_name,
        "remarks": [asdict(remark) for remark in remarks],
        "white": found.white,
    }
    with write_whole(home / "index.json") as out:
        out.write(json.dumps(index).encode())


@contextlib.contextmanager
def _way_out(path: Path) -> Iterator[None]:
    """Add to the error of a broken picture that it can be left out."""
    try:
        yield
    except BrokenPicture as error:
        raise BrokenPicture(
            f"{error}, or leave such pictures out: innerloop data prepare "
            f"{quoted(path)} --skip-broken (in Python skip_broken=True)"
        ) from error


def _without_broken(
    path: Path, layout: Layout, progress: bool
) -> tuple[dict[str, list[Path]], list[Remark]]:
    """The classes without pictures that cannot be read, and what to say of it."""
    files = [file for members in layout.classes.values() for file in members]
    with progress_bar("look for broken pictures", len(files), shown=progress) as advance:
        sound, broken = sound_ones(files, advance)
    if not sound:
        raise UserError(f"none of the {len(files):,} pictures in {path} can be read")
    classes = {
        name: kept
        for name, members in layout.classes.items()
        if (kept := [file for file in members if file in sound])
    }
    remarks = []
    if broken:
        names = some([str(file.relative_to(path)) for file in broken])
        text = f"{counted(len(broken), 'picture')} that cannot be read, left out: {names}"
        remarks.append(Remark("broken", len(broken), text))
    gone = [name for name in layout.classes if name not in classes]
    if gone:
        text = f"{counted(len(gone), 'folder')} without a picture that can be read: {some(gone)}"
        remarks.append(Remark("broken folders", len(gone), text))
    return classes, remarks


def _read_all(files: list[Path], found: Survey) -> Iterator[np.ndarray]:
    """The pictures in order, at most 256 of them in memory."""

    def read(file: Path) -> np.ndarray:
        return read_picture(file, found.channels, found.size, found.white)

    # Threads help where decoding dominates; thumbnails are done sooner without.
    large = sum(file_status(file).st_size for file in files[:100]) > 30_000 * len(files[:100])
    if not large:
        for file in files:
            yield read(file)
        return
    with ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            yield from pool.map(read, batch)
