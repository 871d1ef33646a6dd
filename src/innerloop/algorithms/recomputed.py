"""What `torch.utils.checkpoint` computes again in the backward pass, it computes as the first time.

There it calls a part of the network once more.  By then the context variables of the first call are
gone, and the modes that say how dropout and attention are computed: the part would get other
values, and gradients be wrong.  So the part takes both with it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

Again = Callable[[], AbstractContextManager[None]]
# The node of a part that is computed again by `use_reentrant=True`.
REENTRANT = "CheckpointFunctionBackward"


def repeat_within(hooks: Any, once_more: Callable[[], Again]) -> None:
    """Let the part that `hooks` are of be computed again in the contexts of now.

    Only the first call for a part counts, and hooks of other kinds are left alone.

    Args:
        hooks: the active hooks for saved tensors, under which `checkpoint` runs its part.
        once_more: gives what the part is to be computed within besides.
    """
    for cell in getattr(hooks[0], "__closure__", None) or ():
        part = cell.cell_contents
        compute = getattr(part, "recompute_fn", None)
        if compute is not None and not isinstance(compute, _Repeated):
            part.recompute_fn = _Repeated(compute, once_more())


class _Repeated:
    """A function that is called in the contexts in which this object was made."""

    def __init__(self, compute: Callable[..., Any], again: Again) -> None:
        self.compute, self.again = compute, again
        self.context = contextvars.copy_context()

    def __call__(self, *args: Any) -> None:
        # A copy, because parts inside of parts are computed again from within.
        self.context.copy().run(self._run, args)

    def _run(self, args: tuple[Any, ...]) -> None:
        with self.again():
            self.compute(*args)
