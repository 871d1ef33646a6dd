"""Archives that are damaged, incomplete, hostile, or something else altogether."""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest

from innerloop.data import omniglot
from innerloop.errors import UserError
from tests.data.conftest import png, write_files, write_zips


def refused(source, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        omniglot(source)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


def test_missing_alphabet_is_named_with_the_counts(tiny, tmp_path):
    files = tiny["background"]
    tiny["background"] = {name: data for name, data in files.items() if "/Bbb/" not in name}
    message = refused(write_zips(tmp_path / "s", tiny), "alphabet Bbb is missing")
    assert "6 directories, 80 images, 2 alphabets, 4 characters" in message
    assert "right is 8 directories, 100 images, 3 alphabets, 5 characters" in message


def test_missing_characters_and_drawings_are_named(tiny, tmp_path):
    for name in list(tiny["background"]):
        if "/Aaa/character02/" in name:
            del tiny["background"][name]
    del tiny["evaluation"][next(iter(tiny["evaluation"]))]
    refused(
        write_zips(tmp_path / "s", tiny),
        "Aaa/character02 is missing",
        "Ccc/character01 has 19 drawings instead of 20",
    )


def test_more_than_omniglot(tiny, tmp_path):
    tiny["background"]["images_background/Ddd/character01/1.png"] = png()
    tiny["background"]["images_background/Aaa/character09/1.png"] = png()
    refused(
        write_zips(tmp_path / "s", tiny),
        "Ddd is not an alphabet of the background half",
        "Aaa/character09 is too much",
    )


@pytest.mark.parametrize("name", ["pictures.zip", "images_background (1).zip", "a.tar.gz"])
def test_another_archive_is_named_itself(name, tiny, tmp_path):
    """Whatever lies beside it, Omniglot itself as well."""
    write_zips(tmp_path, tiny)
    (tmp_path / name).write_bytes(b"PK\x05\x06" + bytes(18))
    message = refused(tmp_path / name, "is not one of Omniglot's two archives", "images_evaluation")
    assert message.startswith(str(tmp_path / name))


def test_the_halves_swapped(tiny, tmp_path):
    swapped = {"background": tiny["evaluation"], "evaluation": tiny["background"]}
    refused(write_zips(tmp_path / "s", swapped), "none of the background alphabets is there")


def test_a_zip_of_something_else(tiny, tmp_path):
    foreign = {"holiday/beach.jpg": b"x", "holiday/2024/paris/1.png": png()}
    refused(
        write_zips(tmp_path / "s", {"background": foreign, "evaluation": foreign}),
        "is not the complete Omniglot",
    )


def test_one_archive_missing(tiny, tmp_path):
    write_zips(tmp_path / "s", {"background": tiny["background"]})
    refused(tmp_path / "s", "neither images_evaluation.zip", "https://")
    refused(tmp_path / "nowhere", "does not exist")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_zip(tiny, tmp_path, kept):
    path = write_zips(tmp_path / "s", tiny) / "images_evaluation.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(tmp_path / "s", "images_evaluation.zip is not a usable zip file", "cut short")


def test_a_drawing_whose_bytes_are_damaged(tiny, tmp_path):
    path = write_zips(tmp_path / "s", tiny) / "images_evaluation.zip"
    name = next(iter(tiny["evaluation"]))
    whole = path.read_bytes()
    place = whole.index(tiny["evaluation"][name])
    path.write_bytes(whole[: place + 60] + b"\xff\x00\xff" + whole[place + 63 :])
    refused(tmp_path / "s", name, "cannot be read", "download it again")


@pytest.mark.parametrize(
    "entry",
    [
        "/etc/cron.d/evil.png",
        "../../evil.png",
        "images_background/../../../evil.png",
        "..\\..\\evil.png",
        "C:\\Windows\\evil.png",
        "../evil.txt",
    ],
)
def test_entries_that_point_outside_are_refused(tiny, tmp_path, entry):
    tiny["background"][entry] = png()
    refused(write_zips(tmp_path / "s", tiny), "refusing the archive", repr(entry))
    assert not list(tmp_path.rglob("evil*"))


def test_a_huge_entry_is_refused_before_it_is_unpacked(tiny, tmp_path):
    name = next(iter(tiny["background"]))
    files = {**tiny["background"], name: bytes(3_000_000)}
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, data in files.items():
            archive.writestr(key, data)
    assert (tmp_path / "images_background.zip").stat().st_size < 200_000
    write_zips(tmp_path, {"evaluation": tiny["evaluation"]})
    refused(tmp_path, "3,000,000 bytes", name)


def test_a_small_file_that_unfolds_into_a_huge_picture(tiny, tmp_path):
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    name = next(iter(tiny["background"]))
    tiny["background"][name] = bomb
    refused(write_zips(tmp_path / "s", tiny), "50000 x 50000 pixels", name.split("/", 1)[1])


def test_a_second_header_does_not_smuggle_in_a_huge_picture(tiny, tmp_path):
    whole = png()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    chunk += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    name = next(iter(tiny["background"]))
    tiny["background"][name] = whole[:33] + chunk + whole[33:]
    refused(write_zips(tmp_path / "s", tiny), "cannot be decoded", name.split("/", 1)[1])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tiny, tmp_path, method):
    pytest.importorskip({zipfile.ZIP_BZIP2: "bz2", zipfile.ZIP_LZMA: "lzma"}[method])
    write_zips(tmp_path, tiny)
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w", method) as archive:
        for name, content in tiny["background"].items():
            archive.writestr(name, content)
    refused(tmp_path, "images_background.zip", "compressed in another way")


def test_a_damaged_list_of_entries(tiny, tmp_path):
    tiny["background"]["images_background/Aaa/character01/ä.png"] = png()
    path = write_zips(tmp_path, tiny) / "images_background.zip"
    path.write_bytes(path.read_bytes().replace("ä.png".encode(), b"\xff\xff.png"))
    refused(tmp_path, "images_background.zip is not a usable zip file")


def test_an_entry_that_comes_twice(tiny, tmp_path):
    name = next(iter(tiny["background"]))
    tiny["background"][f"copy/{name}"] = png()
    refused(write_zips(tmp_path, tiny), name.split("/", 1)[1], "twice")


def test_too_many_entries(tiny, tmp_path, monkeypatch):
    import innerloop.data.archive as archive

    monkeypatch.setattr(archive, "MAX_ENTRIES", 50)
    refused(write_zips(tmp_path / "s", tiny), "has 60 entries, more than 50")
    refused(
        write_files(tmp_path / "u", {**tiny["background"], **tiny["evaluation"]}), "more than 50"
    )


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:100], png()[:24] + bytes(80)])
def test_an_undecodable_drawing_is_named(tiny, tmp_path, content):
    name = list(tiny["evaluation"])[7]
    tiny["evaluation"][name] = content
    refused(write_zips(tmp_path / "s", tiny), "images_evaluation.zip", name.split("/", 1)[1])


def test_junk_beside_the_drawings_is_ignored(tiny, tmp_path):
    tiny["background"]["__MACOSX/images_background/Aaa/character01/._1.png"] = b"junk"
    tiny["background"]["images_background/Aaa/character01/.DS_Store"] = b"junk"
    tiny["background"]["images_background/README"] = b"junk"
    assert omniglot(write_zips(tmp_path / "s", tiny)).num_classes == 5


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 20, 28, 28), np.uint8),
        np.zeros((5, 20, 1, 28, 28), np.float32),
        np.zeros((4, 20, 1, 28, 28), np.uint8),
    ],
)
def test_a_prepared_array_of_another_kind(tiny, tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", "a.npy", "(5, 20, 1, 28, 28)", str(array.shape))


def test_pickled_objects_are_never_loaded(tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "not a usable .npy file")
    assert not (tmp_path / "evil").exists()


def test_a_full_disk_leaves_nothing_behind(tiny, tmp_path, home, monkeypatch):
    source = write_zips(tmp_path / "s", tiny)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(source, "No space left", "untouched")
    assert [file.name for file in (home / "omniglot").iterdir()] == [".lock"]
    assert omniglot(source).num_classes == 5


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs permissions that root does not heed"
)
def test_a_cache_folder_without_permission(tiny, tmp_path, home):
    home.mkdir()
    home.chmod(0o500)
    refused(write_zips(tmp_path / "s", tiny), "INNERLOOP_HOME")
