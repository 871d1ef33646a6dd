"""The episodes of a meta-batch: drawn by compiled code, and their images fetched.

Turning and scaling the images takes one pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.ops.cpu import binding
from innerloop.ops.cpu.library import Source


class EpisodeSource:
    """Draws the episodes of an `EpisodeSampler`, and fetches their images.

    Args:
        arrays: by the names that they have in `kernels.c`: `images` `uint8` `[M, C, H, W]`, the
            others `int64`, with one number a class.  Nothing is checked here: a number that
            is not that of an image reads elsewhere.
        settings: the numbers, by name.
    """

    def __init__(self, arrays: dict[str, np.ndarray], settings: dict[str, float]) -> None:
        dtypes = {"images": np.uint8}
        self._arrays = {
            name: np.ascontiguousarray(array, dtype=dtypes.get(name, np.int64))
            for name, array in arrays.items()
        }
        addresses = {name: array.ctypes.data for name, array in self._arrays.items()}
        channels, height, width = arrays["images"].shape[1:]
        self._source = Source(
            **addresses, **settings, channels=channels, height=height, width=width
        )
        n, k, q = (self._source.n_way, self._source.k_shot, self._source.k_query)
        self._sizes = n * k, n * q
        self._shape = channels, height, width

    def plan(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is in `count` episodes from `start` on.

        Returns:
            Numbers of images, quarter turns as `numpy.rot90` counts them, and labels; each
            `int64` `[count, N*K + N*Q]`, the support set first.
        """
        index, turns, labels = np.empty((3, count, sum(self._sizes)), dtype=np.int64)
        self._run("plan_episodes", start, count, (index, turns, labels))
        return index, turns, labels

    def make(self, start: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images and labels of `count` episodes from `start` on.

        Returns:
            Images, float32 `[count, N*K, C, H, W]`, and labels `[count, N*K]` of the support
            sets, and those of the query sets.
        """
        # Said in full: compiled code fills them, whatever the defaults of PyTorch are.
        images: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        labels: dict[str, Any] = {"dtype": torch.int64, "device": "cpu"}
        support, query = self._sizes
        out = (
            torch.empty(count, support, *self._shape, **images),
            torch.empty(count, support, **labels),
            torch.empty(count, query, *self._shape, **images),
            torch.empty(count, query, **labels),
        )
        self._run("make_episodes", start, count, [tensor.numpy() for tensor in out])
        return out

    def _run(self, name: str, start: int, count: int, out: Sequence[np.ndarray]) -> None:
        # By addresses: PyTorch makes no tensor of a memory-mapped array that is read-only.
        binding.call(
            name,
            ctypes.byref(self._source),
            ctypes.c_uint64(start),
            ctypes.c_long(count),
            torch.get_num_threads(),
            *(ctypes.c_void_p(array.ctypes.data) for array in out),
        )
