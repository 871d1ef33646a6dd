"""Downloads from a server on this machine that misbehaves in every way we could think of."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from innerloop.data import omniglot
from innerloop.data.download import download_file
from innerloop.data.omniglot import OFFICIAL, download_archives
from innerloop.errors import UserError
from tests.data.conftest import write_zips

CONTENT = bytes(range(256)) * 400
MD5 = hashlib.md5(CONTENT).hexdigest()

Answer = Callable[["Handler", int], None]


@dataclass
class Server:
    """What the server is to do, and what it was asked."""

    url: str = ""
    answer: Answer = field(default=lambda handler, number: handler.whole())
    content: bytes = CONTENT
    ranges: list[str | None] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        state.ranges.append(self.headers.get("Range"))
        # Some of the tests are about clients that hang up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            state.answer(self, len(state.ranges))

    def log_message(self, *args) -> None:
        pass

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self, sent: int | None = None) -> None:
        """All of the content, or a promise of all of it and its first `sent` bytes."""
        content = self.server_state.content
        self.head(200, len(content))
        self.wfile.write(content[:sent])

    def rest(self, shift: int = 0) -> None:
        """What the Range header asks for."""
        content = self.server_state.content
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) + shift
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(206, len(content) - start, Content_Range=span)
        self.wfile.write(content[start:])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("OneServersHandler", (Handler,), {"server_state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        state.url = f"http://127.0.0.1:{listener.server_port}/"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield state
        state.over.set()
        listener.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, **options) -> Path:
    options = {"md5": MD5, "timeout": 5.0, "attempts": 3, "pause": 0.01, **options}
    return download_file(server.url + "file.zip", folder / "file.zip", **options)


def test_a_plain_download(server, tmp_path, capsys):
    path = fetch(server, tmp_path / "new", progress=True)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.zip"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "download file.zip" in captured.err


def test_a_truncated_download_is_resumed(server, tmp_path):
    server.answer = lambda handler, n: handler.whole(sent=30_000) if n == 1 else handler.rest()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-"]


def test_a_later_call_resumes(server, tmp_path):
    server.answer = lambda handler, n: handler.whole(sent=30_000)
    with pytest.raises(UserError, match=r"broke off after 30,000 of 102,400 bytes"):
        fetch(server, tmp_path, attempts=1)
    assert not (tmp_path / "file.zip").exists()
    server.answer = lambda handler, n: handler.rest()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-"]


def test_a_server_that_ignores_ranges_starts_from_the_beginning(server, tmp_path):
    server.answer = lambda handler, n: handler.whole(sent=30_000 if n == 1 else None)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-"]


def test_a_server_that_sends_another_part(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    server.answer = lambda handler, n: handler.rest(shift=7) if n == 1 else handler.whole()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_a_partial_file_of_something_else_is_given_up(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    server.answer = lambda handler, n: handler.rest() if n == 1 else handler.whole()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("extra", [0, 5])
def test_a_partial_file_with_nothing_missing(server, tmp_path, extra):
    (tmp_path / "file.zip.part").write_bytes(CONTENT + bytes(extra))

    def answer(handler, number):
        if number == 1:
            handler.head(416, 0, Content_Range=f"bytes */{len(CONTENT)}")
        else:
            handler.whole()

    server.answer = answer
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == (2 if extra else 1)


def test_the_wrong_content_is_never_kept(server, tmp_path):
    server.content = b"<html>Please log in to the network</html>"
    with pytest.raises(UserError, match=r"not the right file \(MD5 .*, expected " + MD5):
        fetch(server, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(server.ranges) == 3


def test_not_found_is_not_tried_again(server, tmp_path):
    server.answer = lambda handler, n: handler.head(404, 0)
    with pytest.raises(UserError, match=r"the server says 404 .*\. Do this by hand"):
        fetch(server, tmp_path, advice="Do this by hand")
    assert len(server.ranges) == 1


def test_an_overloaded_server_is_tried_again(server, tmp_path):
    server.answer = lambda handler, n: handler.head(503, 0) if n < 3 else handler.whole()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    server.answer = lambda handler, n: handler.head(503, 0)
    with pytest.raises(UserError, match="the server says 503"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("before", [None, 5000])
def test_a_hanging_server_ends_in_an_error(server, tmp_path, before):
    def answer(handler, number):
        if before is not None:
            handler.whole(sent=before)
            handler.wfile.flush()
        server.over.wait(20)

    server.answer = answer
    started = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        fetch(server, tmp_path, timeout=0.2, attempts=2)
    assert time.monotonic() - started < 5


def test_a_dripping_server_counts_as_hanging(server, tmp_path):
    def answer(handler, number):
        handler.head(200, len(CONTENT))
        while not server.over.wait(0.02):
            handler.wfile.write(b"x")

    server.answer = answer
    with pytest.raises(UserError, match=r"only \d+ bytes in"):
        fetch(server, tmp_path, timeout=0.3, attempts=1)


def test_an_endless_answer_is_cut_off(server, tmp_path):
    def answer(handler, number):
        handler.head(200, None)
        while not server.over.is_set():
            handler.wfile.write(bytes(10_000))

    server.answer = answer
    with pytest.raises(UserError, match="more than 50,000 bytes"):
        fetch(server, tmp_path, max_bytes=50_000)
    assert len(server.ranges) == 1
    # A later call does not build on it.
    server.answer = lambda handler, n: handler.whole()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, None]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_is_reported_and_not_tried_again(server, tmp_path, monkeypatch, broken):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        with pytest.raises(UserError, match=r"cannot write .*file\.zip.*No space.*INNERLOOP_HOME"):
            fetch(server, tmp_path)
    assert len(server.ranges) == 1
    assert not (tmp_path / "file.zip").exists()


def test_nonsense_instead_of_http(server, tmp_path):
    server.answer = lambda handler, n: handler.wfile.write(b"220 mail.example ESMTP\r\n")
    with pytest.raises(UserError, match="cannot download"):
        fetch(server, tmp_path)


def test_only_http_addresses(tmp_path):
    with pytest.raises(UserError, match="not an http"):
        download_file("file:///etc/passwd", tmp_path / "x", md5=MD5)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        fetch(server, tmp_path / "taken")


def test_offline_says_what_to_do_by_hand(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(UserError) as caught:
            download_archives(tmp_path, base_url=base_url, attempts=2, pause=0.01)
    message = str(caught.value)
    for word in ("refused", OFFICIAL, "images_background.zip", "images_evaluation.zip"):
        assert word in message
    assert str(tmp_path) in message
    assert "--omniglot-source FOLDER" in message


def test_omniglot_from_download_to_array(server, tiny, tmp_path, home, monkeypatch):
    archives = write_zips(tmp_path / "served", tiny)
    files = {name.name: name.read_bytes() for name in archives.iterdir()}

    def answer(handler, number):
        server.content = files[handler.path.lstrip("/")]
        handler.whole()

    server.answer = answer
    md5 = {
        half: hashlib.md5(files[f"images_{half}.zip"]).hexdigest()
        for half in ("background", "evaluation")
    }
    monkeypatch.setattr(
        sys.modules[omniglot.__module__],
        "download_archives",
        lambda folder, progress: download_archives(folder, base_url=server.url, md5=md5),
    )
    assert omniglot().images.shape == (100, 1, 28, 28)
    assert omniglot().images.shape == (100, 1, 28, 28)
    assert len(server.ranges) == 2
