"""Pictures and arrays of any range of values."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from innerloop.data import folder, from_arrays
from innerloop.data.depth import WHITES, as_bytes, shared_white, white_of
from innerloop.data.pictures import is_grey, read_picture
from innerloop.errors import UserError

RAMP = np.tile(np.arange(40), (40, 1))


def save(root, arrays):
    """Deep pictures, one a class."""
    for name, array in arrays.items():
        (root / name).mkdir(parents=True)
        kind = "png" if array.dtype == np.uint16 else "tif"
        Image.fromarray(array).save(root / name / f"1.{kind}")
    return root


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("white", WHITES)
@pytest.mark.usefixtures("home")
def test_the_range_of_all_pictures_counts(tmp_path, dtype, white):
    """A dark picture stays dark beside a bright one, and no shade is lost."""
    bright = (RAMP * white / 39).round().astype(dtype)
    root = save(tmp_path, {"a": bright, "b": (RAMP.T * white / 390).astype(dtype)})
    if white == WHITES[-1]:
        data = folder(root)
    else:
        with pytest.warns(UserWarning, match=f"up to {white:,}: {white:,} is taken for white"):
            data = folder(root)
    assert data.image_shape == (1, 40, 40)
    assert len(np.unique(data.images[0])) == 40
    assert data.images[0].max() == 255
    assert data.images[1].max() in (25, 26)


@pytest.mark.usefixtures("home")
def test_floating_point_pictures_and_a_white_of_ones_own(tmp_path):
    root = save(tmp_path / "unit", {"a": (RAMP / 39).astype(np.float32)})
    assert folder(root).images.max() == 255
    deep = save(tmp_path / "deep", {"a": (RAMP * 100).astype(np.uint16)})
    assert folder(deep, white=10_000).images.max() == 99
    with pytest.warns(UserWarning, match="largest value in all pictures is 15"):
        assert folder(deep, white=65535).images.max() == 15
    with pytest.raises(UserError, match="values of 0 to 3900, and white is 1000"):
        folder(deep, white=1000)
    with pytest.raises(UserError, match="white must be greater than 0"):
        folder(deep, white=0)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (-1.0, r"1\.tif has values below 0"),
        (np.nan, r"1\.tif has values that are not finite"),
        (1e6, r"1\.tif has values up to 1e\+06, more than 16 bits hold.*white="),
    ],
)
def test_values_that_are_no_brightness_are_refused(tmp_path, values, message):
    array = RAMP.astype(np.float32)
    array[0, 0] = values
    with pytest.raises(UserError, match=message):
        folder(save(tmp_path, {"a": array}))


@given(st.floats(0, 65535), st.booleans())
def test_white_holds_every_value(high, whole):
    high = round(high) if whole else high
    white = white_of(0, high, whole, "x")
    assert high <= white * 1.0001
    smaller = [w for w in ((1, *WHITES) if not whole else WHITES) if w < white]
    assert all(high > w for w in smaller)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_a_white_that_no_value_can_have_is_refused(dtype):
    """White of 16 bits with bytes would make all of them nearly black."""
    most = np.iinfo(dtype).max
    X = np.full((2, 3), most // 3, dtype)
    with pytest.raises(UserError, match=f"white is .*{dtype} holds {most} at most: leave out"):
        as_bytes(X, white=most + 1)
    assert as_bytes(X, white=most).max() == most // 3 * 256 // (most + 1)


@pytest.mark.parametrize(
    ("X", "white"),
    [
        (np.linspace(0, 1, 9, dtype=np.float32), 255),
        (np.linspace(0, 1, 9), 65535),
        (np.arange(256), 65535),
        (np.arange(256, dtype=np.uint16), 65535),
    ],
)
def test_a_white_that_makes_all_values_black_is_a_warning(X, white):
    with pytest.warns(UserWarning, match="all are nearly black"):
        as_bytes(X, white=white)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_bytes(X, white=X.max())
        as_bytes(0 * X, white=white)


def test_values_below_black_are_said_to_be_so():
    with pytest.raises(UserError, match="values of -1 to 1, and 0 is black"):
        as_bytes(np.array([-1.0, 1.0]), white=10)


@given(st.sampled_from(["uint8", "int64", "float32", "float64", "bool"]), st.integers(0, 9))
def test_bytes_of_an_array_keep_its_order(dtype, seed):
    values = np.random.default_rng(seed).integers(0, 256, 50)
    values[:2] = 0, 255
    X = values / 255 if dtype.startswith("float") else values > 127 if dtype == "bool" else values
    X = X.astype(dtype)
    found = as_bytes(X)
    assert found.dtype == np.uint8
    expected = np.where(values > 127, 255, 0) if dtype == "bool" else values
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("X", "way"),
    [
        (np.array([0, 4000], np.uint16), "divide by 4095"),
        (np.array([0.0, 255.0]), "divide by 255"),
        (np.array([0.0, 16.0]), "white=16 if the brightest"),
        (np.array([-2.1, 2.6]), "before they are normalised"),
        (np.array([0.0, np.inf]), "nan_to_num"),
        (np.array([0, 10**7]), "divide by the value of white"),
    ],
)
def test_other_ranges_are_refused_with_a_way_out(X, way):
    with pytest.raises(UserError, match=way):
        as_bytes(X)


def test_rounding_beyond_the_range_is_forgiven_and_ones_are_doubtful():
    np.testing.assert_array_equal(as_bytes(np.array([-1e-7, 1 + 1e-7])), [0, 255])
    with pytest.warns(UserWarning, match="largest of these pixels is 1"):
        as_bytes(np.array([0, 1], np.uint8))


def test_palette_cmyk_orientation_and_profiles(tmp_path):
    """As Pillow shows them: colours of a palette and of print, the profile not applied."""
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, :4] = (200, 30, 90)
    picture = Image.fromarray(colours)
    expected = colours.transpose(2, 0, 1)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    variants = {
        "palette.png": picture.quantize(2),
        "palette.gif": picture.quantize(2),
        "print.tif": picture.convert("CMYK"),
    }
    for name, variant in variants.items():
        variant.save(tmp_path / name)
    picture.save(tmp_path / "profile.png", icc_profile=profile)
    for name in (*variants, "profile.png"):
        found = read_picture(tmp_path / name, 3, None)
        assert np.abs(found.astype(int) - expected).max() <= 3, name
        assert not is_grey(tmp_path / name)
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = np.rot90(expected, -1, axes=(1, 2))
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png", 3, None), turned)


def test_netpbm_is_read(tmp_path):
    """The format of old sets of faces."""
    for name, array in (("8.pgm", RAMP.astype(np.uint8)), ("16.pgm", RAMP.astype(np.uint16) * 900)):
        Image.fromarray(array).save(tmp_path / name)
        found = read_picture(tmp_path / name, 1, None)
        assert len(np.unique(found)) == 40
    buffer = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint8)).convert("RGB").save(buffer, "PPM")
    (tmp_path / "a.ppm").write_bytes(buffer.getvalue())
    assert is_grey(tmp_path / "a.ppm")


BYTES = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8))


@pytest.mark.parametrize(
    ("X", "images", "said"),
    [
        (BYTES.astype(float), None, "0 to 255 stay as they are.*divide by 255, or give uint8"),
        (BYTES.astype(np.float32), True, "divide by 255, or give uint8"),
        (BYTES[:, 0].astype(float), None, "divide by 255"),
        (BYTES[:, 0].reshape(12, -1).astype(float), None, "divide by 255;"),
        (BYTES * 16.0, True, "divide by 4095;"),
        (BYTES, True, "int64 stay integers, which no convolution takes"),
        ((BYTES * 257).astype(np.uint16), True, "divide by 65535"),
        (BYTES - 123.0, True, "stay as they are.*: scale them$"),
        (BYTES * 1e6, True, "divide by the value of white"),
    ],
)
def test_an_array_whose_range_looks_wrong_is_a_warning(X, images, said):
    with pytest.warns(UserWarning, match=said):
        from_arrays(X, np.arange(12) % 3, images=images)


@pytest.mark.parametrize(
    ("X", "images"),
    [
        (BYTES / 255, None),
        (BYTES / 255, True),
        ((BYTES / 255 - 0.5) / 0.2, True),
        (BYTES.astype(float), False),
        (BYTES, None),
        (BYTES[:, 0].reshape(12, -1)[:, :60].astype(float), None),
        (BYTES[:, 0].reshape(12, -1) + 0.5, None),
        (BYTES.reshape(12, 24, 8).astype(float), None),
    ],
)
def test_nothing_is_said_of_images_in_range_and_of_what_is_no_image(X, images):
    from_arrays(X, np.arange(12) % 3, images=images)


@given(
    st.sampled_from(WHITES),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
    st.sampled_from([np.uint16, np.int32, np.float32]),
)
def test_white_is_shared_by_all_pictures(white, shares, dtype):
    """Whatever its own range, each picture is scaled by the range of all."""
    deep = []
    for number, share in enumerate([1.0, *shares]):
        high = np.array(share * white).astype(dtype)
        deep.append((f"picture {number}", 0.0, float(high), dtype != np.float32))
    found, said = shared_white(deep)
    assert found == white
    assert bool(said) == (white != WHITES[-1])
    assert shared_white(deep, 7.0) == (7.0, "")
    assert shared_white([]) == (None, "")
