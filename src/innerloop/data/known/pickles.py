"""Arrays and plain values out of pickles that people exchange, without running code of theirs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from innerloop.errors import UserError

# Of an array's type: no objects of a kind that NumPy would have to look up.
_KINDS = "biufSUO"


def read_pickle(file: IO[bytes], name: str | Path) -> Any:
    """What a pickle of numbers, text, lists, dicts and NumPy arrays holds.

    A pickle is a program.  This one may call nothing but what is listed here, each in place of
    what it names: an empty array, an array's type, and text back to bytes.

    Args:
        file: open for reading.
        name: how messages name it.

    Raises:
        UserError: it asks for anything else, or is damaged.
    """
    try:
        # As Python 2 wrote text, and as the bytes of its arrays need it.
        return _Reader(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except MemoryError:
        raise UserError(f"{name} does not fit into memory") from None
    except Exception as error:
        # Whatever damaged opcodes lead to: UnpicklingError, EOFError, IndexError, ValueError...
        raise UserError(
            f"{name} is damaged, or no pickle of arrays ({type(error).__name__}: {error}); "
            "fetch it again"
        ) from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            module = "numpy multiarray"
        found = _ALLOWED.get((module, name))
        if found is None:
            raise UserError(
                f"the pickle asks for {module}.{name}, which is not part of arrays and plain "
                "values: it is not read"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("the pickle refers to objects outside of it: it is not read")


def _dtype(kind: Any, *ignored: Any) -> np.dtype[Any]:
    if not isinstance(kind, str) or kind.lstrip("<>|=")[:1] not in _KINDS:
        raise UserError(f"the pickle has an array of type {kind!r:.40}")
    return np.dtype(kind)


def _array(*ignored: Any) -> np.ndarray:
    """An empty array, which what follows in the pickle fills."""
    return np.ndarray((0,), "b")


def _ndarray_type() -> None:
    raise UserError("the pickle makes an array in an unusual way")


def _scalar(dtype: np.dtype[Any], data: Any = b"") -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
        raise UserError("the pickle has a number of an unusual type")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype=dtype, count=1)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise UserError(f"the pickle has text in {encoding!r:.40}")
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy multiarray", "_reconstruct"): _array,
    ("numpy multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _ndarray_type,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    # Sets and dicts of Python 2 and 3 that are plain values.
    ("collections", "OrderedDict"): dict,
}
