"""The real Omniglot: counts, order, pixels; and where the data is looked for."""

from __future__ import annotations

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from innerloop.data import load, omniglot
from innerloop.data.archive import open_drawings
from innerloop.data.base import ImageClasses
from innerloop.data.omniglot_facts import check_drawings, class_names, facts
from innerloop.errors import UserError
from tests.data.conftest import write_files, write_zips


def test_facts_are_the_published_ones():
    table = facts()
    assert len(table["background"]) == 30
    assert sum(table["background"].values()) == 964
    assert len(table["evaluation"]) == 20
    assert sum(table["evaluation"].values()) == 659
    assert len(set(class_names(table))) == 1623


def test_counts_shape_and_order(omniglot_data: ImageClasses):
    assert omniglot_data.num_classes == 1623
    assert omniglot_data.images.shape == (32460, 1, 28, 28)
    assert omniglot_data.images.nbytes == 25_448_640
    assert isinstance(omniglot_data.images, np.memmap)
    assert set(omniglot_data.counts) == {20}
    assert len(set(omniglot_data.groups)) == 50
    assert omniglot_data.dark_ink
    assert omniglot_data.names[0] == "Alphabet_of_the_Magi/character01"
    assert omniglot_data.names[963] == "Tifinagh/character55"
    assert omniglot_data.names[964] == "Angelic/character01"
    assert omniglot_data.names[-1] == "ULOG/character26"
    assert list(omniglot_data.names[:964]) == sorted(omniglot_data.names[:964])
    assert list(omniglot_data.names[964:]) == sorted(omniglot_data.names[964:])


def test_counts_are_checked_and_reported(omniglot_source):
    keys = {}
    for half in ("background", "evaluation"):
        with open_drawings(omniglot_source / f"images_{half}.zip") as drawings:
            keys[half] = list(drawings.crcs)
    assert str(check_drawings(keys, "here")) == (
        "1,673 directories, 32,460 images, 50 alphabets, 1,623 characters"
    )
    keys["background"].remove(next(k for k in keys["background"] if "Greek/character03/" in k))
    with pytest.raises(UserError, match=r"Greek/character03 has 19 .*32,459 images.*32,460 images"):
        check_drawings(keys, "here")


def test_the_second_time_nothing_is_converted(omniglot_data, omniglot_source, monkeypatch):
    monkeypatch.delattr(sys.modules[omniglot.__module__], "_convert")
    monkeypatch.delenv("INNERLOOP_OMNIGLOT", raising=False)
    for again in (omniglot(omniglot_source), omniglot(), load("omniglot")):
        assert isinstance(again.images, np.memmap)
        assert again.images.filename == omniglot_data.images.filename
        assert again.names == omniglot_data.names


@pytest.mark.parametrize(
    ("half", "character"),
    [
        ("background", "Alphabet_of_the_Magi/character01"),
        ("background", "Greek/character03"),
        ("evaluation", "Angelic/character20"),
        ("evaluation", "ULOG/character26"),
    ],
)
def test_pixels_are_those_of_a_direct_conversion(omniglot_data, omniglot_source, half, character):
    images = omniglot_data.class_images(omniglot_data.names.index(character))
    with zipfile.ZipFile(omniglot_source / f"images_{half}.zip") as archive:
        names = sorted(n for n in archive.namelist() if f"/{character}/" in n and n[-1] != "/")
        assert len(names) == 20
        for image, name in zip(images, names, strict=True):
            picture = Image.open(io.BytesIO(archive.read(name))).convert("L")
            expected = np.asarray(picture.resize((28, 28), Image.Resampling.LANCZOS))
            np.testing.assert_array_equal(image[0], expected)


def test_no_character_is_like_another(omniglot_data):
    digests = {omniglot_data.class_images(i).tobytes() for i in range(1623)}
    assert len(digests) == 1623


def test_zip_folder_clone_and_prepared_array_agree(tiny, tmp_path, home):
    zips = write_zips(tmp_path / "zips", tiny)
    unpacked = write_files(tmp_path / "unpacked", {**tiny["background"], **tiny["evaluation"]})
    write_zips(tmp_path / "clone" / "python", tiny)
    first = omniglot(zips)
    assert first.names == [
        "Aaa/character01",
        "Aaa/character02",
        "Bbb/character01",
        "Ccc/character01",
        "Ccc/character02",
    ]
    assert first.groups == ["Aaa", "Aaa", "Bbb", "Ccc", "Ccc"]
    prepared = sorted((home / "omniglot").glob("*.npy"))
    for source in (
        unpacked,
        tmp_path / "clone",
        str(zips / "images_background.zip"),
        prepared[0],
    ):
        again = omniglot(source)
        np.testing.assert_array_equal(again.images, first.images)
        assert again.names == first.names
    assert sorted((home / "omniglot").glob("*.npy")) == prepared
    assert load(str(unpacked)).name == "omniglot"


def test_other_content_is_not_served_from_the_cache(tiny, tmp_path):
    first = omniglot(write_zips(tmp_path / "one", tiny))
    changed = {half: dict(files) for half, files in tiny.items()}
    name = next(iter(changed["background"]))
    changed["background"][name] = changed["background"][name.replace("_01", "_02")]
    second = omniglot(write_zips(tmp_path / "two", changed))
    assert not np.array_equal(first.images[0], second.images[0])
    np.testing.assert_array_equal(first.images[1:], second.images[1:])


def test_the_environment_goes_before_what_was_prepared_last(tiny, tmp_path, monkeypatch):
    first = omniglot(write_zips(tmp_path / "one", tiny))
    changed = {half: dict(files) for half, files in tiny.items()}
    name = next(iter(changed["background"]))
    changed["background"][name] = changed["background"][name.replace("_01", "_02")]
    omniglot(write_zips(tmp_path / "two", changed))
    monkeypatch.setenv("INNERLOOP_OMNIGLOT", str(tmp_path / "one"))
    np.testing.assert_array_equal(omniglot(download=False).images, first.images)
    monkeypatch.setenv("INNERLOOP_OMNIGLOT", str(tmp_path / "three"))
    with pytest.raises(UserError, match="three does not exist"):
        omniglot(download=False)


def test_a_read_only_cache_can_be_used(tiny, tmp_path, monkeypatch):
    source = write_zips(tmp_path / "one", tiny)
    first = omniglot(source)
    monkeypatch.delattr(sys.modules[omniglot.__module__], "one_at_a_time")
    monkeypatch.delattr(sys.modules[omniglot.__module__], "write_whole")
    np.testing.assert_array_equal(omniglot(source).images, first.images)


def test_folders_unpacked_into_folders_of_their_own(tiny, tmp_path):
    for half, files in tiny.items():
        write_files(tmp_path / f"images_{half}", files)
    assert omniglot(tmp_path).num_classes == 5


def test_without_a_source_what_was_prepared_last_is_used(tiny, tmp_path, home):
    first = omniglot(write_zips(tmp_path / "one", tiny))
    for file in (tmp_path / "one").iterdir():
        file.unlink()
    np.testing.assert_array_equal(omniglot(download=False).images, first.images)
    record = json.loads((home / "omniglot" / "omniglot.json").read_text())
    assert record["names"] == first.names


def test_environment_and_archives_in_the_cache_folder(tiny, tmp_path, home, monkeypatch):
    write_zips(home / "omniglot", tiny)
    first = omniglot(download=False)
    for file in (home / "omniglot").glob("omniglot*"):
        file.unlink()
    for file in (home / "omniglot").glob("*.zip"):
        file.rename(tmp_path / file.name)
    with pytest.raises(UserError, match=r"downloading is switched off.*--omniglot-source"):
        omniglot(download=False)
    monkeypatch.setenv("INNERLOOP_OMNIGLOT", str(tmp_path))
    np.testing.assert_array_equal(omniglot(download=False).images, first.images)


@pytest.mark.parametrize("damage", ["record", "array", "missing"])
def test_a_damaged_cache_is_prepared_again(tiny, tmp_path, home, damage):
    source = write_zips(tmp_path / "one", tiny)
    expected = np.array(omniglot(source).images)
    if damage == "record":
        (home / "omniglot" / "omniglot.json").write_text('{"format": 1, "arr')
    for array in (home / "omniglot").glob("*.npy"):
        if damage == "array":
            array.write_bytes(array.read_bytes()[:1000])
        elif damage == "missing":
            array.unlink()
    np.testing.assert_array_equal(omniglot(source).images, expected)
    np.testing.assert_array_equal(omniglot(download=False).images, expected)


def test_the_record_cannot_lead_outside_the_cache(tiny, tmp_path, home):
    data = omniglot(write_zips(tmp_path / "one", tiny))
    np.save(tmp_path / "other.npy", np.zeros((5, 20, 1, 28, 28), np.uint8))
    record = home / "omniglot" / "omniglot.json"
    record.write_text(json.dumps({"format": 1, "array": "../../other.npy"}))
    with pytest.raises(UserError, match="switched off"):
        omniglot(download=False)
    assert data.num_classes == 5


def test_the_first_use_downloads_and_the_next_does_not(tiny, home, monkeypatch):
    calls = []

    def fake(folder, *, progress):
        calls.append(folder)
        return write_zips(folder, tiny)

    monkeypatch.setattr(sys.modules[omniglot.__module__], "download_archives", fake)
    assert omniglot().num_classes == 5
    assert omniglot().num_classes == 5
    assert calls == [home / "omniglot"]
