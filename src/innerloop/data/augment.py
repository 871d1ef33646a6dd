"""Random changes of the images of training tasks, as the few-shot papers use them.

Each is a function of a batch of images and a generator, and so may be one of your own.  Those
here take all images of a meta-batch in one pass, from uniform random numbers that depend on
the seed, the split and the episode alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from innerloop.augment_names import parse_augment
from innerloop.data.augmentation import Augment, Augmentation, Compose, check_fields, share
from innerloop.data.conditions import Conditions
from innerloop.data.warp import RandomWarp
from innerloop.errors import UserError

__all__ = [
    "Augment",
    "Augmentation",
    "ColorJitter",
    "Compose",
    "Conditions",
    "RandomAffine",
    "RandomChannelPermutation",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomWarp",
    "named",
]


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Pad each image on all sides, then cut out its size again, anywhere.

    Args:
        padding: pixels on each side, at least 1.
        fill: value of the padding; 0 is black, and paper where `inputs="ink"`; None repeats the
            image's edges.
    """

    padding: int = 4
    fill: float | None = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.padding < 1:
            raise UserError(f"RandomCrop: padding must be at least 1, not {self.padding}")

    @property
    def numbers(self) -> int:
        return 2

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        around = [self.padding] * 4
        if self.fill is None:
            padded = functional.pad(images, around, mode="replicate")
        else:
            padded = functional.pad(images, around, value=self.fill)
        # Every place for the window, as a view: [M, C, 2p + 1, 2p + 1, H, W].
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        top, left = (u * (2 * self.padding + 1)).long().unbind(dim=1)
        return windows[torch.arange(len(u), device=u.device), :, top, left]


@dataclass(frozen=True)
class RandomHorizontalFlip(Augmentation):
    """Swap left and right.

    Args:
        p: how probably, 0 to 1.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        share("RandomHorizontalFlip", p=self.p)

    @property
    def numbers(self) -> int:
        return 1

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        return torch.where(_each(u[:, 0] < self.p), images.flip(-1), images)


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Change brightness, contrast and saturation, in this order.

    Each by a factor that is uniform from 1 - a to 1 + a.  Images must be of 0..1
    (`inputs="unit"` or `"ink"`), and are clamped to it.  Grey ones have no saturation.

    Args:
        brightness: a for the brightness, 0 or more.
        contrast: a for the contrast.
        saturation: a for the saturation.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise UserError(f"ColorJitter: {name} must not be negative")

    @property
    def numbers(self) -> int:
        return 3

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise UserError(f"ColorJitter is for 1 or 3 channels, not {images.shape[1]}")
        reach = u.new_tensor([self.brightness, self.contrast, self.saturation])
        factors = (1 + (2 * u - 1) * reach).clamp_min(0)
        bright, contrast, saturation = (_each(f) for f in factors.unbind(dim=1))
        images = (images * bright).clamp(0, 1)
        mean = _grey(images).mean(dim=(-2, -1), keepdim=True)
        images = torch.lerp(mean.expand_as(images), images, contrast).clamp(0, 1)
        if images.shape[1] == 1:
            return images
        return torch.lerp(_grey(images).expand_as(images), images, saturation).clamp(0, 1)


@dataclass(frozen=True)
class RandomChannelPermutation(Augmentation):
    """Give all images of a task other colours: red, green and blue in another order.

    The order is one for the whole task, so that what has one colour keeps one colour.  It makes
    new tasks of those that there are, as turned classes do.

    Args:
        p: how probably a task is changed, 0 to 1; each of the five other orders is as probable.
    """

    by_task = True
    p: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        share("RandomChannelPermutation", p=self.p)

    @property
    def numbers(self) -> int:
        return 2

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        if images.shape[1] != 3:
            raise UserError(
                "RandomChannelPermutation is for colour pictures [M, 3, H, W], not for examples of "
                f"shape {list(images.shape[1:])}"
            )
        orders = torch.tensor(list(itertools.permutations(range(3))), device=u.device)
        which = torch.where(u[:, 0] < self.p, 1 + (5 * u[:, 1]).long(), 0)
        return images[torch.arange(len(u), device=u.device)[:, None], orders[which]]


@dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Overwrite a rectangle.

    Args:
        p: how probably, 0 to 1.
        scale: least and greatest share of the image's area.
        ratio: least and greatest proportion of height to width, drawn log-uniformly; sides
            that are longer than the image's are cut.
        value: what is written.

    References:
        Zhong et al. (2020), Random erasing data augmentation, AAAI.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        share("RandomErasing", p=self.p)
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(
                "RandomErasing: scale goes from a smaller to a greater share of the area, ratio "
                f"from a smaller to a greater proportion, not {self.scale} and {self.ratio}"
            )

    @property
    def numbers(self) -> int:
        return 5

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        area = _between(u[:, 1], self.scale) * height * width
        ratio = _between(u[:, 2], (math.log(self.ratio[0]), math.log(self.ratio[1]))).exp()
        h = (area * ratio).sqrt().round().clamp(1, height)
        w = (area / ratio).sqrt().round().clamp(1, width)
        top = (u[:, 3] * (height - h + 1)).floor()
        left = (u[:, 4] * (width - w + 1)).floor()
        # Without a rectangle where nothing is erased.
        h = torch.where(u[:, 0] < self.p, h, torch.zeros_like(h))
        inside = _inside(height, top, h)[:, None, :, None] & _inside(width, left, w)[:, None, None]
        return images.masked_fill(inside, self.value)


@dataclass(frozen=True)
class RandomAffine(Augmentation):
    """Turn, shift, scale and shear, with bilinear interpolation.

    Args:
        degrees: turned by up to so many degrees to either side.
        translate: shifted by up to so many of the width and of the height, 0 to 1.
        scale: least and greatest factor of the size.
        shear: sheared by up to so many degrees to either side.
        fill: value of what comes in, 0; None repeats the image's edges.
    """

    degrees: float = 10.0
    translate: tuple[float, float] = (0.1, 0.1)
    scale: tuple[float, float] = (0.9, 1.1)
    shear: float = 0.0
    fill: float | None = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.fill not in (0.0, None):
            raise UserError(f"RandomAffine: fill must be 0 or None, not {self.fill}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(
                f"RandomAffine: scale goes from a smaller to a greater factor above 0, "
                f"not {self.scale}"
            )
        if self.degrees < 0 or not 0 <= self.shear < 90 or min(self.translate) < 0:
            raise UserError("RandomAffine: degrees, translate and shear must not be negative")

    @property
    def numbers(self) -> int:
        return 5

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        angle = torch.deg2rad(_between(u[:, 0], (-self.degrees, self.degrees)))
        shear = torch.deg2rad(_between(u[:, 1], (-self.shear, self.shear))).tan()
        scale = _between(u[:, 2], self.scale)
        shift_x = _between(u[:, 3], (-self.translate[0], self.translate[0])) * width
        shift_y = _between(u[:, 4], (-self.translate[1], self.translate[1])) * height
        cos, sin = angle.cos() / scale, angle.sin() / scale
        # Where each pixel comes from, (x, y) in pixels from the middle: turned and scaled back,
        # then sheared back.
        c, d = -sin, cos
        a, b = cos - shear * c, sin - shear * d
        x0, y0 = a * -shift_x + b * -shift_y, c * -shift_x + d * -shift_y
        # affine_grid counts in halves of the width and the height.
        theta = torch.stack(
            [a, b * height / width, 2 * x0 / width, c * width / height, d, 2 * y0 / height], dim=1
        )
        grid = functional.affine_grid(
            theta.view(-1, 2, 3).to(images.dtype), list(images.shape), align_corners=False
        )
        outside = "border" if self.fill is None else "zeros"
        return functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def named(text: str, image_shape: tuple[int, ...]) -> Augmentation | Conditions:
    """What the setting `augment` names, one after another, for images of a shape `(C, H, W)`.

    `crop` pads by an eighth of the shorter side, or as many pixels as `crop=8` says, and `affine`
    turns, shifts, scales and shears a little; both repeat the image's edges.  `flip` swaps left and
    right, `color` changes brightness, contrast and saturation by up to 0.4, or `color=0.2`;
    `channels` puts red, green and blue into another order in all images of every second task, or
    of the share `channels=0.3`; `erase` overwrites a rectangle of every second image with 0.5, or
    of the share `erase=0.3`.  `warp` changes three of four drawings, or the share `warp=0.5`, as
    another hand would.  `conditions` stands alone: every second task, or the share
    `conditions=0.7`, looks as other pens, papers and cameras would show it, see `Conditions`.

    Raises:
        UserError: there is no such name, a number is out of range, or images do not suit.

    Example:
        >>> named("crop,flip", (3, 84, 84)).parts[0]
        RandomCrop(padding=10, fill=None)
    """
    parts: list[Augmentation] = []
    for name, number in parse_augment(text):
        try:
            made = _made(name, number, image_shape)
        except UserError as error:
            said = name if number is None else f"{name}={number:g}"
            raise UserError(f"augment {said}: {error}") from None
        if isinstance(made, Conditions):
            return made
        parts.append(made)
    return Compose(*parts)


def _made(
    name: str, number: float | None, image_shape: tuple[int, ...]
) -> Augmentation | Conditions:
    """The augmentation of one name, with the number behind it."""
    if name == "conditions":
        if image_shape[0] != 1:
            raise UserError(
                "it is for grey drawings, not for colour: use crop, flip, color, affine or erase"
            )
        return Conditions() if number is None else Conditions(number)
    if name == "crop":
        padding = min(image_shape[-2:]) // 8 if number is None else number
        if padding != int(padding):
            raise UserError("it must be a whole number of pixels")
        return RandomCrop(int(padding), fill=None)
    if name == "flip":
        return RandomHorizontalFlip(0.5 if number is None else number)
    if name == "color":
        return ColorJitter(*[0.4 if number is None else number] * 3)
    if name == "channels":
        if image_shape[0] != 3:
            raise UserError("it is for colour pictures: leave it out for grey")
        return RandomChannelPermutation(0.5 if number is None else number)
    if name == "affine":
        return RandomAffine(scale=(0.8, 1.25), shear=10.0, fill=None)
    if name == "warp":
        return RandomWarp(0.75 if number is None else number)
    return RandomErasing(0.5 if number is None else number, value=0.5)


def _each(values: Tensor) -> Tensor:
    """`[M]` as `[M, 1, 1, 1]`."""
    return values.view(-1, 1, 1, 1)


def _between(u: Tensor, ends: tuple[float, float]) -> Tensor:
    """Numbers of 0..1 stretched to lie between two ends."""
    return ends[0] + (ends[1] - ends[0]) * u


def _inside(length: int, start: Tensor, size: Tensor) -> Tensor:
    """Which of `length` pixels lie in the interval of each image: `[M, length]`."""
    places = torch.arange(length, device=start.device)
    return (places >= start[:, None]) & (places < (start + size)[:, None])


def _grey(images: Tensor) -> Tensor:
    """Luminance `[M, 1, H, W]`, by ITU-R BT.601 as Pillow's."""
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)
