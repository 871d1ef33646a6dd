"""From numbers of examples to tensors on a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from innerloop.data.base import ClassIndexed, ImageClasses
from innerloop.data.on_device import DeviceImages, scaled
from innerloop.errors import UserError, one_of

INPUTS = {
    "ink": "1 - x/255 for dark ink on light paper, x/255 otherwise: ink is 1, paper 0",
    "unit": "x/255",
    "raw": "x as it is, 0 to 255",
}


class Fetch:
    """The examples of episodes, as tensors on a device.

    Images of bytes are scaled, and become float32, as do other floating-point numbers and
    truth values, unchanged; integers become int64.

    Args:
        data: the data set.
        inputs: how bytes are scaled, one of `INPUTS`.
        device: where the tensors go.

    Attributes:
        inverted: whether bytes are inverted.

    Raises:
        UserError: data that is not images of bytes cannot be scaled.
    """

    def __init__(self, data: ClassIndexed, inputs: str, device: torch.device) -> None:
        one_of(INPUTS, inputs=inputs)
        if inputs == "unit" and not data.pixels:
            raise UserError(
                f"inputs unit scales images of bytes, but {data.name} holds {data.examples.dtype} "
                f"of shape {list(data.example_shape)}, which is used as it is: leave inputs out"
            )
        self._data, self._device = data, device
        # A byte b becomes zero + b / unit.
        self.zero, self.unit = (0.0, 1.0 if inputs == "raw" else 255.0)
        self.inverted = inputs == "ink" and bool(data.dark_ink)
        if self.inverted:
            self.zero, self.unit = 1.0, -255.0
        self.images: np.ndarray | None = None
        self._on_device: DeviceImages | None = None
        if isinstance(data, ImageClasses):
            # Without the subclass of memory-mapped arrays, which costs time at every use.
            self.images = np.ascontiguousarray(data.images)
            if DeviceImages.fit(data, device):
                self._on_device = DeviceImages(data, device, self.zero, self.unit)

    def __call__(self, index: np.ndarray, turns: np.ndarray | None, there: Tensor) -> Tensor:
        """Examples `[M, ...]` by their numbers.

        Args:
            index: `int64` `[M]`.
            turns: `int64` `[M]`, how many quarter turns each is given; None for none.
            there: `int64` `[3, M]`, both on the device.
        """
        if self._on_device is not None:
            return self._on_device.fetch(there[0], None if turns is None else there[1])
        values = (
            self._data.examples.read(index)
            if self.images is None
            else self.images.take(index, axis=0)
        )
        if turns is not None:
            for quarter in (1, 2, 3):
                turned = turns == quarter
                values[turned] = np.rot90(values[turned], quarter, axes=(-2, -1))
        if self._data.pixels:
            # Bytes travel to the device: a quarter of the traffic.
            return scaled(self.send(torch.from_numpy(values)), self.zero, self.unit)
        dtype = np.int64 if values.dtype.kind in "iu" else np.float32
        return self.send(torch.from_numpy(values.astype(dtype, copy=False)))

    def send(self, tensor: Tensor) -> Tensor:
        """Copy a new tensor to the device without waiting for it."""
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)
