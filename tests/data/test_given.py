"""One picture in every form that people have it in is one picture."""

from __future__ import annotations

import re

import numpy as np
import PIL.Image
import pytest
import torch
from PIL import Image, ImageOps

import innerloop
from innerloop import UserError
from innerloop.data.given import are_pictures, each_as_bytes, each_picture, image_bytes, white_in
from innerloop.data.ink_warnings import warn_of_other_ink
from innerloop.data.pictures import is_grey

H, W = 10, 14


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, H, W, 3), dtype=np.uint8)


def found(X):
    return [np.asarray(picture.rgb()) for picture in each_picture(X)]


def turned(picture, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def sixteen(picture, path):
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 256).save(path)
    return path


def test_every_form_of_colour_pictures(pixels, tmp_path):
    pictures = [Image.fromarray(x) for x in pixels]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    forms = {
        "channels last": pixels,
        "channels first": pixels.transpose(0, 3, 1, 2),
        "real": pixels / 255,
        "list": pixels.tolist(),
        "tensor": torch.from_numpy(pixels),
        "list of arrays": list(pixels),
        "list of tensors": list(torch.from_numpy(pixels)),
        "PIL": pictures,
        "paths": paths,
        "text": [str(path) for path in paths],
        "RGBA": [picture.convert("RGBA") for picture in pictures],
        "opaque array": np.concatenate([pixels, np.full((3, H, W, 1), 255, np.uint8)], axis=-1),
        "turned": [turned(p, tmp_path / f"turned{i}.png") for i, p in enumerate(pictures)],
        "mixed": [pictures[0], paths[1], pixels[2].transpose(2, 0, 1)],
    }
    for name, X in forms.items():
        for a, b in zip(found(X), pixels, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_grey_palette_sixteen_bits_and_clear_ones(pixels, tmp_path):
    grey = Image.fromarray(pixels[0]).convert("L")
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
    for X in (np.asarray(grey)[None], [grey], [sixteen(grey, tmp_path / "16.png")]):
        np.testing.assert_array_equal(found(X)[0], expected)
    square = np.asarray(grey.resize((12, 12)))
    np.testing.assert_array_equal(found(square.reshape(1, -1))[0][..., 0], square)
    palette = Image.fromarray(pixels[0]).quantize(8)
    np.testing.assert_array_equal(found([palette])[0], np.asarray(palette.convert("RGB")))
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (found([clear])[0] == 255).all()


def test_arrays_of_different_sizes(pixels):
    X = [pixels[0], pixels[1][:5], pixels[2][:, :6, 0]]
    assert are_pictures(X)
    assert not are_pictures(list(pixels))
    assert [x.shape for x in found(X)] == [(H, W, 3), (5, W, 3), (H, 6, 3)]
    assert [x.shape for x in each_as_bytes(X, 3)] == [(3, H, W), (3, 5, W), (3, H, 6)]


def test_the_digest_is_of_what_is_seen(pixels):
    pictures = [Image.fromarray(x) for x in pixels]
    digests = [picture.digest for picture in each_picture(pixels)]
    assert [picture.digest for picture in each_picture(pictures)] == digests
    assert len(set(digests)) == 3
    palette = pictures[0].quantize(8)
    other = palette.copy()
    other.putpalette([255 - v for v in palette.getpalette()])
    clear = palette.copy()
    clear.info["transparency"] = 0
    turned = pictures[0].copy()
    turned.getexif()[0x0112] = 3
    kinds = [palette, other, clear, turned, pictures[0], pictures[0].resize((W, H + 1))]
    assert len({picture.digest for picture in each_picture(kinds)}) == len(kinds)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 5, 6, 7)), r"shape \(2, 5, 6, 7\) holds no pictures"),
        (np.zeros((2, 0, 6, 3)), "holds no pictures"),
        (np.zeros(4), "holds no pictures"),
        (np.zeros((2, 50)), "are not square"),
        (np.full((1, 4, 4), 300), "integers 0 to 255"),
        (["nowhere.png"], "nowhere.png cannot be read"),
        ([__file__], "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_named(X, message):
    with pytest.raises(UserError, match=message):
        found(X)


@pytest.mark.parametrize("read", [found, white_in, lambda X: list(each_as_bytes(X, 3))])
def test_pictures_that_were_closed_are_named(read, pixels, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file in files:
        Image.fromarray(pixels[0].astype(np.uint16)[..., 0]).save(file)
    with Image.open(files[0]) as left:
        pass
    closed = Image.open(files[1])
    closed.close()
    with files[2].open("rb") as file:
        lost = Image.open(file)
    files[3].write_bytes(files[3].read_bytes()[:-30])
    with Image.open(files[3]) as cut:
        for picture in (left, closed, lost, cut):
            with pytest.raises(UserError, match=r"picture 0 cannot be read .*: give its path, or"):
                read([picture])


def drawing(mode):
    """A red square on a white ground, or a transparent one of the same colour."""
    picture = Image.new(mode, (W, H), "white" if mode == "RGB" else (255, 0, 0, 0))
    picture.paste("red", (3, 3, 7, 7))
    return picture


def palette():
    picture = drawing("RGBA").quantize(4)
    assert picture.mode == "P"
    assert picture.has_transparency_data
    return picture


@pytest.mark.parametrize("form", ["PIL", "path", "list of arrays", "channels first"])
@pytest.mark.parametrize(
    "made",
    [lambda: drawing("RGB"), lambda: drawing("RGBA"), palette],
    ids=["opaque", "clear", "palette"],
)
def test_the_way_out_of_colour_keeps_a_drawing(made, form, tmp_path):
    picture = made()
    if form.endswith(("arrays", "first")):
        x = np.asarray(picture if picture.mode != "P" else picture.convert("RGBA"))
        x = x.transpose(2, 0, 1) if form == "channels first" else x
    else:
        x = picture if form == "PIL" else tmp_path / "a.png"
        picture.save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"has colour, .* make it grey, ") as error:
        list(each_as_bytes([x], 1))
    (way,) = re.findall("make it grey, (.*), or train on colour", str(error.value))
    grey = eval(way, {"PIL": PIL, "picture": x, "path": x, "x": x})
    (found,) = each_as_bytes([grey], 1)
    # Something darker on lighter paper, where it was.
    assert found[0, 4, 4] < found[0, 0, 0] - 100
    assert (found[0] < found[0, 0, 0]).sum() == 16


@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 1), ("RGBA", 3)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_way_out_of_arrays_with_opacity_keeps_drawings(mode, channels, count, first):
    X = np.stack([np.asarray(drawing("RGBA").convert(mode))] * count)
    X = X.transpose(0, 3, 1, 2) if first else X
    with pytest.raises(UserError, match=r": give a list of pictures, \[") as error:
        image_bytes(X, (channels, H, W))
    (way,) = re.findall(r"pictures, (\[.*\])", str(error.value))
    found = list(each_as_bytes(eval(way, {"PIL": PIL, "X": X}), channels))
    assert len(found) == count
    assert found[0].shape == (channels, H, W)
    assert (found[0] < 255).any(axis=0).sum() == 16
    with pytest.raises(UserError, match=r"where X is bytes"):
        image_bytes(X / 255, (channels, H, W))


@pytest.mark.parametrize("form", ["PIL", "path"])
@pytest.mark.parametrize("ink", ["black", "white"])
def test_the_way_to_invert_keeps_a_drawing_on_transparent_ground(ink, form, tmp_path):
    picture = Image.new("RGBA", (W, H), (0, 0, 0, 0))
    picture.paste(ink, (3, 3, 7, 7))
    picture.save(tmp_path / "a.png")
    x = picture if form == "PIL" else tmp_path / "a.png"
    (before,) = each_as_bytes([x], 1)
    name = "X[0]" if form == "PIL" else str(x)
    other = "light" if ink == "black" else "dark"
    with pytest.warns(UserWarning, match="invert them") as said:
        warn_of_other_ink(before[None], [H * W], other, [name])
    text = str(said[0].message)
    if form == "path":
        (way,) = re.findall(r"files: (.*)\)$", text)
        after = eval(way, {"innerloop": innerloop, "path": x})
    else:
        assert "bytes: 255 - X, numbers up to 1: 1 - X, " in text
        after = ImageOps.invert(innerloop.data.pictures.rgb_picture(x, "x"))
        assert "PIL.ImageOps.invert of innerloop.data.pictures.rgb_picture(x, 'x'))" in text
    (found,) = each_as_bytes([after], 1)
    assert (found == 255 - before).all()


def test_a_column_of_arrays_is_a_list_of_pictures(pixels):
    """As a data frame has it; NumPy's message was that of a sequence in place of a number."""
    column = np.empty(len(pixels), object)
    for number, picture in enumerate(pixels):
        column[number] = picture
    assert are_pictures(column)
    np.testing.assert_array_equal(found(column), found(list(pixels)))
    # Numbers of Python in an array are one array.
    assert not are_pictures(pixels[..., 0].astype(object))


@pytest.mark.parametrize("ending", ["webp", "tif"])
def test_grey_that_its_format_rounds_is_no_colour(ending, pixels, tmp_path):
    """WebP and Lab give grey pixels channels that differ by 1."""
    grey = Image.fromarray(pixels[0]).convert("L").resize((56, 40), Image.Resampling.BICUBIC)
    path = tmp_path / f"1.{ending}"
    if ending == "tif":
        Image.merge("LAB", (grey, *[Image.new("L", grey.size, 128)] * 2)).save(path)
    else:
        grey.convert("RGB").save(path, quality=50)
    with Image.open(path) as picture:
        assert np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=2).max() == 1
    assert is_grey(path)
    (seen,) = each_as_bytes([path], 1)
    assert seen.shape == (1, 40, 56)
    tint = np.asarray(grey.convert("RGB")).clip(0, 252) + np.array([0, 0, 3], np.uint8)
    Image.fromarray(tint).save(tmp_path / "2.png")
    assert not is_grey(tmp_path / "2.png")
