"""Regression tasks: the sine waves of the MAML paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from innerloop.errors import UserError, at_least
from innerloop.tasks.counter import make_key, random_uniform
from innerloop.tasks.episodes import Episodes

# Each random decision of an episode draws from a stream of its own.
_WAVE, _SUPPORT, _QUERY = range(3)


class SinusoidSampler:
    """Draws tasks y = amplitude * sin(x - phase), each to be learnt from K points.

    Finn et al. 2017, section 5.1: amplitude 0.1 to 5, phase 0 to π, x from -5 to 5, all
    uniform.  Episode `i` is a pure function of `(seed, split, i)`.

    Args:
        k_shot: K, support points.
        k_query: query points.
        seed: any integer.
        split: name of the part; waves of different parts are independent.
        amplitude: least and greatest.
        phase: least and greatest, in radians.
        span: least and greatest x.
        device: where the tensors go.

    Raises:
        UserError: a value out of range.

    Example:
        >>> SinusoidSampler(k_shot=5, k_query=20).batch(0, 8).query_x.shape
        torch.Size([8, 20, 1])
    """

    n_way = None
    data_name = "sinusoid"
    input_shape = (1,)

    def __init__(
        self,
        k_shot: int = 10,
        k_query: int = 10,
        *,
        seed: int = 0,
        split: str = "train",
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, math.pi),
        span: tuple[float, float] = (-5.0, 5.0),
        device: str | torch.device = "cpu",
    ) -> None:
        at_least(1, k_shot=k_shot, k_query=k_query)
        for name, (low, high) in (("amplitude", amplitude), ("phase", phase), ("span", span)):
            if not low < high:
                raise UserError(
                    f"{name} must go from a smaller to a greater number, not {low, high}"
                )
        self.k_shot, self.k_query, self.seed, self.split = k_shot, k_query, seed, split
        self.amplitude, self.phase, self.span = amplitude, phase, span
        self.device = torch.device(device)
        self._key = make_key(seed, split)

    @property
    def class_names(self) -> list[str]:
        """None: waves are not classes."""
        return []

    def waves(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitude and phase of the episodes from `start`, `[count, 1]` each."""
        u = random_uniform(self._key, _WAVE, start, count, 2)
        return _between(u[:, :1], self.amplitude), _between(u[:, 1:], self.phase)

    def batch(self, start: int, count: int) -> Episodes:
        """Episodes `start` to `start + count - 1`.

        Returns:
            `Episodes` of float32: `support_x` and `support_y` `[T, K, 1]`, `query_x` and
            `query_y` `[T, Q, 1]`.
        """
        amplitude, phase = self.waves(start, count)
        parts = []
        for stream, points in ((_SUPPORT, self.k_shot), (_QUERY, self.k_query)):
            x = _between(random_uniform(self._key, stream, start, count, points), self.span)
            y = amplitude * np.sin(x - phase)
            parts += [torch.from_numpy(a[:, :, None]).float().to(self.device) for a in (x, y)]
        return Episodes(*parts)

    def protocol(self) -> dict[str, Any]:
        """The description of the tasks for a result, as plain values."""
        return {
            "data": self.data_name,
            "part": self.split,
            "k_shot": self.k_shot,
            "k_query": self.k_query,
            "amplitude": list(self.amplitude),
            "phase": list(self.phase),
            "span": list(self.span),
            "seed": self.seed,
        }


def _between(u: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Numbers of 0..1 stretched to lie between two ends."""
    return ends[0] + (ends[1] - ends[0]) * u
