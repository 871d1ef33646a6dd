"""One reader for each form in which the data sets of the papers are passed on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from innerloop.data.known.facts import cub_part, parts_of
from innerloop.data.known.pickles import read_pickle
from innerloop.data.known.sources import Entry, Picture, entries, find_source
from innerloop.data.packed import CIFAR_100, CIFAR_BINARY, CIFAR_PYTHON, CUB, DIVIDED
from innerloop.data.pictures import is_picture
from innerloop.errors import UserError

Warn = Callable[[str], None]

_SIDE = 32
# Superclass, class, and 3 colours.
_RECORD = 2 + 3 * _SIDE**2
_SYNSET = re.compile(r"n\d{8}")
_PLAIN = re.compile(r"[^\W_][\w .,'()&+-]*", re.ASCII)


def _plain(name: str, source: Path) -> str:
    """A name that can be a folder's or a file's on any system."""
    if not _PLAIN.fullmatch(name) or len(name) > 200 or name.endswith((".", " ")):
        raise UserError(f"{source} has the name {name!r:.60}, which cannot be a folder's or file's")
    return name


# ---- CIFAR-100


def _cifar(source: Path, warn: Warn, part_of: Callable[[str, str], str]) -> Iterator[Picture]:
    archives, folders = zip(*((each.name, each.folder) for each in CIFAR_100), strict=True)
    source = find_source(source, archives + folders)
    found: dict[str, Any] = {}
    divided = False
    for entry in entries(source, warn):
        name, in_part = entry.path.name, _part_of_file(entry.path)
        if in_part is not None:
            # Divided already, as others pass it on.
            yield from _arrays(source, in_part, _content(source, entry))
            divided = True
        elif name in CIFAR_PYTHON:
            with entry.open() as file:
                found[name] = _text(read_pickle(file, f"{source}: {entry.path}"))
        elif name in CIFAR_BINARY:
            found[name] = entry.data()
    if divided:
        return
    try:
        halves, fine, coarse = _cifar_python(found) if "meta" in found else _cifar_binary(found)
        for name in (*fine, *coarse):
            _plain(name, source)
        for half, (pixels, fines, coarses) in halves.items():
            images = np.asarray(pixels, np.uint8).reshape(-1, 3, _SIDE, _SIDE)
            for i, (f, c) in enumerate(zip(fines, coarses, strict=True)):
                label = fine[int(f)], coarse[int(c)]
                image = images[i].transpose(1, 2, 0)
                part = part_of(*label)  # KeyError for a class that is not in CIFAR-100
                yield part, f"{label[1]}/{label[0]}", f"{half}-{i:05d}.png", image
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{source} is not CIFAR-100 as its author packs it ({type(error).__name__}: {error}): "
            f"give {' or '.join(archives)}, or the folder with what is in it"
        ) from error


def _text(value: Any) -> Any:
    """Keys and names of a pickle as text, whichever Python wrote it."""
    if isinstance(value, dict):
        return {_text(key): _text(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_text(v) for v in value]
    return value.decode("latin1") if isinstance(value, bytes) else value


def _cifar_python(found: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    meta = found["meta"]
    halves = {
        half: (found[half]["data"], found[half]["fine_labels"], found[half]["coarse_labels"])
        for half in ("train", "test")
    }
    return halves, meta["fine_label_names"], meta["coarse_label_names"]


def _cifar_binary(found: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    halves = {}
    for half in ("train", "test"):
        records = np.frombuffer(found[f"{half}.bin"], np.uint8).reshape(-1, _RECORD)
        halves[half] = (records[:, 2:], records[:, 1], records[:, 0])
    fine, coarse = (
        found[f"{kind}_label_names.txt"].decode("ascii").split() for kind in ("fine", "coarse")
    )
    return halves, fine, coarse


def cifar_fs(source: Path, warn: Warn) -> Iterator[Picture]:
    """CIFAR-FS: 64 / 16 / 20 classes of CIFAR-100."""
    parts = parts_of("cifar-fs")
    return _cifar(source, warn, lambda fine, coarse: parts[fine])


def fc100(source: Path, warn: Warn) -> Iterator[Picture]:
    """FC100: 12 / 4 / 4 superclasses of CIFAR-100."""
    parts = parts_of("fc100")
    return _cifar(source, warn, lambda fine, coarse: parts[coarse])


# ---- ImageNet's subsets


def _imagenet(name: str) -> Callable[[Path, Warn], Iterator[Picture]]:
    def read(source: Path, warn: Warn) -> Iterator[Picture]:
        labels: dict[str, Any] = {}
        images: dict[str, Any] = {}
        other: set[str] = set()
        for entry in entries(source, warn):
            if is_picture(entry.path.name):
                picture = _by_synset(name, source, entry)
                if picture is None:
                    other.add(entry.path.parent.name)
                else:
                    yield picture
                continue
            part = _part_of_file(entry.path)
            if part is None:
                continue
            content = _content(source, entry)
            if "labels" in entry.path.stem:
                labels[part] = content
            elif "image" in entry.path.stem and not isinstance(content, dict):
                images[part] = content
            else:
                yield from _arrays(source, part, content)
                continue
            # tieredImageNet's images and labels are two files, either of them first.
            if part in images and part in labels:
                yield from _arrays(source, part, {"images": images.pop(part), **labels.pop(part)})
        if images or labels:
            raise UserError(f"{source} has images without labels, or labels without images")
        if other:
            some = ", ".join(sorted(other)[:3])
            left = f"{len(other)} folders that are not classes of {name} are left out ({some})"
            warn(f"{source}: {left}")

    return read


def _by_synset(name: str, source: Path, entry: Entry) -> Picture | None:
    """A picture in the folder of its class, or with the class at the beginning of its name."""
    for text in (entry.path.parent.name, entry.path.name[:9]):
        part = parts_of(name).get(text) if _SYNSET.fullmatch(text) else None
        if part is not None:
            return part, text, _plain(entry.path.name, source), entry.data()
    return None


def _part_of_file(path: PurePosixPath) -> str | None:
    """The part in a name such as `mini-imagenet-cache-train.pkl` or `val_images_png.pkl`."""
    if path.suffix not in DIVIDED:
        return None
    # Other pictures of the training classes, which no protocol of tasks uses.
    if re.search(r"phase_(val|test)$", path.stem):
        return None
    match = re.search(r"(?:^|[-_])(train|val|test)(?:_images(?:_png)?|_labels)?$", path.stem)
    return match[1] if match else None


def _content(source: Path, entry: Entry) -> Any:
    where = f"{source}: {entry.path}"
    if entry.path.suffix != ".npz":
        with entry.open() as file:
            return read_pickle(file, where)
    try:
        # Never unpickled.
        with np.load(io.BytesIO(entry.data()), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays}
    except Exception as error:  # whatever a damaged archive leads to
        raise UserError(f"{where} is damaged, or holds more than numbers ({error})") from error
    return found


def _arrays(source: Path, part: str, content: Any) -> Iterator[Picture]:
    """Pictures of a dict of arrays, under the names that are in use."""
    try:
        images = _first(content, "images", "image_data", "features", "data")
        if "class_dict" in content:
            of = {i: name for name, members in content["class_dict"].items() for i in members}
            names = [str(of[i]) for i in range(len(images))]
        else:
            numbers = _first(content, "label_specific", "labels", "targets")
            known = content.get("label_specific_str", content.get("catname2label", {}))
            if isinstance(known, dict):
                known = {int(number): name for name, number in known.items()}
            else:
                known = dict(enumerate(known))
            names = [str(known.get(int(n), f"{part}-{int(n):03d}")) for n in numbers]
        if len(names) != len(images):
            raise ValueError(f"{len(images)} images with {len(names)} labels")
        for i, (label, image) in enumerate(zip(names, images, strict=True)):
            yield part, _plain(label, source), *_picture(i, image)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{source}: the {part} file holds no images with labels as they are passed on "
            f"({type(error).__name__}: {error}); use folders of pictures, one a class"
        ) from error


def _first(content: Any, *names: str) -> Any:
    for name in names:
        if name in content:
            return content[name]
    raise KeyError(" or ".join(names))


def _picture(number: int, image: Any) -> tuple[str, bytes | np.ndarray]:
    """File name and content: the bytes of a PNG or JPEG file, or pixels `[H, W, 3]`."""
    image = np.frombuffer(image, np.uint8) if isinstance(image, bytes) else np.asarray(image)
    if image.ndim == 1 and image.dtype == np.uint8:
        data = image.tobytes()
        for start, ending in ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg")):
            if data.startswith(start):
                return f"{number:06d}.{ending}", data
        raise ValueError("bytes that are neither PNG nor JPEG")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image of shape {image.shape}")
    if image.dtype != np.uint8:
        if image.min() < 0 or image.max() > 255 or not np.array_equal(image, np.round(image)):
            raise ValueError("pixels that are not bytes, 0 to 255")
        image = image.astype(np.uint8)
    return f"{number:06d}.png", image


# ---- CUB


def cub(source: Path, warn: Warn) -> Iterator[Picture]:
    """CUB-200-2011: 100 / 50 / 50 birds."""
    found = False
    for entry in entries(find_source(source, (CUB.name, CUB.folder)), warn):
        match = re.fullmatch(r"(\d{3})\.\w+", entry.path.parent.name)
        if match is None or not is_picture(entry.path.name) or "segmentations" in entry.path.parts:
            continue
        found = True
        label = _plain(entry.path.parent.name, source)
        part = cub_part(int(match[1]) - 1)
        yield part, label, _plain(entry.path.name, source), entry.data()
    if not found:
        raise UserError(
            f"{source} has no folders such as 001.Black_footed_Albatross: give {CUB.name}, or "
            "the folder with what is in it"
        )


READERS: dict[str, Callable[[Path, Warn], Iterator[Picture]]] = {
    "cifar-fs": cifar_fs,
    "fc100": fc100,
    "mini-imagenet": _imagenet("mini-imagenet"),
    "tiered-imagenet": _imagenet("tiered-imagenet"),
    "cub": cub,
}
