"""What an augmentation is: a function of images and random numbers, and several in a row."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from innerloop.errors import UserError, plain

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""A function of a batch of examples and a generator, such as those here."""


class Augmentation(ABC):
    """A random change of images, as a function of P uniform random numbers per image.

    Attributes:
        by_task: all images of a task, support and query, get the same numbers.
    """

    by_task: ClassVar[bool] = False

    @property
    @abstractmethod
    def numbers(self) -> int:
        """P, how many random numbers an image takes."""

    @abstractmethod
    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        """Change the images, each by itself: how they are grouped must not matter.

        Args:
            images: `[M, C, H, W]`; not written to.
            u: float32 `[M, P]`, uniform in 0 <= u < 1, on the same device.

        Returns:
            As many images of the same shape.
        """

    def shared(self, u: Tensor) -> Tensor:
        """The numbers `[T, M, P]` of T tasks, made equal within a task where they have to be."""
        # Not a view, in which what is written for one image would be that of the others.
        return u[:, :1].expand_as(u).clone() if self.by_task else u

    def count(self) -> int:
        """`numbers`.

        Raises:
            UserError: they are no whole number of at least 0.
        """
        numbers = self.numbers
        if not isinstance(numbers, Integral) or not _is_number(numbers) or numbers < 0:
            raise UserError(
                f"{type(self).__name__}.numbers must be a whole number of at least 0, how many "
                f"random numbers an image takes, not {numbers!r}"
            )
        return int(numbers)

    def __repr__(self) -> str:
        """The same in every process: a run that goes on compares it."""
        told = [
            f"{name}={value!r}"
            for name, value in sorted(vars(self).items())
            if value is None or isinstance(value, str | Real | tuple)
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change the images `[M, C, H, W]` of a task by numbers of a generator on their device."""
        shape = len(images), self.count()
        u = torch.rand(shape, generator=generator, device=images.device, dtype=torch.float32)
        return self.apply(images, self.shared(u[None])[0])


@dataclass(frozen=True, init=False)
class Compose(Augmentation):
    """Several, one after another: `Compose(RandomCrop(4), RandomHorizontalFlip())`."""

    parts: tuple[Augmentation, ...]

    def __init__(self, *parts: Augmentation) -> None:
        if not parts:
            raise UserError("Compose needs at least one augmentation; for none leave out augment=")
        for part in parts:
            if not isinstance(part, Augmentation):
                raise UserError(
                    f"Compose joins kinds of Augmentation, and {part!r} is none: call it and these "
                    "one after another in a function of (images, generator)"
                )
        object.__setattr__(self, "parts", parts)

    @property
    def numbers(self) -> int:
        return sum(part.count() for part in self.parts)

    def shared(self, u: Tensor) -> Tensor:
        return torch.cat([part.shared(some) for part, some in self._split(u)], dim=-1)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        for part, some in self._split(u):
            images = checked(repr(part), part.apply(images, some), images)
        return images

    def _split(self, u: Tensor) -> Iterator[tuple[Augmentation, Tensor]]:
        sizes = [part.count() for part in self.parts]
        return zip(self.parts, u.split(sizes, dim=-1), strict=True)


def checked(name: str, changed: Any, examples: Tensor) -> Tensor:
    """What the augmentation of this name gave, if of the shape and dtype of what it got."""
    if (
        isinstance(changed, Tensor)
        and changed.shape == examples.shape
        and changed.dtype == examples.dtype
    ):
        return changed
    found = (
        f"{changed.dtype} {list(changed.shape)}"
        if isinstance(changed, Tensor)
        else type(changed).__name__
    )
    raise UserError(
        f"augment {name} must give examples of the same shape and dtype: "
        f"it got {examples.dtype} {list(examples.shape)} and gave {found}"
    )


def check_fields(augmentation: Any) -> None:
    """Raise a `UserError` for the first field of a dataclass that is not what its default is.

    That is a whole number, a number, or a pair of numbers; or None where the field may be None.
    """
    for field in fields(augmentation):
        value = getattr(augmentation, field.name)
        if isinstance(field.default, tuple):
            whole = isinstance(value, tuple | list) and len(value) == len(field.default)
            right = whole and all(_is_number(v) for v in value)
            wanted = f"a pair of numbers such as {field.default}"
        elif isinstance(field.default, int):
            right, wanted = isinstance(value, Integral) and _is_number(value), "a whole number"
        else:
            right = _is_number(value) or (value is None and "None" in str(field.type))
            wanted = "a number"
        if not right:
            raise UserError(
                f"{type(augmentation).__name__}: {field.name} must be {wanted}, not {value!r}"
            )
        # NumPy's numbers would be described in another way than equal ones of Python.
        object.__setattr__(augmentation, field.name, plain(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def share(who: str, **values: float) -> None:
    """Raise a `UserError` that names the first value of `who` outside 0..1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{who}: {name} must be between 0 and 1, not {value}")
