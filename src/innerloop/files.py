"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from innerloop.errors import UserError

# Control characters, separators of lines and paragraphs, and marks of direction.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, with `~` as the home folder.

    Raises:
        UserError: there is no such user, no file can have that name, or the folder that it is in
            cannot be entered.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; write ./{path} for a file of that name") from error
    except OSError as error:
        raise UserError(f"cannot use {shown(path)}: {error.strerror}") from error
    if "\0" in str(found):
        raise UserError(f"cannot use {shown(path)}: no file has a null character in its name")
    return found


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message, in one line and not too long."""
    text = ascii(str(path))[1:-1] if "\0" in str(path) else str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as a word of a command that can be pasted into a shell."""
    return shlex.quote(os.fspath(path))


def readable(name: str) -> str:
    """A file's name for a figure: in one line, without bytes that are not text."""
    return one_line(name.encode(errors="surrogateescape").decode(errors="replace"))


def one_line(text: str) -> str:
    r"""A text that may hold a file's name, as one line: `\n` for a line break, `\u202e` and so on.

    Names may hold line breaks, commands to terminals, and marks that turn the direction of writing
    round: what is printed beside them would be split, or change places with them.
    """
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return _SHORT.get(match[0], f"\\u{ord(match[0]):04x}")


def cache_folder() -> Path:
    """The folder for prepared and downloaded data.

    Returns:
        `$INNERLOOP_HOME` if set, else `~/.cache/innerloop`.  It may not exist yet.
    """
    home = os.environ.get("INNERLOOP_HOME")
    return at_home(home) if home else Path.home() / ".cache" / "innerloop"


@contextlib.contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing, so that it ends up complete or unchanged.

    The bytes go to a temporary file beside `path`, reach the disk (fsync) and
    take the name in one step.  When the body raises, `path` is as it was.  When the
    process is killed, so it is too; what it leaves, `remove_unfinished` removes.

    Args:
        path: where the finished file goes; its folder is made if need be.

    Yields:
        A binary file object.

    Raises:
        UserError: the folder or the file cannot be written (full disk, no permission).
    """
    path = Path(path)
    # Unlike tempfile's, a file opened like this gets the usual permissions.
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. "
            f"Free some space or {_elsewhere(path)}; what was there before is untouched."
        ) from error
    finally:
        # After a success the name is gone already.
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _elsewhere(path: Path) -> str:
    """How to have a file written in another place."""
    if path.absolute().is_relative_to(cache_folder().absolute()):
        return "set INNERLOOP_HOME to another folder"
    return "choose another folder"


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a text file, and wait until it is on the disk.

    Raises:
        UserError: the file cannot be written (full disk, no permission).  A part of the
            line may be there then.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            data = memoryview(line.encode() + b"\n")
            while data:  # without a buffer, a write may take only some of the bytes
                data = data[file.write(data) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Free some space or make it writable."
        ) from error


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that a killed `write_whole` left in a folder."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{16}", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder within this context.

    The operating system lifts the lock when this process ends, however it ends.
    Where there are no such locks (Windows, some network file systems), nobody is kept out.

    Raises:
        UserError: another process holds the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is working in {folder}: wait until it has ended, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def one_at_a_time(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process in at a time; the others wait.

    The operating system lifts the lock when its holder ends, however it ends, so
    a crash never leaves it behind.  Where the file system knows no locks, this
    waits for nobody.

    Args:
        path: the lock file, which is made if need be and stays behind, empty.

    Raises:
        UserError: the lock file cannot be made.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115 (closed below, after the lock)
    except OSError as error:
        raise UserError(
            f"cannot write in {path.parent} ({error.strerror or error}); "
            "set INNERLOOP_HOME to a folder that can be written to"
        ) from error
    with file:
        _lock(file)
        # Closing the file gives the lock back.
        yield


def _lock(file: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:
        _lock_on_windows(file)
        return
    # Some network file systems have no locks; what is written is still whole then.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def _lock_on_windows(file: BinaryIO) -> None:
    import msvcrt

    file.seek(0)
    # LK_LOCK gives up after ten seconds; ten minutes is longer than anyone needs the lock.
    for _ in range(60):
        with contextlib.suppress(OSError):
            # The type hints of the other systems do not know it.
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            return
