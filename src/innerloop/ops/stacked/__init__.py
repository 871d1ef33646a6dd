"""T tasks at once through a network that was written for one: `Stacked` and its rules.

A `Stacked` tensor looks like that of one task, `[B, ...]`, and holds those of T tasks, `[T, B,
...]`.  A network that is called on such inputs, with such weights, computes all tasks together and
knows nothing of it.  `rules.py`, `layers.py`, `norms.py` and `recurrent.py` say what the usual
operations do with the axis of tasks; `blocks.py` computes convolution, norm, pooling and activation
in one go where they follow each other; whatever else there is goes through `torch.func.vmap`, one
operation at a time.
"""

from innerloop.ops.stacked import layers as _layers
from innerloop.ops.stacked import norms as _norms
from innerloop.ops.stacked import recurrent as _recurrent
from innerloop.ops.stacked.tensor import (
    NotStackableError,
    Stacked,
    apart,
    calls,
    noticing_apart,
    of_tasks,
    stacked,
)

__all__ = [
    "NotStackableError",
    "Stacked",
    "apart",
    "calls",
    "noticing_apart",
    "of_tasks",
    "stacked",
]

del _layers, _norms, _recurrent
