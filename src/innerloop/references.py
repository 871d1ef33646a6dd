"""Objects by reference: `package.module:name` or `path/to/file.py:name`.

A reference that a user gives is followed.  One that stands in a file is followed only if the
same user gave it on this machine before, or says that the file is trusted: to follow it is to run
code, and files are exchanged.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from innerloop.errors import UserError
from innerloop.files import at_home, cache_folder, write_whole

# Files of modules that references named: mistakes in them are the user's.
_files: set[str] = set()


LIBRARIES = ("timm", "torchvision", "transformers")
"""Whose pretrained networks have names of the form `LIBRARY:NAME`."""


def is_of_library(text: str) -> bool:
    """Whether this is `LIBRARY:NAME`, the name of a pretrained network of others."""
    library, _, name = text.partition(":")
    return library in LIBRARIES and bool(name)


def is_reference(text: str) -> bool:
    """True if this is `MODULE:NAME` or `FILE.py:NAME`."""
    place, colon, name = text.rpartition(":")
    if not colon or not name or not all(part.isidentifier() for part in name.split(".")):
        return False
    # A drive letter of Windows is not a module.
    return place.endswith(".py") or (
        len(place) > 1 and all(part.isidentifier() for part in place.split("."))
    )


def absolute(text: str) -> str:
    """The reference with an absolute path, so that it can be followed from any folder."""
    place, _, name = text.rpartition(":")
    if not is_reference(text) or not place.endswith(".py"):
        return text
    return f"{at_home(place).resolve()}:{name}"


def find(text: str) -> Any:
    """What a reference names.

    Raises:
        UserError: there is no such file, module or name, or importing it fails; it names the line.
    """
    if not is_reference(text):
        raise UserError(f"{text!r} is not a reference: write MODULE:NAME or FILE.py:NAME")
    place, _, name = text.rpartition(":")
    found: Any = _from_file(Path(place)) if place.endswith(".py") else _module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            there = [n for n in vars(found) if not n.startswith("_")] if vars(found) else []
            raise UserError(f"{place} has no {name}; it has {', '.join(there[:20]) or 'no names'}")
        found = getattr(found, part)
    return found


def reference_to(value: Any) -> str | None:
    """The reference to a class or function; None where there is none, as for a lambda."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name or "<" in name or not callable(value):
        return None
    owner = sys.modules.get(module)
    found: Any = owner
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        return None
    file = getattr(owner, "__file__", None)
    if module == "__main__" or module in _own_names():
        return f"{Path(file).resolve()}:{name}" if file and file.endswith(".py") else None
    return f"{module}:{name}"


def call(made_by: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call `function(**arguments)`; an error in a user's code is reported with its line."""
    try:
        return function(**arguments)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Our own errors are not the user's to fix; running out of memory has advice of its own.
        if not is_reference(made_by) or "memory" in str(error):
            raise
        raise UserError(f"{made_by} failed: {at_line(error)}") from error


def at_line(error: BaseException, files: Iterable[str] | None = None) -> str:
    """The error with the last line of the user's own code that it passed through."""
    own = _files if files is None else set(files)
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        shown = (error.text or "").strip()
        return (
            f"{error.filename}, line {error.lineno}: {shown}\n  {type(error).__name__}: {error.msg}"
        )
    frames = traceback.extract_tb(error.__traceback__)
    mine = [f for f in frames if f.filename in own] or [
        f for f in frames if not f.filename.startswith(("<", str(Path(__file__).parent)))
    ][-1:]
    if not mine:
        return what
    frame = mine[-1]
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}\n  {what}"


def is_of_user(error: BaseException) -> bool:
    """True if an error passed through a file that a reference named."""
    return any(f.filename in _files for f in traceback.extract_tb(error.__traceback__))


def trust(references: Iterable[str]) -> None:
    """Remember references that the user gave: they may be followed where a file names them."""
    for text in references:
        if not _mark(text).exists():
            with write_whole(_mark(text)) as file:
                file.write(os.fsencode(text))


def check_trust(references: Iterable[str], source: str | Path, trusted: bool) -> None:
    """Raise a `UserError` where `source` names code that this user never gave.

    Args:
        references: what is about to be followed.
        source: the file or folder that names it.
        trusted: the user says that it is safe.
    """
    strange = [text for text in references if not _mark(text).exists()]
    if strange and not trusted:
        raise UserError(
            f"{source} names code to run: {', '.join(strange)}. You have not used it yourself on "
            "this machine. If you trust it, say so: --trust on the command line, trust=True in "
            "Python; or pass your own objects"
        )
    if strange:
        trust(strange)


def _mark(text: str) -> Path:
    return cache_folder() / "trusted" / hashlib.sha256(os.fsencode(text)).hexdigest()


def _own_names() -> set[str]:
    return {name for name in sys.modules if name.startswith("innerloop_file_")}


def _from_file(path: Path) -> ModuleType:
    path = at_home(path).resolve()
    if not path.is_file():
        raise UserError(
            f"there is no file {path}: check the path, or put it back; for a run that has moved, "
            f"put {path.name} into its folder"
        )
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(path.name) and Path(file).resolve() == path:
            _files.add(str(path))
            return module
    _check_beside(path)
    name = f"innerloop_file_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _files.add(str(path))
    sys.modules[name] = module
    # What lies beside it is imported first, as where Python runs the file itself; later on only
    # what is nowhere else.
    beside = str(path.parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        hint = ""
        if isinstance(error, ImportError) and "relative import" in str(error):
            hint = "\n  name it as a module of its package, package.module:NAME, not as a file"
        raise UserError(f"cannot import {path}: {at_line(error)}{hint}") from error
    finally:
        sys.path.remove(beside)
        if beside not in sys.path:
            sys.path.append(beside)
    return module


def _check_beside(path: Path) -> None:
    """Raise a `UserError` where the file would get another module than the one beside it."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return  # importing it says so
    imported = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    imported += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    for name in sorted({name.partition(".")[0] for name in imported}):
        beside = [path.parent / f"{name}.py", path.parent / name / "__init__.py"]
        beside = [file.resolve() for file in beside if file.is_file()]
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and beside and Path(loaded).resolve() not in beside:
            raise UserError(
                f"{path} imports {name}, which lies beside it, but another {name} is loaded "
                f"already, {loaded}: rename one of the two"
            )


def _module(name: str) -> ModuleType:
    # As `python -m` does, and the command does not.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module {name} here: install it, or name its file, FILE.py:NAME"
            ) from None
        raise UserError(f"cannot import {name}: {at_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"cannot import {name}: {at_line(error)}") from error
    if file := getattr(module, "__file__", None):
        _files.add(file)
    return module
