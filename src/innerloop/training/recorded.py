"""Meta-gradients captured once as a CUDA graph, and replayed.

A meta-gradient is thousands of small operations.  To launch them one by one takes a processor
longer than it takes a GPU to do them; a CUDA graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch

from innerloop.algorithms.base import Algorithm
from innerloop.errors import first_line
from innerloop.functional import Params
from innerloop.tasks.episodes import Episodes


class RecordedMetaGradient:
    """`algorithm.meta_gradient`, on a GPU from a recording where the last one fits.

    The first call with a given key runs eagerly; the second is captured.  Shapes, weight addresses
    and `Algorithm.phase` form the key.  All other Python values are those of the capture.
    An algorithm or network that cannot be captured, because it waits for the GPU, always runs
    eagerly.

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
        self, params: Params, episodes: Episodes, progress: float, keys: Sequence[int] | None = None
    ) -> tuple[Params, Params]:
        """As `Algorithm.meta_gradient`; the results are overwritten by the next call."""
        algorithm = self._algorithm
        algorithm.look(episodes.support_x[0])
        if algorithm.network.draws or algorithm._loss_draws is not None:
            # The masks of a recording would be the same ever after.
            return algorithm.meta_gradient(params, episodes, progress, keys=keys)
        if not (self._able and episodes.support_x.is_cuda):
            return algorithm.meta_gradient(params, episodes, progress)
        # Here, as nobody may wait for the GPU while a recording is made.
        n_way = algorithm.ways(episodes.support_y, episodes.n_way)
        shapes = ((t.shape, t.dtype, t.device) for t in episodes)
        weights = (p.data_ptr() for p in params.values())
        kind = (self._algorithm.phase(progress), n_way, *shapes, *weights)
        with torch.cuda.device_of(episodes.support_x):
            if kind != self._kind:
                # From the same memory as the recording, so that nothing is compiled again for it.
                self._episodes = Episodes(*(t.clone() for t in episodes), n_way=n_way)
                self._kind, self._graph = kind, None
                return self._algorithm.meta_gradient(params, self._episodes, progress)
            for place, given in zip(self._episodes, episodes, strict=True):
                place.copy_(given)
            if self._graph is None and not self._record(params, progress):
                return self._algorithm.meta_gradient(params, self._episodes, progress)
            assert self._graph is not None
            self._graph.replay()
            return self._found

    def _record(self, params: Params, progress: float) -> bool:
        """True if the step was recorded; nothing is computed yet."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads may do what they like meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._found = self._algorithm.meta_gradient(params, self._episodes, progress)
        except RuntimeError as error:
            # Where the end of the recording fails as well, its stream would stay the current one.
            torch.cuda.set_stream(stream)
            self._able = False
            reason = first_line(error.__context__ or error)
            self._warn(
                "steps cannot be recorded on the GPU, so that they take longer; usually because "
                f"the network or the algorithm waits for the GPU in every step ({reason})"
            )
            return False
        self._graph = graph
        return True
