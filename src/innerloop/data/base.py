"""Examples indexed by class: what every data set becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from innerloop.data.examples import ArrayExamples, Examples, InColour
from innerloop.data.remarks import Remark
from innerloop.errors import UserError


class ClassIndexed:
    """Examples sorted by class: what every data set becomes.

    The examples of class `c` are those with the numbers `starts[c]` to
    `starts[c] + counts[c] - 1`; classes may have different numbers of them.  There are two
    kinds: `ImageClasses`, images of bytes in one array, which is the fast one, and
    `ExampleClasses`, anything else.

    Attributes:
        examples: the examples, read by their numbers.
        starts: `int64` array `[classes]`, number of the first example of each class.
        counts: `int64` array `[classes]`, how many examples each class has, at least 1.
        names: one name a class, unique, e.g. `"Greek/character03"`.
        groups: one group a class, e.g. its alphabet; all `""` where there are none.
        name: short name of the data set, for results and pictures.
        dark_ink: True for dark strokes on light paper, whose usual network input is inverted
            so that ink is 1 and paper 0.
        splits: splits that come with the data: name of the split to
            `{"train": classes, "val": classes, "test": classes}`.
        remarks: what was left out, doubtful or concluded when the data was read.
        pixels: True where examples are `uint8` images `[C, H, W]`, which samplers scale.
        white: the value of white in its pictures of more than 8 bits; None where it has none.
    """

    examples: Examples
    starts: np.ndarray
    counts: np.ndarray
    names: Sequence[str]
    groups: Sequence[str]
    name: str
    dark_ink: bool
    splits: dict[str, dict[str, np.ndarray]]
    remarks: Sequence[Remark]
    pixels: bool
    white: float | None = None
    _things: ClassVar[str] = "examples"

    def __post_init__(self) -> None:
        name, number = self.name, self.examples.shape[0]
        if not len(self.starts) == len(self.counts) == len(self.names):
            raise UserError(f"{name}: starts, counts and names must have one entry a class")
        if len(self.counts) == 0 or int(self.counts.min()) < 1:
            raise UserError(f"{name}: every class needs at least one {self._things[:-1]}")
        if int((self.starts + self.counts).max()) > number:
            raise UserError(f"{name}: the classes reach beyond the {number} {self._things}")
        if int(self.starts.min()) < 0:
            raise UserError(f"{name}: starts must not be negative")
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name, n in Counter(self.names).items() if n > 1)
            raise UserError(f"{name}: two classes are named {twice[0]!r}")
        if self.groups and len(self.groups) != len(self.names):
            raise UserError(f"{name}: groups must have one entry a class, or none at all")
        if not self.groups:
            object.__setattr__(self, "groups", ("",) * len(self.names))

    def __repr__(self) -> str:
        # Not what is in it, which is thousands of names and all pixels.
        shape = " x ".join(map(str, self.example_shape)) or "one number"
        return (
            f"<{type(self).__name__} {self.name!r}: {self.num_classes:,} classes, "
            f"{int(self.counts.sum()):,} {self._things} of {shape}>"
        )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(C, H, W)` for images."""
        return tuple(self.examples.shape[1:])

    def class_examples(self, index: int) -> np.ndarray:
        """The examples of class `index`: `[count, ...]`.

        Raises:
            UserError: there is no class with that number.
        """
        rows = self._rows(index)
        return self.examples.read(np.arange(rows.start, rows.stop))

    def class_numbers(self, classes: Any = None) -> np.ndarray:
        """The numbers of some classes, `int64` `[M]`, each from 0 to `num_classes - 1`.

        Args:
            classes: numbers, negative ones counted from the end; True or False for each class; a
                slice; or None for all.

        Raises:
            UserError: they are none of these, or there are no such classes.
        """
        if classes is None or isinstance(classes, slice):
            return np.arange(self.num_classes)[slice(None) if classes is None else classes]
        has = f"{self.name} has the classes 0 to {self.num_classes - 1}"
        if isinstance(classes, Mapping):
            raise UserError(
                f"classes are the numbers of one part, not a dict: give one of its entries, "
                f"{', '.join(map(repr, classes))}"
            )
        try:
            given = np.asarray(classes)
        except (ValueError, TypeError) as error:
            raise UserError(f"classes must be numbers [M], and {has} ({error})") from error
        if given.ndim == 0:
            raise UserError(
                f"classes must be the numbers of classes, a list, not {classes!r}; n_way says how "
                "many a task has"
            )
        if given.dtype.kind in "US" and given.size:
            raise UserError(
                f"classes are numbers, not names such as {str(given.flat[0])!r}: {has}, and "
                "data.names.index(name) is the number of a name"
            )
        if given.dtype == bool and given.shape == (self.num_classes,):
            return np.flatnonzero(given)
        if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
            what = f"{given.dtype} of shape {list(given.shape)}"
            raise UserError(f"classes must be whole numbers [M], not {what}: {has}")
        outside = (given < -self.num_classes) | (given >= self.num_classes)
        if outside.any():
            raise UserError(f"there is no class {given[outside][0]}: {has}")
        return np.arange(self.num_classes)[given.astype(np.int64)]

    def _rows(self, index: int) -> range:
        """The numbers of the examples of a class."""
        (number,) = self.class_numbers([index]).tolist()
        start = int(self.starts[number])
        return range(start, start + int(self.counts[number]))


@dataclass(frozen=True, repr=False)
class ExampleClasses(ClassIndexed):
    """Examples of any dtype and shape, sorted by class.

    `innerloop.data.from_arrays` and `from_dataset` make it.

    Args:
        examples: the examples, read by their numbers.
        starts, counts, names, groups, name, dark_ink, splits, remarks, white: see `ClassIndexed`.
        pixels: True where examples are `uint8` images `[C, H, W]`.
        computed_by: the `identity` of the body that computed them; empty where they are as given.

    Raises:
        UserError: the arrays contradict each other.
    """

    examples: Examples
    starts: np.ndarray
    counts: np.ndarray
    names: Sequence[str]
    groups: Sequence[str] = ()
    name: str = "examples"
    dark_ink: bool = False
    splits: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    pixels: bool = False
    remarks: Sequence[Remark] = ()
    computed_by: str = ""
    white: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shape, dtype = self.example_shape, self.examples.dtype
        if self.pixels and (dtype != np.uint8 or len(shape) != 3):
            raise UserError(f"{self.name}: pixels are uint8 [C, H, W], not {dtype} {list(shape)}")


@dataclass(frozen=True, repr=False)
class ImageClasses(ClassIndexed):
    """A data set of images, sorted by class.

    The images of class `c` are `images[starts[c] : starts[c] + counts[c]]`;
    classes may have different numbers of images.

    Attributes:
        images: `uint8` array `[images, C, H, W]`, values 0..255; may be memory-mapped.
        starts: `int64` array `[classes]`, index of the first image of each class.
        counts: `int64` array `[classes]`, number of images of each class, at least 1.
        names: one name a class, unique, e.g. `"Greek/character03"`.
        groups: one group a class, e.g. its alphabet; all `""` where there are none.
        name: short name of the data set, for results and pictures.
        dark_ink: True for dark strokes on light paper, whose usual network input
            is inverted so that ink is 1 and paper 0.
        splits: splits that come with the data: name of the split to
            `{"train": classes, "val": classes, "test": classes}`.
        remarks: what was left out, doubtful or concluded when the data was read.
        white: the value of white in the files that it was read from, where they had more than 8
            bits; None where they had not.
    """

    images: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    names: Sequence[str]
    groups: Sequence[str] = ()
    name: str = "images"
    dark_ink: bool = False
    splits: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    remarks: Sequence[Remark] = ()
    white: float | None = None

    _things: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise UserError(
                f"{self.name}: images must be a uint8 array [images, C, H, W], "
                f"not {self.images.dtype} of shape {self.images.shape}"
            )
        super().__post_init__()

    @classmethod
    def from_square(
        cls,
        array: np.ndarray,
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str] = (),
        name: str = "images",
        dark_ink: bool = False,
        splits: dict[str, dict[str, np.ndarray]] | None = None,
    ) -> ImageClasses:
        """Wrap an array with the same number of images in every class.

        Args:
            array: `uint8` `[classes, images a class, C, H, W]`.
            names: None to number the classes.
            groups, name, dark_ink, splits: see the class.

        Raises:
            UserError: `array` has another shape or type.
        """
        if array.ndim != 5 or array.dtype != np.uint8 or 0 in array.shape:
            raise UserError(
                "need a uint8 array [classes, images a class, channels, height, width], "
                f"not {array.dtype} of shape {array.shape}"
            )
        classes, per_class = array.shape[:2]
        return cls(
            images=array.reshape(classes * per_class, *array.shape[2:]),
            starts=np.arange(classes, dtype=np.int64) * per_class,
            counts=np.full(classes, per_class, dtype=np.int64),
            names=[f"class{i:04d}" for i in range(classes)] if names is None else names,
            groups=groups,
            name=name,
            dark_ink=dark_ink,
            splits=splits or {},
        )

    @property
    def examples(self) -> Examples:  # type: ignore[override]
        """The images, read by their numbers."""
        return ArrayExamples(self.images)

    @property
    def pixels(self) -> bool:  # type: ignore[override]
        """True: the examples are `uint8` images `[C, H, W]`."""
        return True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def class_images(self, index: int) -> np.ndarray:
        """The images of class `index`: `uint8` `[count, C, H, W]`.

        Raises:
            UserError: there is no class with that number.
        """
        rows = self._rows(index)
        return self.images[rows.start : rows.stop]


def check_data(data: Any) -> None:
    """Raise a `UserError` for what is no data set."""
    if not isinstance(data, ClassIndexed):
        raise UserError(
            f"data must be a data set, not {type(data).__name__}: innerloop.data.load(path), "
            "from_arrays(X, y) and from_dataset(dataset) make one"
        )


def with_dark_ink(data: ClassIndexed, dark_ink: bool) -> ClassIndexed:
    """The same examples, inverted by `inputs="ink"` or not."""
    if data.dark_ink == dark_ink or not isinstance(data, ImageClasses | ExampleClasses):
        return data
    return replace(data, dark_ink=dark_ink)


def in_colour(data: ClassIndexed) -> ClassIndexed:
    """Grey images for a network that takes colour: their channel three times."""
    same = ("starts", "counts", "names", "groups", "name", "dark_ink", "splits", "remarks", "white")
    own = {name: getattr(data, name) for name in same}
    return ExampleClasses(InColour(data.examples), pixels=True, **own)


def load_npy(path: str | Path) -> np.ndarray:
    """Memory-map a `.npy` file of numbers, read-only.

    Raises:
        UserError: the file is missing, no `.npy`, cut short, or holds pickled objects
            (which are never loaded: they could run code).
    """
    try:
        # Unlike np.load this never unpickles, and reads no .npz archives either.
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:
        # numpy lets through what a damaged header leads to: ValueError, OverflowError,
        # TokenError, MemoryError and more.
        raise UserError(
            f"{path} is not a usable .npy file of numbers ({error}); "
            "write it with numpy.save(path, array) from a plain numeric array"
        ) from error
