"""Files are complete or untouched, and a folder is worked on by one process at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import innerloop
from innerloop.data import known
from innerloop.errors import UserError
from innerloop.files import cache_folder, one_at_a_time, one_line, readable, write_whole


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_with_its_folder_and_usual_permissions(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    for content in (b"first", b"second"):
        with write_whole(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, UserError])
def test_a_body_that_raises_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(error, match=r"^half way$"), write_whole(path) as file:  # noqa: PT012
        file.write(b"new")
        raise error("half way")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, broken, full)
    with pytest.raises(UserError, match=r"file\.bin: No space left.*untouched"):  # noqa: SIM117
        with write_whole(path) as file:
            file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "way_out"),
    [
        ("home/folders/x.npy", "set INNERLOOP_HOME to another folder"),
        ("x", "choose another folder"),
    ],
)
def test_a_full_disk_has_a_way_out_that_suits_the_place(place, way_out, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=way_out), write_whole(tmp_path / place):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_write_that_fails_is_reported(tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(UserError, match="No space left"), write_whole(path) as file:  # noqa: PT012
        device = os.open("/dev/full", os.O_WRONLY)
        os.dup2(device, file.fileno())
        os.close(device)
        file.write(b"new" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "taken" / "file", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot write"), write_whole(path) as file:
            file.write(b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "taken"]
    with pytest.raises(UserError, match="INNERLOOP_HOME"), one_at_a_time(tmp_path / "taken" / "x"):
        pass


def test_names_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("n" * 251 + ".bin")
    with write_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("INNERLOOP_HOME", "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "somewhere"
    monkeypatch.delenv("INNERLOOP_HOME")
    assert cache_folder() == tmp_path / ".cache" / "innerloop"


HOLDER = """
import sys
from innerloop.files import one_at_a_time
with one_at_a_time(sys.argv[1]):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_waits_and_a_dead_one_lets_go(tmp_path):
    pytest.importorskip("fcntl")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdout.readline() == b"in\n"
        second = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        with second:
            time.sleep(0.5)
            assert second.poll() is None
            first.kill()
            assert second.stdout.readline() == b"in\n"
    assert second.returncode == 0


NOBODY = "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    "use",
    [
        lambda: innerloop.data.omniglot(source=NOBODY),
        lambda: innerloop.data.folder(NOBODY),
        lambda: known.prepare("cub", NOBODY, "out"),
        lambda: innerloop.backbones.backbone(f"{NOBODY}.py:make"),
        lambda: innerloop.TrainConfig(omniglot_source=NOBODY).absolute(),
        lambda: innerloop.load(NOBODY),
    ],
)
def test_the_home_of_nobody_is_one_clear_error(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"write \./~nobody-of-this-name"):
        use()


@given(st.text())
def test_a_text_with_a_name_is_one_line(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable() or not line.isascii()
    # Text that has nothing of the kind stays as it is, in any script.
    assert one_line("日本語 שלום e\u0301 👩\u200d🔬") == "日本語 שלום e\u0301 👩\u200d🔬"


def test_what_a_name_hides_is_shown():
    assert one_line("a\nb\tc\x1b[2J\u202etxt\u2028") == r"a\nb\tc\u001b[2J\u202etxt\u2028"
    assert readable("a\nb") == r"a\nb"


@pytest.mark.parametrize(
    ("name", "message"),
    [("x" * 300, "File name too long"), ("a\0b", "null character in its name")],
)
def test_a_name_that_no_file_can_have_is_refused(name, message, tmp_path):
    path = str(tmp_path / name)
    for use in (
        innerloop.load,
        innerloop.resume,
        innerloop.data.load,
        lambda path: innerloop.train(out=path, iterations=1),
        lambda path: innerloop.train(data=path, iterations=1),
    ):
        with pytest.raises(UserError, match=message) as raised:
            use(path)
        assert len(str(raised.value)) < 300
