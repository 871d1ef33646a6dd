"""Trials of reports about folders of pictures, and about what is in a picture."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

import innerloop
from innerloop.data import available_splits, folder, from_arrays, load, split_classes
from research.reports.trial import classes, noise, refused, save, trial, warned

RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))


@trial(
    "folders of 10, 12 and 16-bit PNG and of int32 TIFF ramps",
    "scaled by the range of all pictures; where that is not clear, a warning names it",
)
def deep_integers(root: Path) -> None:
    for white, dtype in ((1023, np.uint16), (4095, np.uint16), (65535, np.uint16), (255, np.int32)):
        place = root / f"{white}-{dtype.__name__}"
        for name in "ab":
            pixels = (RAMP * white).round() if name == "a" else (RAMP.T * white).round()
            save(place / name / "1.tif", pixels.astype(dtype))
        with warned("is taken for white") if white != 65535 else nullcontext():
            data = folder(place)
        assert len(np.unique(data.images)) == 16
        assert int(data.images.max()) == 255


@trial(
    "floating-point TIFF of 0..1, and of 0..4095 with `white=4095`",
    "255 steps of grey, the same for both",
)
def deep_floats(root: Path) -> None:
    for name, picture in (("a", RAMP), ("b", RAMP.T)):
        save(root / "one" / name / "1.tif", picture.astype(np.float32))
        save(root / "many" / name / "1.tif", (picture * 4095).astype(np.float32))
    one, many = folder(root / "one"), folder(root / "many", white=4095)
    assert int(np.abs(one.images.astype(int) - many.images).max()) <= 1
    assert len(np.unique(one.images)) == 16


@trial(
    "12-bit pictures learnt by `FewShotClassifier`, then a dark one told",
    "white is found in the support set and kept for `predict` (was: each by its own range)",
)
def deep_one_by_one(root: Path) -> None:
    files = [
        save(root / f"{i}.png", (k * 4095).astype(np.uint16)) for i, k in enumerate(_strokes())
    ]
    with warned("4,095 is taken for white"):
        classifier = innerloop.FewShotClassifier(ink="light").fit(files, ["across", "down"])
    assert classifier.white_ == 4095
    dark = save(root / "dark.png", (_strokes()[0] * 900).astype(np.uint16))
    bright = innerloop.FewShotClassifier(ink="light").fit(np.stack(_strokes()), ["across", "down"])
    found, expected = (
        classifier.predict_proba(dark),
        bright.predict_proba(_strokes()[0] * 900 / 4095),
    )
    assert np.abs(found - expected).max() < 0.05


def _strokes() -> tuple[np.ndarray, np.ndarray]:
    stroke = np.zeros((28, 28))
    stroke[12:15, 4:24] = 1
    return stroke, stroke.T


@trial(
    "`from_arrays` on float pictures of 0..255, flat ones too; int64 and uint16 pictures",
    "a warning with the range and what to divide by (was: nothing said)",
)
def wide_arrays(root: Path) -> None:
    y = np.arange(12) % 3
    pixels = np.stack([noise(i) for i in range(12)])
    for X in (pixels.astype(np.float32), pixels[..., 0].reshape(12, -1).astype(float)):
        with warned("0 to 255 stay as they are", "divide by 255"):
            from_arrays(X, y)
    for dtype in (np.int64, np.uint16):
        with warned("stay integers, which no convolution takes"):
            from_arrays(pixels.astype(dtype), y, images=True)


@trial(
    "`FewShotClassifier` on values of 0..255 as float, of 0..1000 as integers",
    "an error with the range, what to divide by, and `white=`, which takes them",
)
def wide_values(root: Path) -> None:
    strokes = np.stack(_strokes())
    for X, white in ((strokes * 255, 255), ((strokes * 1000).astype(int), 1023)):
        with refused(f"divide by {white}, or say white={white}"):
            innerloop.FewShotClassifier().fit(X, ["a", "b"])
        innerloop.FewShotClassifier(white=white).fit(X, ["a", "b"])


@trial("a folder of label maps, values 4 to 30", "a warning: nearly black, 255 is white")
def label_maps(root: Path) -> None:
    for i, name in enumerate("ab"):
        save(root / name / "1.png", (noise(i, (12, 12)) % 27 + 4).astype(np.uint8))
    with warned("nearly black"):
        folder(root)


@trial("floats such as 0.9999 given as pixels", "rounded: 255, not 254")
def rounding(root: Path) -> None:
    from innerloop.data.depth import as_bytes

    assert as_bytes(np.array([0.0, 0.9999, 1.0])).tolist() == [0, 255, 255]


@trial("photographs with each of the EXIF orientations 1 to 8", "upright, as viewers show them")
def orientation(root: Path) -> None:
    from PIL import ImageOps

    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        file = save(root / "a" / f"{value}.png", noise(value, (12, 20, 3)), exif=exif)
    save(root / "b" / "1.png", noise(9, (20, 12, 3)))
    data = folder(root, image_size=20)
    for row, value in zip(data.class_images(0), range(1, 9), strict=True):
        with Image.open(file.with_name(f"{value}.png")) as picture:
            seen = ImageOps.exif_transpose(picture).resize((20, 20), Image.Resampling.LANCZOS)
        assert (row == np.asarray(seen).transpose(2, 0, 1)).all()


@trial(
    "PNG with opacity, a palette with a clear colour, RGB and grey with a colour key",
    "clear parts are white paper; black where a white drawing would vanish",
)
def transparency(root: Path) -> None:
    drawing = Image.new("RGBA", (12, 12), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (2, 2, 6, 6))
    light = Image.new("RGBA", (12, 12), (0, 0, 0, 0))
    light.paste((255, 255, 255, 255), (2, 2, 6, 6))
    save(root / "a" / "rgba.png", drawing)
    keyed = Image.new("RGB", (12, 12), (9, 9, 9))
    keyed.paste((0, 0, 0), (2, 2, 6, 6))
    save(root / "a" / "key.png", keyed, transparency=(9, 9, 9))
    palette = Image.new("P", (12, 12), 0)
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.paste(1, (2, 2, 6, 6))
    save(root / "a" / "palette.png", palette, transparency=0)
    save(root / "b" / "light.png", light)
    with warned("twice in a class"):
        data = folder(root)
    for image in data.class_images(0):
        assert image[0, 0, 0] == 255
        assert image[0, 3, 3] == 0
    assert data.class_images(1)[0, 0, 0, 0] == 0


@trial("CMYK and YCCK JPEG, RGBA PNG, grey and palette in one folder", "all read as RGB")
def modes(root: Path) -> None:
    for i, mode in enumerate(("CMYK", "L", "RGB")):
        save(root / "a" / f"{i}.jpg", Image.fromarray(noise(i)).convert(mode))
    for i, mode in enumerate(("RGBA", "P", "LA", "1")):
        save(root / "b" / f"{i}.png", Image.fromarray(noise(9 + i)).convert(mode))
    data = folder(root)
    assert data.image_shape == (3, 16, 16)
    assert data.counts.tolist() == [3, 4]


@trial(
    "`.ipynb_checkpoints`, `.DS_Store`, `._1.png` and `Thumbs.db` between the classes",
    "hidden files and folders are no classes and no pictures",
)
def hidden(root: Path) -> None:
    classes(root)
    save(root / ".ipynb_checkpoints" / "1.png", noise(77))
    for name in (".DS_Store", "cat/.DS_Store", "cat/._0.png", "dog/._1.png"):
        (root / name).write_bytes(b"\0\5\x16\7Mac OS X")
    data = folder(root)
    assert list(data.names) == ["cat", "dog", "owl"]
    assert data.counts.tolist() == [3, 3, 3]


@trial("an empty class folder", "left out with a warning that names it")
def empty_class(root: Path) -> None:
    (classes(root) / "phone").mkdir()
    with warned("without pictures", "phone"):
        data = folder(root)
    assert list(data.names) == ["cat", "dog", "owl"]


@trial(
    "a picture cut short, and one that is none",
    "refused by name with the way out; `skip_broken` leaves it out and says so",
)
def cut_short(root: Path) -> None:
    whole = save(classes(root) / "cat" / "long.jpg", noise(5, (64, 64, 3))).read_bytes()
    (root / "cat" / "long.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "page.png").write_bytes(b"<!DOCTYPE html>")
    with refused("cannot be read as a picture", "--skip-broken"):
        folder(root)
    with warned("2 pictures that cannot be read, left out"):
        data = folder(root, skip_broken=True)
    assert data.counts.tolist() == [3, 3, 3]


@trial(
    "`.JPG`, `.Jpeg`, `.jfif`; then `.HEIC` and `.svg` beside them",
    "the first are read; the others counted in a warning with what to do",
)
def endings(root: Path) -> None:
    classes(root)
    for i, ending in enumerate((".JPG", ".Jpeg", ".jfif", ".PNG")):
        save(root / "cat" / f"more{ending}", noise(50 + i), format="JPEG" if i < 3 else "PNG")
    for name in ("1.HEIC", "2.svg"):
        (root / "dog" / name).write_bytes(b"x")
    with warned("2 files of kinds that are not read", ".heic"):
        data = folder(root)
    assert data.counts.tolist() == [7, 3, 3]


@trial(
    "all pictures in one flat folder; a folder with none; one picture in place of a folder",
    "refused with the layouts, or the kinds, that are read",
)
def no_classes(root: Path) -> None:
    for k in range(3):
        save(root / "flat" / f"{k}.png", noise(k))
    (root / "empty").mkdir()
    (root / "texts" / "a").mkdir(parents=True)
    (root / "texts" / "a" / "1.txt").write_text("x")
    for place in ("flat", "empty", "texts"):
        with refused(place):
            folder(root / place)
    with refused("one picture, not a folder"):
        folder(root / "flat" / "0.png")


@trial("classes named 1, 2, 10, 100", "a name stays the class's name, whatever its number is")
def numbers_as_names(root: Path) -> None:
    data = folder(classes(root, "1 2 10 100"))
    assert sorted(data.names, key=int) == ["1", "2", "10", "100"]
    for name in data.names:
        images = data.class_images(data.names.index(name))
        with Image.open(root / name / "0.png") as picture:
            assert (images[0] == np.asarray(picture).transpose(2, 0, 1)).all()


@trial("one picture in two classes, and twice in one", "two warnings with the names of the files")
def duplicates(root: Path) -> None:
    classes(root)
    save(root / "dog" / "copy.bmp", noise(0))
    save(root / "owl" / "copy.png", noise(200))
    with warned("that another class has", "cat/0.png and dog/copy.bmp"):
        folder(root)
    with warned("twice in a class", "owl/0.png and owl/copy.png"):
        folder(root)


@trial("paths that begin with `~`", "home, in Python and on the command line")
def tilde(root: Path) -> None:
    classes(root / "pictures")
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(root)
    try:
        assert folder("~/pictures").num_classes == load("~/pictures").num_classes == 3
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


@trial("folders `train`, `val`, `test`, each with classes of its own", "they are the split")
def parts_as_folders(root: Path) -> None:
    for i, (part, names) in enumerate({"train": "a b c d", "valid": "e f", "test": "g h"}.items()):
        classes(root / part, names, first=1000 * i)
    data = folder(root)
    assert available_splits(data)[0] == "folders"
    split = split_classes(data)
    found = {part: "".join(data.names[i] for i in split[part]) for part in split}
    assert found == {"train": "abcd", "val": "ef", "test": "gh"}


@trial(
    "the same classes in `train` and `test`, as for supervised learning",
    "put together with a warning, and the classes divided anew",
)
def same_classes(root: Path) -> None:
    for i, part in enumerate(("train", "test")):
        classes(root / part, "a b c d e", first=1000 * i)
    with warned("have the same 5 classes"):
        data = folder(root)
    assert data.counts.tolist() == [6] * 5
    split = split_classes(data)
    assert not set(split["train"]) & set(split["test"])


@trial("a tree of two levels, like Omniglot's", "the upper level is the group of its classes")
def two_levels(root: Path) -> None:
    for i, group in enumerate(("Greek", "Latin")):
        classes(root / group, "a b", first=1000 * i)
    data = folder(root)
    assert list(data.names) == ["Greek/a", "Greek/b", "Latin/a", "Latin/b"]
    assert list(data.groups) == ["Greek", "Greek", "Latin", "Latin"]


@trial(
    "mini-ImageNet's pickle that is not there, and one that is a web page",
    "named, with what to type; nothing is unpickled",
)
def pickles(root: Path) -> None:
    with refused("does not exist" if os.name == "posix" else "", "mini-imagenet-cache-train.pkl"):
        folder(root / "mini-imagenet-cache-train.pkl")
    (root / "mini-imagenet-cache-train.pkl").write_bytes(b"<!DOCTYPE html><html>")
    with refused("innerloop data prepare mini-imagenet --source"):
        folder(root)
    from innerloop.data.known.prepare import prepare

    with refused("mini-imagenet-cache-train.pkl", "fetch it again"):
        prepare("mini-imagenet", root, root / "out")


@trial("`.npy` and `.npz` files of objects, as `numpy.save` writes lists of arrays", "refused")
def objects(root: Path) -> None:
    np.save(root / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    np.savez(root / "b.npz", a=np.zeros(3))
    with refused("a.npy", "numpy.save"):
        folder(root / "a.npy")
    with refused("b.npz", "from_arrays"):
        folder(root / "b.npz")
