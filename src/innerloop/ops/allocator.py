"""Make the C library keep freed memory for the next iteration."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_memory() -> bool:
    """Stop glibc from handing large buffers back to the system after every operation.

    By default each large tensor is a fresh mapping, whose pages are faulted in one by
    one: up to a third of the time of a meta-gradient on a CPU.  It affects the
    whole process, so the command line calls it and the library does not.

    Returns:
        Whether the C library took the settings (False on macOS, Windows and musl).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
    return all(mallopt(*setting) == 1 for setting in settings)
