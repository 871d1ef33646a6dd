"""Folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from innerloop.errors import UserError


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which takes the name `out` in one step when all is in it.

    Raises:
        UserError: `out` is there already, or cannot be written.
    """
    if out.exists():
        raise UserError(f"{out} is there already: choose another --out, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield place
        place.chmod(0o755)
        place.rename(out)
    except FileExistsError as error:
        raise UserError(f"{error.filename} is there twice in the source") from error
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
