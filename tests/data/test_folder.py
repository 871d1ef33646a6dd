"""People's own pictures, in every layout and format."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from innerloop.data import folder, load
from innerloop.data.folder import folder as folder_function
from innerloop.data.layouts import find_layout
from innerloop.data.pictures import picture_size, read_picture
from innerloop.errors import UserError

pytestmark = [
    pytest.mark.usefixtures("home"),
    # Made for size, format and order; `test_remarks.py` is about what is said of content.
    pytest.mark.filterwarnings(
        "ignore:.*(one colour only|that another class has|twice in a class)"
    ),
]


def paint(path: Path, size=(20, 20), mode="RGB", seed=0, **options) -> Path:
    """Save a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "RGBA": (4,), "LA": (2,)}.get(mode, ())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def paint_flat(path: Path, colour, size=(20, 20), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def test_ragged_classes_of_colour_pictures(tmp_path):
    for number, count in enumerate((3, 1, 5)):
        for image in range(count):
            paint(tmp_path / "pets" / "cdb"[number] / f"{image}.png", seed=10 * number + image)
    data = folder(tmp_path / "pets")
    assert data.name == "pets"
    assert data.names == ["b", "c", "d"]
    assert data.counts.tolist() == [5, 3, 1]
    assert data.starts.tolist() == [0, 5, 8]
    assert data.image_shape == (3, 20, 20)
    assert isinstance(data.images, np.memmap)
    assert not data.dark_ink
    assert data.splits == {}
    assert set(data.groups) == {""}
    expected = np.asarray(Image.open(tmp_path / "pets" / "c" / "2.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(data.class_images(1)[2], expected)


def test_every_common_format(tmp_path):
    for ending in ("png", "jpg", "JPEG", "bmp", "gif", "tif", "TIFF", "webp"):
        paint_flat(tmp_path / ending / f"a.{ending}", (200, 30, 90))
    data = folder(tmp_path)
    assert data.num_classes == 8
    for image in data.images:
        assert np.abs(image.mean(axis=(1, 2)) - (200, 30, 90)).max() < 12


@pytest.mark.parametrize(("paper", "ink", "dark"), [(240, 10, True), (10, 240, False)])
def test_grey_is_found_by_itself_whatever_the_format(tmp_path, paper, ink, dark):
    for name, mode in (("a", "L"), ("b", "RGB"), ("c", "P"), ("d", "RGBA"), ("e", "1")):
        picture = Image.new("L", (24, 24), paper)
        picture.paste(ink, (8, 8, 16, 16))
        (tmp_path / name).mkdir()
        picture.convert(mode, dither=Image.Dither.NONE).save(tmp_path / name / "1.png")
    data = folder(tmp_path)
    assert data.image_shape == (1, 24, 24)
    assert data.dark_ink is dark
    assert data.images[1, 0, 0, 0] == paper
    assert data.images[2, 0, 12, 12] == ink
    assert folder(tmp_path, channels=3).image_shape == (3, 24, 24)


def test_one_coloured_picture_makes_colour(tmp_path):
    paint_flat(tmp_path / "a" / "1.png", 100, mode="L")
    paint_flat(tmp_path / "b" / "1.png", (100, 100, 102))
    data = folder(tmp_path)
    assert data.image_shape == (3, 20, 20)
    assert folder(tmp_path, channels=1).image_shape == (1, 20, 20)


def test_sizes(tmp_path):
    for name, size, mode in (
        ("small", (84, 60), "RGB"),
        ("large", (85, 60), "RGB"),
        ("grey", (105, 105), "L"),
    ):
        for number in "01":
            paint(tmp_path / name / number / "1.png", size, mode)
    paint(tmp_path / "mixed" / "0" / "1.png", (20, 20))
    paint(tmp_path / "mixed" / "1" / "1.png", (20, 21))
    assert folder(tmp_path / "small").image_shape == (3, 60, 84)
    assert folder(tmp_path / "large").image_shape == (3, 84, 84)
    assert folder(tmp_path / "mixed").image_shape == (3, 84, 84)
    assert folder(tmp_path / "grey").image_shape == (1, 28, 28)
    assert folder(tmp_path / "grey", image_size=32).image_shape == (1, 32, 32)
    assert load(str(tmp_path / "small"), image_size=16).image_shape == (3, 16, 16)
    for wrong in (0, -1, 100_000):
        with pytest.raises(UserError, match="image_size"):
            folder(tmp_path / "grey", image_size=wrong)
    with pytest.raises(UserError, match="channels"):
        folder(tmp_path / "grey", channels=4)


def test_photographs_are_turned_as_they_were_taken(tmp_path):
    picture = Image.new("RGB", (30, 20), "black")
    picture.paste((255, 0, 0), (0, 0, 30, 5))  # red on top, as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: red belongs to the right
    for name in "ab":
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "1.png", exif=exif)
    data = folder(tmp_path)
    assert data.image_shape == (3, 30, 20)
    assert (data.images[0, 0, :, 15:] == 255).all()
    assert (data.images[0, 0, :, :15] == 0).all()


def test_transparent_paper_is_white_and_sixteen_bits_are_scaled(tmp_path):
    paint_flat(tmp_path / "a" / "1.png", (0, 0, 0, 0), mode="RGBA")
    (tmp_path / "b").mkdir()
    Image.fromarray(np.full((20, 20), 0x8034, np.uint16)).save(tmp_path / "b" / "1.png")
    data = folder(tmp_path)
    assert data.image_shape == (1, 20, 20)
    assert (data.images[0] == 255).all()
    assert (data.images[1] == 0x80).all()


def test_nested_alphabets_become_groups(tmp_path):
    for name in ("Greek/beta", "Greek/alpha", "Latin/a", "loose"):
        paint(tmp_path / name / "1.png")
    data = folder(tmp_path)
    assert data.names == ["Greek/alpha", "Greek/beta", "Latin/a", "loose"]
    assert data.groups == ["Greek", "Greek", "Latin", ""]


def test_hidden_and_other_files_are_ignored(tmp_path):
    paint(tmp_path / "a" / "1.png")
    for name in ("a/._1.png", "a/.hidden.png", "a/notes.txt", ".git/x", "b/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 folder without pictures.*: b"):
        data = folder(tmp_path)
    assert data.names == ["a"]
    assert data.counts.tolist() == [1]


def sorted_walk(reverse: bool, walk=os.walk):
    """`os.walk` on a file system that lists names in this order."""

    def walk_sorted(top, **options):
        for place, folders, files in walk(top, **options):
            folders.sort(reverse=reverse)
            yield place, folders, sorted(files, reverse=reverse)

    return walk_sorted


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    for name in ("b/2", "a/1", "b/1", "a/2", "c/d/1", "c/a/1"):
        paint(tmp_path / f"{name}.png", seed=sum(name.encode()))
    monkeypatch.setattr(os, "walk", sorted_walk(False))
    first = folder(tmp_path)
    monkeypatch.setattr(os, "walk", sorted_walk(True))
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / ".elsewhere"))
    second = folder(tmp_path)
    assert second.names == first.names == ["a", "b", "c/a", "c/d"]
    np.testing.assert_array_equal(second.images, first.images)


def test_a_link_to_a_folder_above_ends(tmp_path):
    paint(tmp_path / "a" / "1.png")
    try:
        (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert folder(tmp_path).names == ["a"]


def test_a_linked_folder_counts_once_whatever_the_order(tmp_path, monkeypatch):
    paint(tmp_path / "pets" / "b" / "1.png")
    try:
        (tmp_path / "pets" / "a").symlink_to(tmp_path / "pets" / "b", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert folder(tmp_path / "pets").names == ["a"]
    for reverse in (False, True):
        monkeypatch.setattr(os, "walk", sorted_walk(reverse))
        assert list(find_layout(tmp_path / "pets").classes) == ["a"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    paint(tmp_path / "a" / "1.png")
    try:
        (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(UserError, match=r"gone\.png cannot be read.*replace or remove it"):
        folder(tmp_path)


def test_a_read_only_cache_can_be_used(tmp_path, monkeypatch):
    paint(tmp_path / "a" / "1.png")
    first = folder(tmp_path)
    monkeypatch.delattr(sys.modules[folder_function.__module__], "one_at_a_time")
    np.testing.assert_array_equal(folder(tmp_path).images, first.images)


def test_a_full_disk_leaves_earlier_results(tmp_path, home, monkeypatch):
    paint(tmp_path / "a" / "1.png")
    first = np.array(folder(tmp_path).images)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"images\.npy: No space left"):
            folder(tmp_path, image_size=8)
    np.testing.assert_array_equal(folder(tmp_path).images, first)
    assert len(list(home.rglob("*.npy"))) == 1


def test_prepared_once_and_again_after_a_change(tmp_path, monkeypatch):
    path = paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "1.png", seed=1)
    first = folder(tmp_path)
    module = sys.modules[folder_function.__module__]
    with monkeypatch.context() as patch:
        patch.delattr(module, "_prepare")
        np.testing.assert_array_equal(folder(tmp_path).images, first.images)
    before = path.stat()
    paint(path, seed=2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert not np.array_equal(folder(tmp_path).images[0], first.images[0])
    paint(tmp_path / "b" / "2.png", seed=3)
    assert folder(tmp_path).counts.tolist() == [1, 2]


@pytest.mark.parametrize("victim", ["images.npy", "index.json"])
def test_damaged_preparation_is_done_again(tmp_path, home, victim):
    paint(tmp_path / "pets" / "a" / "1.png")
    expected = np.array(folder(tmp_path / "pets").images)
    (file,) = (home / "folders").glob(f"*/{victim}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    np.testing.assert_array_equal(folder(tmp_path / "pets").images, expected)


def test_large_pictures_come_in_order(tmp_path):
    for number in range(6):
        paint(tmp_path / f"{number}" / "1.bmp", (120, 120), seed=number)
    data = folder(tmp_path)
    for number in range(6):
        picture = Image.open(tmp_path / f"{number}" / "1.bmp").resize((84, 84), 1)
        np.testing.assert_array_equal(data.images[number], np.asarray(picture).transpose(2, 0, 1))


def test_empty_and_loose_folders_get_a_hint(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no pictures.*folder of its own"):
        folder(tmp_path)
    loose = paint(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"not in folders.*folder of its own.*from_dataset\(files"):
        folder(tmp_path)
    paint(tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match=r"holds pictures .* and a folder of pictures .*unclear"):
        folder(tmp_path)
    loose.rename(tmp_path / "a" / "2.png")
    paint(tmp_path / "a" / "b" / "1.png")
    with pytest.raises(UserError, match=r"holds pictures .* and a folder of pictures .*unclear"):
        folder(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        folder(tmp_path / "a" / "1.png")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no picture at all", "half"])
def test_an_undecodable_picture_is_named(tmp_path, home, content):
    paint(tmp_path / "a" / "1.png")
    path = paint(tmp_path / "b" / "broken.png")
    path.write_bytes(path.read_bytes()[:600] if content == "half" else content)
    for options in ({}, {"channels": 3, "image_size": 20}):
        with pytest.raises(UserError, match=r"broken\.png cannot be read as a picture"):
            folder(tmp_path, **options)
    assert not list(home.rglob("*.npy"))


def test_whatever_the_decoder_raises_becomes_one_message(tmp_path, monkeypatch):
    path = paint(tmp_path / "1.png")

    def fail(picture):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    monkeypatch.setattr(Image.Image, "getexif", fail)
    for read in (lambda: read_picture(path, 3, None), lambda: picture_size(path)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value).count("1.png cannot be read as a picture") == 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    paint(tmp_path / "a" / "huge.png")
    with pytest.raises(UserError, match=r"huge\.png has far more pixels.*scale it down"):
        folder(tmp_path)


@pytest.mark.parametrize("light", [255, 245])
def test_a_light_drawing_on_transparent_paper_is_not_blank(tmp_path, light):
    drawing = np.zeros((20, 20, 4), np.uint8)
    drawing[8:12] = light
    dark = drawing.copy()
    dark[8:12, :, :3] = 30
    for number, pixels in enumerate((drawing, dark)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    on_black, on_white = (read_picture(tmp_path / f"{n}.png", 1, None)[0] for n in (0, 1))
    assert on_black[0, 0] == 0
    assert on_black[10, 10] > 200
    assert on_white[0, 0] == 255
    assert on_white[10, 10] < 80


def test_every_ending_of_jpeg_is_read(tmp_path):
    for number, ending in enumerate(("jpg", "JPEG", "jfif")):
        (tmp_path / "a").mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "a" / f"{number}.{ending}", format="JPEG")
    assert folder(tmp_path).counts.tolist() == [3]


def test_a_run_among_the_pictures_is_no_class(tmp_path):
    """As by `innerloop train --data .`, whose charts are pictures."""
    for name in "ab":
        paint(tmp_path / name / "1.png")
    run = tmp_path / "runs" / "first"
    paint(run / "run.png")
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).write_text("")
    with pytest.warns(UserWarning, match="became no class: runs"):
        data = folder(tmp_path)
    assert data.names == ["a", "b"]
    assert any("runs/first" in remark.text for remark in data.remarks)
