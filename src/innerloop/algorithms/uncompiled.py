"""What `torch.compile` made of functions is put aside while networks are called.

Compiled code has no second derivative, is made for one set of weights, and cannot take the tensors
that hold several tasks.  Where a network goes through it (a decorated method, a function of the
user's file), the function runs as it was written.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch

_lock = threading.Lock()
# How many threads are inside, and what to do when the last one leaves: PyTorch has one stance for
# all threads.
_inside = 0
_stance: Any = None


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Within this context compiled functions run as they were written.

    Nor is anything compiled here, if it is a compiled function that came here.
    """
    # Where it was never imported nothing was compiled.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    set_eval_frame = torch._C._dynamo.eval_frame.set_eval_frame
    before = set_eval_frame(None)
    _enter()
    try:
        yield
    finally:
        _leave()
        set_eval_frame(before)


def _enter() -> None:
    global _inside, _stance
    with _lock:
        if not _inside:
            _stance = torch.compiler.set_stance("force_eager")
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _stance.__exit__(None, None, None)
