"""Images kept in a GPU's memory, from which episodes are made without the processor."""

from __future__ import annotations

from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from innerloop.data.base import ImageClasses

# The samplers of training, validation and test tasks share what they draw from.
_copies: WeakValueDictionary[tuple[int, torch.device], Tensor] = WeakValueDictionary()


class DeviceImages:
    """All images of a data set on one device.

    Args:
        data: the images.
        device: where they go.
        zero, unit: a byte b becomes `zero + b / unit`.
    """

    def __init__(self, data: ImageClasses, device: torch.device, zero: float, unit: float) -> None:
        device = _numbered(device)
        # `id()` is a valid key while this object keeps `data` alive.
        key = id(data.images), device
        copy = _copies.get(key)
        if copy is None:
            copy = _copies[key] = torch.from_numpy(np.array(data.images)).to(device)
        self._data, self._images, self._scale = data, copy, (zero, unit)
        # Where each pixel of a turned image comes from.
        side = np.arange(np.prod(data.image_shape[1:])).reshape(data.image_shape[1:])
        square = side.shape[0] == side.shape[1]
        turned = [np.rot90(side, quarter).ravel() for quarter in range(4 if square else 1)]
        self._places = torch.from_numpy(np.stack(turned)).to(device)

    @staticmethod
    def fit(data: ImageClasses, device: torch.device) -> bool:
        """True if the images take at most a quarter of the free memory."""
        if device.type != "cuda":
            return False
        device = _numbered(device)
        free, _ = torch.cuda.mem_get_info(device)
        return (id(data.images), device) in _copies or 4 * data.images.nbytes <= free

    def fetch(self, index: Tensor, turns: Tensor | None) -> Tensor:
        """The images with the numbers `index` `[M]`: float32 `[M, C, H, W]`.

        Args:
            index: `int64`, on the device.
            turns: `int64` `[M]`, how many quarter turns each is given, 0 to 3; None for none.
        """
        x = self._images.index_select(0, index)
        if turns is not None:
            places = self._places.index_select(0, turns)[:, None].expand(-1, x.shape[1], -1)
            x = x.flatten(2).gather(2, places).view_as(x)
        return scaled(x, *self._scale)


def scaled(images: Tensor, zero: float, unit: float) -> Tensor:
    """Bytes b as float32, `zero + b / unit`: the same on every device."""
    x = images.to(torch.float32)
    # A tensor: by a number a GPU does not divide, it multiplies with one over it.
    return x.div_(x.new_full((), unit)).add_(zero)


def _numbered(device: torch.device) -> torch.device:
    """`cuda` as the GPU that it means now."""
    return torch.empty(0, device=device).device
