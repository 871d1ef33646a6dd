"""One picture in every form that people have it in is one picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop import UserError
from innerloop.data.given import are_pictures, each_as_bytes, each_picture, white_in

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
