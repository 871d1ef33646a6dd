"""Drawings as other pens, papers, cameras and files would show them, to train on.

A network that has seen one pen on one paper knows little else.  `Conditions` gives training tasks
whole conditions: where and how large a drawing lies, how it is warped, how thick its strokes are,
how few pixels it has, blur, contrast, paper and its light, noise, specks and JPEG.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from innerloop.data.augmentation import check_fields, share
from innerloop.errors import UserError

# Pixels of the sides that pictures are made smaller to, where they have few.
_FEW = (8, 10, 12, 14, 17, 20)
# Ink, relative to the darkest of a picture, below which a pixel is no part of the drawing.
_FAINT = 0.3
# JPEG's own table for brightness (ITU-T T.81, table K.1).
_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Conditions:
    """Change tasks of drawings to other conditions, and leave the rest of the tasks as they are.

    A condition is a style, drawn at random: size, place, width of the strokes, number of pixels,
    blur, contrast, paper, shading, noise, specks, JPEG, each present or not.  In some of the
    changed tasks all images share one style, as where one person takes all pictures; in the others
    each image has its own.  Each is also turned, sheared and warped a little by itself.

    Args:
        share: how probably a task is changed, 0 to 1.
        together: how probably all images of a changed task share one style, 0 to 1.

    Images are grey, 1 for ink and 0 for paper (`inputs="ink"`), `[M, 1, H, W]` of one task.

    Raises:
        UserError: a share is out of range, or images have colour.
    """

    share: float = 0.5
    together: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        share("Conditions", share=self.share, together=self.together)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change the images of a task by numbers of a generator on their device."""
        if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise UserError(
                "augment conditions is for grey drawings, 1 for ink and 0 for paper, not for "
                f"{images.dtype} examples of shape {list(images.shape[1:])}: use crop, flip, "
                "color, affine, erase or a function of your own"
            )
        count, device = len(images), images.device
        like: dict[str, Any] = {"generator": generator, "device": device, "dtype": torch.float32}
        random = functools.partial(torch.rand, **like)
        changed, together = random(2).tolist()
        if changed >= self.share:
            return images
        styles = 1 if together < self.together else count
        style = _Style(random(styles, _Style.numbers).expand(count, -1))
        x = _placed(images, style, random(count, 7), random(count, 2, 4, 4))
        x = functional.avg_pool2d(_stroked(x, style.stroke), 2)
        x = _coarse(_blurred(x, style.blur), style.few)
        x = style.contrast * x.clamp(min=0) ** style.gamma
        paper = _paper(style, random(count, 5), images.shape[-2:])
        x = paper + (1 - paper) * x
        noise = torch.randn(x.shape, **like)
        x = x + style.noise * noise
        specks = random(x.shape)
        x = torch.where(specks < style.specks, specks / style.specks.clamp(min=1e-9), x)
        return _compressed(x.clamp(0, 1), style.jpeg).to(images.dtype)


class _Style:
    """What images have in common, `[M, 1, 1, 1]` each, of uniform numbers `[M, numbers]`."""

    numbers = 15

    def __init__(self, u: Tensor) -> None:
        columns = iter(u.unbind(dim=1))

        def some(share: float, low: float, high: float, off: float) -> Tensor:
            """Uniform from `low` to `high` in a share of the styles, `off` in the others."""
            drawn = next(columns)
            value = low + (high - low) * drawn / share
            return torch.where(drawn < share, value, torch.full_like(value, off)).view(-1, 1, 1, 1)

        self.size = some(0.6, math.log(0.5), math.log(1.6), 0.0).exp()
        self.place = some(0.5, 0.0, 1.0, 0.0)
        self.turn = some(1.0, 0.2, 1.0, 0.0)
        self.warp = some(0.8, 0.2, 1.0, 0.0)
        # Steps of thickening, or of thinning where negative, at twice the resolution.
        self.stroke = some(0.3, 0.0, 3.0, 0.0) + some(0.2, 0.0, -1.2, 0.0)
        self.blur = some(0.35, 0.2, 2.0, 0.0)
        self.few = (some(0.35, 0.0, len(_FEW) - 1e-3, -1.0)).floor().flatten()
        self.contrast = some(0.35, 0.35, 1.0, 1.0)
        self.gamma = some(0.3, math.log(0.5), math.log(1.7), 0.0).exp()
        self.paper = some(0.35, 0.0, 0.45, 0.0)
        self.shading = some(0.3, 0.05, 0.35, 0.0)
        self.noise = some(0.35, 0.02, 0.18, 0.0)
        self.specks = some(0.1, 0.001, 0.02, 0.0)
        # The factor of JPEG's table, at qualities of 70 to 15.
        self.jpeg = some(0.2, 0.6, 3.3, 0.0)


def _placed(images: Tensor, style: _Style, u: Tensor, waves: Tensor) -> Tensor:
    """Each drawing at its size and place, turned, sheared and warped: `[M, 1, 2H, 2W]`."""
    height, width = images.shape[-2:]
    u = 2 * u - 1
    top, bottom, left, right = _box(images)
    side = torch.maximum((bottom - top) / height, (right - left) / width)
    wanted = style.size.flatten() * (0.1 * u[:, 0]).exp()
    # Neither beyond the edges, nor too small to be seen.
    scale = wanted.minimum(1 / side).maximum((0.25 / side).clamp(max=1.0))
    # In halves of the width and the height from the middle, as `grid_sample` counts.
    x0, y0 = (left + right) / width - 1, (top + bottom) / height - 1
    room = (1 - side * scale).clamp(min=0)
    reach = style.place.flatten() * room
    x1 = (x0 + u[:, 1] * reach).maximum(-room).minimum(room)
    y1 = (y0 + u[:, 2] * reach).maximum(-room).minimum(room)
    amount = style.turn.flatten()
    angle, shear = 0.22 * amount * u[:, 3], 0.25 * amount * u[:, 4]
    stretch = (0.15 * amount * u[:, 5]).exp()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # From a place in the result to where it comes from: turned and scaled back, sheared back.
    a, b, c, d = cos * stretch, sin / stretch, -sin * stretch, cos / stretch
    a, b = a - shear * c, b - shear * d
    theta = torch.stack([a, b, x0 - a * x1 - b * y1, c, d, y0 - c * x1 - d * y1], dim=1)
    size = [len(images), 1, 2 * height, 2 * width]
    grid = functional.affine_grid(theta.view(-1, 2, 3), size, align_corners=False)
    smooth = smooth_between(2 * waves - 1, size[2], size[3])
    warp = 0.13 * style.warp / scale.clamp(min=1).view(-1, 1, 1, 1)
    grid = grid + (warp * smooth).permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid.to(images.dtype), align_corners=False)


def _box(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, bottom, left and right edge of the drawing, in pixels, `[M]`; of an empty one all."""
    ink = images[:, 0] > _FAINT * images.amax(dim=(1, 2, 3))[:, None, None]
    edges: list[Tensor] = []
    for axis in (2, 1):
        there = ink.any(dim=axis)
        # An empty picture is all drawing.
        there = (there | ~there.any(dim=1, keepdim=True)).int()
        edges += [there.argmax(dim=1), there.shape[1] - there.flip(1).argmax(dim=1)]
    top, bottom, left, right = (edge.float() for edge in edges)
    return top, bottom, left, right


def _stroked(x: Tensor, steps: Tensor) -> Tensor:
    """Strokes made thicker by so many pixels on each side, or thinner where it is negative."""
    for step in range(3):
        amount = (steps - step).clamp(0, 1)
        if bool((amount > 0).any()):
            x = torch.lerp(x, _grown(x), amount)
    for step in range(2):
        amount = (-steps - step).clamp(0, 1)
        if bool((amount > 0).any()):
            x = torch.lerp(x, -_grown(-x), amount)
    return x


def _grown(x: Tensor) -> Tensor:
    """The largest of 3 x 3 neighbours; many times as fast as PyTorch's max-pooling."""
    for dim in (-2, -1):
        inner = x.shape[dim] - 1
        wide = torch.maximum(x.narrow(dim, 0, inner), x.narrow(dim, 1, inner))
        ends = x.narrow(dim, 0, 1), x.narrow(dim, inner, 1)
        x = torch.maximum(torch.cat([ends[0], wide], dim), torch.cat([wide, ends[1]], dim))
    return x


def _blurred(x: Tensor, times: Tensor) -> Tensor:
    """A binomial filter of 3 x 3, applied so many times, up to 2."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).view(1, 1, 3, 3)
    for step in range(2):
        amount = (times - step).clamp(0, 1)
        if bool((amount > 0).any()):
            edged = functional.pad(x, [1] * 4, mode="replicate")
            x = torch.lerp(x, functional.conv2d(edged, kernel), amount)
    return x


def _coarse(x: Tensor, few: Tensor) -> Tensor:
    """Made smaller to sides of `_FEW[few]` pixels and large again; below 0 not at all."""
    size = x.shape[-2:]
    for number, side in enumerate(_FEW):
        rows = (few == number).nonzero().flatten()
        if len(rows) and side < min(size):
            small = functional.interpolate(x[rows], size=side, mode="area")
            large = functional.interpolate(small, size=size, mode="bicubic", align_corners=False)
            x = x.index_copy(0, rows, large)
    return x


def _paper(style: _Style, u: Tensor, size: torch.Size) -> Tensor:
    """How grey the paper is, 0 for white, with light that falls unevenly: `[M, 1, H, W]`."""
    y, x = (torch.linspace(-1, 1, n, device=u.device, dtype=u.dtype) for n in size)
    y, x = y[:, None].expand(size), x[None, :].expand(size)
    surface = torch.einsum("mk,khw->mhw", 2 * u - 1, torch.stack([x, y, x * y, x * x, y * y]))
    return (style.paper + style.shading * (0.5 + 0.5 * surface[:, None])).clamp(0, 0.8)


def _compressed(x: Tensor, factor: Tensor) -> Tensor:
    """As JPEG stores brightness, with its table times the factor; where that is 0, unchanged."""
    rows = (factor.flatten() > 0).nonzero().flatten()
    if not len(rows):
        return x
    height, width = x.shape[-2:]
    chosen = functional.pad(x[rows], [0, -width % 8, 0, -height % 8], mode="replicate")
    dct = _dct(x.device)
    blocks = 255 * chosen.unfold(2, 8, 8).unfold(3, 8, 8) - 128  # [m, 1, H/8, W/8, 8, 8]
    table = factor[rows].view(-1, 1, 1, 1, 1, 1) * x.new_tensor(_TABLE)
    blocks = dct.T @ (table * ((dct @ blocks @ dct.T) / table).round()) @ dct
    whole = blocks.transpose(3, 4).reshape(chosen.shape)
    return x.index_copy(0, rows, ((whole + 128) / 255).clamp(0, 1)[..., :height, :width])


def smooth_between(numbers: Tensor, height: int, width: int) -> Tensor:
    """A smooth surface `[..., height, width]` through 4 x 4 numbers `[..., 4, 4]`."""
    rows, columns = (_waves(n, numbers.device) for n in (height, width))
    return rows @ numbers @ columns.T


@functools.cache
def _waves(length: int, device: torch.device) -> Tensor:
    """From 4 numbers to a smooth curve through them, `[length, 4]`."""
    # It is kept, so it must not depend on what PyTorch's defaults are just now.
    eye = torch.eye(4, dtype=torch.float32, device="cpu")[None, None]
    curves = functional.interpolate(eye, size=(length, 4), mode="bicubic", align_corners=True)
    return curves[0, 0].to(device)


@functools.cache
def _dct(device: torch.device) -> Tensor:
    """The orthonormal discrete cosine transform of 8 numbers, `[8, 8]`."""
    k = torch.arange(8.0, dtype=torch.float32, device="cpu")
    rows = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    rows[0] /= math.sqrt(2)
    return rows.to(device)
