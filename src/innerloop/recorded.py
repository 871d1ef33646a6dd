"""Meta-gradients recorded once on a GPU, and replayed.

A meta-gradient is thousands of small operations.  To launch them one by one takes a processor
longer than it takes a GPU to do them; a CUDA graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

from innerloop.algorithms.base import Algorithm
from innerloop.episodes import Episodes
from innerloop.functional import Params


class RecordedMetaGradient:
    """`algorithm.meta_gradient`, on a GPU from a recording where the last one fits.

    The first meta-gradient of its kind is computed as ever, the second one recorded; a change of
    shapes, of weights (others, not other values) or of `Algorithm.phase` makes it another kind.
    An algorithm or network that cannot be recorded, because it waits for the GPU on the way, is
    computed as ever always.

    Args:
        algorithm: what to compute with.
        warn: told once if it cannot be recorded.
    """

    def __init__(self, algorithm: Algorithm, warn: Callable[[str], None]) -> None:
        self._algorithm, self._warn = algorithm, warn
        self._kind: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._able = True

    def __call__(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        """As `Algorithm.meta_gradient`; the results are overwritten by the next call."""
        if not (self._able and episodes.support_x.is_cuda):
            return self._algorithm.meta_gradient(params, episodes, progress)
        weights = (p.data_ptr() for p in params.values())
        kind = (self._algorithm.phase(progress), *weights, *(t.shape for t in episodes))
        if kind != self._kind:
            self._kind, self._graph = kind, None
            return self._algorithm.meta_gradient(params, episodes, progress)
        if self._graph is None and not self._record(params, episodes, progress):
            return self._algorithm.meta_gradient(params, episodes, progress)
        assert self._graph is not None
        for place, given in zip(self._episodes, episodes, strict=True):
            place.copy_(given)
        self._graph.replay()
        return self._found

    def _record(self, params: Params, episodes: Episodes, progress: float) -> bool:
        """Whether it could be recorded; nothing is computed yet."""
        self._episodes = Episodes(*(torch.empty_like(t) for t in episodes))
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may do what they like meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._found = self._algorithm.meta_gradient(params, self._episodes, progress)
        except RuntimeError as error:
            self._able = False
            self._warn(
                "this network or algorithm waits for the GPU in every step, so that steps cannot "
                f"be recorded and take longer ({str(error).splitlines()[0]})"
            )
            return False
        self._graph = graph
        return True
