"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from innerloop.errors import UserError


def cache_folder() -> Path:
    """The folder for prepared and downloaded data.

    Returns:
        `$INNERLOOP_HOME` if set, else `~/.cache/innerloop`.  It may not exist yet.
    """
    home = os.environ.get("INNERLOOP_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "innerloop"


@contextlib.contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it ends up complete or untouched.

    The bytes go to a temporary file beside `path`, reach the disk (fsync) and
    take the name in one step.  When the body raises, `path` is as it was.

    Args:
        path: where the finished file goes; its folder is made if need be.

    Yields:
        A binary file object.

    Raises:
        UserError: the folder or the file cannot be written (full disk, no permission).
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give the result the usual permissions.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. "
            "Free some space or choose another folder; what was there before is untouched."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
