"""Examples that are read by their numbers: from an array, a file, or a data set's `[i]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from innerloop.errors import UserError


def evenly_spread(number: int, most: int) -> np.ndarray:
    """`most` of the numbers 0 to `number - 1`, the first and the last among them; or all."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(np.int64))


class Examples(Protocol):
    """Examples of one dtype and shape, read by their numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`[examples, ...]`."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of every example."""
        ...

    def read(self, index: np.ndarray) -> np.ndarray:
        """Those with the numbers `index` `[M]`: a new array `[M, ...]`."""
        ...


class ArrayExamples:
    """The rows of an array, which may be memory-mapped.

    Args:
        array: `[M, ...]`; it is never written to.
        order: which row has which number, `int64` `[examples]`; None for all as they stand.
        checked: raise a `UserError` where rows that are read have values that are not finite.
    """

    def __init__(
        self, array: np.ndarray, order: np.ndarray | None = None, *, checked: bool = False
    ) -> None:
        self._array, self._order, self._checked = array, order, checked

    @property
    def shape(self) -> tuple[int, ...]:
        number = len(self._array) if self._order is None else len(self._order)
        return (number, *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    def read(self, index: np.ndarray) -> np.ndarray:
        rows = index if self._order is None else self._order[index]
        # Not a view of the subclass for memory-mapped arrays.
        values = np.asarray(self._array).take(rows, axis=0)
        if self._checked:
            require_finite(values, rows)
        return values


class InColour:
    """Grey images `[M, 1, H, W]` with their channel three times, as colour pictures hold grey.

    Args:
        grey: the images.
    """

    def __init__(self, grey: Examples) -> None:
        self._grey = grey

    @property
    def shape(self) -> tuple[int, ...]:
        number, _, *size = self._grey.shape
        return (number, 3, *size)

    @property
    def dtype(self) -> np.dtype:
        return self._grey.dtype

    def read(self, index: np.ndarray) -> np.ndarray:
        return self._grey.read(index).repeat(3, axis=1)


class RowExamples:
    """Examples that a function returns one by one, each time they are needed.

    Args:
        row: the number of a row to an array `[...]`.
        shape: of one example.
        dtype: of every example.
        order: which row has which number, `int64` `[examples]`.
        what: how messages name row i, with `{}` for i.
    """

    def __init__(
        self,
        row: Callable[[int], np.ndarray],
        shape: tuple[int, ...],
        dtype: np.dtype,
        order: np.ndarray,
        what: str = "example {}",
    ) -> None:
        self._row, self._shape, self._dtype = row, tuple(shape), dtype
        self._order, self._what = order, what

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._order), *self._shape)

    @property
    def dtype(self) -> np.dtype:
        return self._dtype

    def read(self, index: np.ndarray) -> np.ndarray:
        rows = self._order[index]
        values = np.empty((len(rows), *self._shape), self._dtype)
        for place, row in enumerate(rows.tolist()):
            values[place] = checked_row(
                self._row(row), self._shape, self._dtype, self._what.format(row)
            )
        require_finite(values, rows)
        return values


def checked_row(row: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, what: str) -> np.ndarray:
    """One example, of the shape and dtype that all have.

    Raises:
        UserError: it has another shape, or values that the dtype cannot hold.
    """
    if row.shape != shape:
        raise UserError(
            f"{what} has shape {row.shape}, but the first one {shape}: bring all to one shape "
            "(cut or pad; for pictures resize, see image_size and transform of from_dataset)"
        )
    if row.dtype != dtype and not np.can_cast(row.dtype, dtype, "same_kind"):
        raise UserError(
            f"{what} is {row.dtype}, but the first one {dtype}: give all of them one dtype"
        )
    return row


def require_numbers(dtype: np.dtype, what: str) -> None:
    """Raise a `UserError` for values that no network can take."""
    if dtype.kind in "biuf":
        return
    ways = {
        "c": "give real and imaginary part as two channels",
        "U": "turn text into token ids, integers of one length",
        "S": "turn text into token ids, integers of one length",
        "M": "turn times into numbers",
        "m": "turn times into numbers",
        "O": "make it an array of numbers: examples of one shape, without missing values",
    }
    raise UserError(
        f"{what} is {dtype}, not numbers: {ways.get(dtype.kind, 'make it an array of numbers')}"
    )


def require_finite(values: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Raise a `UserError` that names the first example with a value that is not finite.

    So for whole numbers beyond those of `int64`, which episodes are of.

    Args:
        values: `[M, ...]`.
        rows: the numbers by which a user knows the examples; None for 0 to M-1.
    """
    if values.dtype == np.uint64 and values.size:
        large = (values > np.iinfo(np.int64).max).reshape(len(values), -1).any(axis=1)
        if large.any():
            first = int(large.argmax())
            raise UserError(
                f"example {int(first if rows is None else rows[first])} holds a number above "
                "2**63 - 1: give float32, or smaller numbers"
            )
    if values.dtype.kind != "f":
        return
    # A million values at a time, so that the check needs little memory.
    step = max(1, 2**20 // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        # Episodes are of single precision.
        good = np.abs(block) <= np.finfo(np.float32).max
        if not good.all():
            bad = (~good).reshape(len(block), -1).any(axis=1)
            first = start + int(bad.argmax())
            kind = "infinite values, or too large ones"
            kind = "NaN" if np.isnan(values[first]).any() else kind
            raise UserError(
                f"example {int(first if rows is None else rows[first])} holds {kind}: fill them "
                "(numpy.nan_to_num, or the mean of the column) or leave such examples out"
            )


def without_mask(value: Any, what: str) -> Any:
    """What a masked array holds; anything else as it is.

    Raises:
        UserError: something in it is masked, and so missing.
    """
    if not isinstance(value, np.ma.MaskedArray):
        return value
    if np.ma.is_masked(value):
        raise UserError(
            f"{what} has masked values, which are missing: fill them ({what}.filled(0), or the "
            "mean of the column) or leave such examples out"
        )
    return value.data


def as_array(value: Any, what: str) -> np.ndarray:
    """Lists, tensors, data frames or pictures as an array of numbers.

    Raises:
        UserError: it cannot be one; the message names `what`.
    """
    if hasattr(value, "detach"):  # a tensor
        value = array_of_tensor(value, what)
    elif hasattr(value, "toarray"):
        raise UserError(f"{what} is a sparse matrix: give {what}.toarray()")
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, (str, bytes, dict, set)) or value is None:
        raise UserError(f"{what} must be an array of numbers, not {type(value).__name__}")
    if isinstance(value, (list, tuple)):
        value = _stacked(list(value), what)
    try:
        array = np.asarray(without_mask(value, what))
    except UserError:
        raise
    except Exception as error:
        # An object's own conversion raises whatever it likes.
        raise UserError(f"{what} cannot become an array of numbers ({error})") from error
    require_numbers(array.dtype, what)
    return array


def array_of_tensor(value: Any, what: str) -> np.ndarray:
    """A tensor as an array; what NumPy has no type for, such as bfloat16, as float32.

    Raises:
        UserError: it cannot be one; the message names `what`.
    """
    if value.is_nested:
        raise UserError(
            f"{what} is a nested tensor, of examples of different shapes: cut or pad all to one"
        )
    if str(value.layout) != "torch.strided":
        raise UserError(f"{what} is a sparse tensor: give {what}.to_dense()")
    if value.is_meta:
        raise UserError(f"{what} is a tensor on the device meta, which holds no values: fill it")
    value = value.dequantize() if value.is_quantized else value.detach()
    foreign = str(value.dtype) == "torch.bfloat16" or "float8" in str(value.dtype)
    value = (value.float() if foreign else value).cpu()
    try:
        found: np.ndarray = value.numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"{what} is a tensor of {value.dtype}, which NumPy cannot hold: give numbers of "
            "another type, such as torch.float32"
        ) from error
    return found


def _stacked(values: list[Any], what: str) -> np.ndarray:
    """A list of examples as one array."""
    if values and not np.isscalar(values[0]):
        rows = [as_array(row, f"{what}[{i}]") for i, row in enumerate(values)]
        other = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
        if other is not None:
            raise UserError(
                f"{what}[{other}] has shape {rows[other].shape}, but {what}[0] {rows[0].shape}: "
                "cut or pad all examples to one shape"
            )
        return np.stack(rows)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UserError(f"{what} cannot become an array of numbers ({error})") from error
