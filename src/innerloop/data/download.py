"""Download a file: checked, resumable, with timeouts."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from innerloop.data.progress import progress_bar
from innerloop.errors import UserError

_CHUNK = 1 << 16
# Slower than this for a whole timeout counts as hanging.
_SLOWEST = 512  # bytes a second


class _Unfinished(Exception):
    """This attempt failed; another may succeed."""


class _Hopeless(Exception):
    """Another attempt would fail as well."""


def download_file(
    url: str,
    path: Path,
    *,
    md5: str,
    advice: str = "",
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    max_bytes: int = 200_000_000,
    progress: bool = False,
) -> Path:
    """Fetch a file whose content is known in advance.

    What has arrived is kept in `path` + `.part`; the next attempt, or the next
    call, asks the server for the rest only.  The file gets its name when all of
    it is there and its MD5 is right.

    Args:
        url: an http or https address.
        path: where the file goes.
        md5: the MD5 of the right content, in hexadecimal.
        advice: what to do by hand when this fails; ends the error message.
        timeout: seconds to wait for the server to answer or to send more; a server
            that sends less than 512 bytes a second for as long counts as hanging.
        attempts: how often to try, at least 1.
        pause: seconds before the second attempt, doubled for each further one.
        max_bytes: more than this is refused.
        progress: show a bar on standard error.

    Returns:
        `path`.

    Raises:
        UserError: no connection, no such file, the wrong content, or the disk is full.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(f"{url} is not an http or https address")
    part = path.with_name(path.name + ".part")
    problem = "no attempt was made"
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part, timeout, max_bytes, progress)
            _check_and_rename(part, path, md5)
        except _Unfinished as error:
            problem = str(error)
        except _Hopeless as error:
            problem = str(error)
            break
        except OSError as error:
            raise _disk_error(part, error) from error
        else:
            return path
    raise UserError(f"cannot download {url}: {problem}. {advice}".rstrip())


def _check_and_rename(part: Path, path: Path, md5: str) -> None:
    with open(part, "rb") as file:
        # Not for security; said so, because some systems forbid MD5 otherwise.
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        # Nothing to build on: what is there is wrong somewhere, so begin again.
        part.unlink()
        raise _Unfinished(f"what arrived is not the right file (MD5 {found}, expected {md5})")
    os.replace(part, path)


def _fetch(url: str, part: Path, timeout: float, max_bytes: int, progress: bool) -> None:
    """One attempt: append to `part` what is missing there."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "innerloop"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            start, total = _where(answer, part, have)
            with _open_part(part, start) as file:
                _copy(answer, file, start, total, timeout, max_bytes, part.stem, progress)
                _to_disk(file)
    except urllib.error.HTTPError as error:
        with error:
            _judge_status(error, part, have)
    except (OSError, http.client.HTTPException) as error:
        # URLError, timeouts and broken connections are all OSErrors.
        reason = getattr(error, "reason", error)
        raise _Unfinished(str(reason) or type(error).__name__) from error


def _judge_status(error: urllib.error.HTTPError, part: Path, have: int) -> None:
    if error.code == 416 and have:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is None or int(total[1]) == have:
            return  # Nothing is missing; the MD5 decides whether it is right.
        part.unlink()
        raise _Unfinished("the partial file did not fit the one on the server") from error
    message = f"the server says {error.code} {error.reason}"
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _Unfinished(message) from error
    raise _Hopeless(message) from error


def _where(answer: http.client.HTTPResponse, part: Path, have: int) -> tuple[int, int | None]:
    """First byte of the answer and size of the whole file, in bytes."""
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    if answer.status != 206:
        return 0, size  # The server ignores ranges and sends everything.
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != have:
        part.unlink(missing_ok=True)  # The next attempt asks for everything.
        raise _Unfinished("the server sent another part of the file than it was asked for")
    return have, None if size is None else have + size


def _open_part(part: Path, start: int) -> BinaryIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer a full disk shows at once, and what has arrived is there to resume.
        return open(part, "ab" if start else "wb", buffering=0)
    except OSError as error:
        raise _disk_error(part, error) from error


def _disk_error(part: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {part}: {error.strerror or error}. Free some space, "
        "or set INNERLOOP_HOME to another folder"
    )


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        # Without a buffer, a write may take only some of the bytes.
        while chunk:
            chunk = chunk[file.write(chunk) :]
    except OSError as error:
        raise _disk_error(Path(file.name), error) from error


def _to_disk(file: BinaryIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _disk_error(Path(file.name), error) from error


def _copy(
    answer: http.client.HTTPResponse,
    file: BinaryIO,
    start: int,
    total: int | None,
    timeout: float,
    max_bytes: int,
    name: str,
    progress: bool,
) -> None:
    done = start
    window_start, window_bytes = time.monotonic(), 0
    with progress_bar(f"download {name}", total, shown=progress, in_bytes=True) as advance:
        advance(start)
        # read1 returns what is there; read would wait for a full chunk.
        while chunk := answer.read1(_CHUNK):
            _write(file, chunk)
            done += len(chunk)
            advance(len(chunk))
            if done > max_bytes:
                file.truncate(0)  # Not to be resumed.
                raise _Hopeless(f"the server sends more than {max_bytes:,} bytes")
            window_bytes += len(chunk)
            passed = time.monotonic() - window_start
            if passed > timeout:
                if window_bytes < _SLOWEST * passed:
                    raise _Unfinished(f"only {window_bytes} bytes in {passed:.0f} s")
                window_start, window_bytes = time.monotonic(), 0
    if total is not None and done < total:
        raise _Unfinished(f"the connection broke off after {done:,} of {total:,} bytes")
