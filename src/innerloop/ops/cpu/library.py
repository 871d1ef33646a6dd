"""The library compiled for this processor, and the structures that its functions take."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

# Channels that a vector register of the kernels holds, at its most.
LANES = 16
# The types that there are kernels for, and how their functions' names end.
TYPES = {torch.float32: "float32", torch.float64: "float64"}
# That of the C sources' exported functions and structures (kernels.c has the same).
VERSION = 10
FOLDER = Path(__file__).parent


class Conv(ctypes.Structure):
    """A convolution; the fields are those of structures.h."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("tasks", "images", "height", "width", "inputs"),
            *("out_height", "out_width", "outputs"),
            *(
                "kernel_height",
                "kernel_width",
                "stride",
                "padding",
                "shared",
                "add",
                "half",
                "threads",
            ),
        )
    ]


class Norm(ctypes.Structure):
    """A norm, and pooling; the fields are those of structures.h."""

    _fields_ = [
        *((n, ctypes.c_int) for n in ("tasks", "images", "height", "width", "channels")),
        *((n, ctypes.c_int) for n in ("first", "pool")),
        ("slope", ctypes.c_double),
        ("eps", ctypes.c_double),
        *((n, ctypes.c_int) for n in ("threads", "groups", "group")),
    ]


class Attention(ctypes.Structure):
    """Attention of sequences to themselves; the fields are those of structures.h."""

    _fields_ = [
        *((n, ctypes.c_int) for n in ("sequences", "heads", "length", "width", "threads")),
        *((n, ctypes.c_long) for n in ("x_sequence", "x_head", "x_row")),
        ("scale", ctypes.c_double),
    ]


class Source(ctypes.Structure):
    """What episodes are drawn from; the fields are those of structures.h."""

    _fields_ = [
        ("key", ctypes.c_uint64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("pooled", "pool_start", "pool_size"),
                *("starts", "counts", "position", "images"),
            )
        ),
        ("pools", ctypes.c_long),
        *(
            (name, ctypes.c_int)
            for name in (
                *("n_way", "k_shot", "k_query", "turns", "by_class"),
                *("channels", "height", "width"),
            )
        ),
        *((name, ctypes.c_float) for name in ("zero", "unit")),
    ]


@functools.cache
def load() -> ctypes.CDLL | None:
    """The kernels compiled for this processor; None where there are none.

    Those that have been compiled from other sources are refused with a warning.
    """
    for variant in _variants():
        if file := file_of(variant):
            # The threads are those of PyTorch: its OpenMP library, loaded by now for all
            # to see, is the one that the kernels find.
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(str(file))
                return library if _agrees(library, file) else None
    return None


def file_of(variant: str) -> Path | None:
    """A build's library, if there is one: `"avx512"`, `"generic"` (AVX2) or `"neon"`."""
    # First what serves every version of Python: the other may be left from an older checkout.
    suffixes = sorted(EXTENSION_SUFFIXES, key=lambda suffix: "abi3" not in suffix)
    files = (FOLDER / f"_{variant}{suffix}" for suffix in suffixes)
    return next((file for file in files if file.exists()), None)


def _variants() -> list[str]:
    """The builds that run on this processor, the best one first."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ["neon"]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"DEFAULT": [], "AVX512": ["avx512", "generic"]}.get(capability, ["generic"])


def _agrees(library: ctypes.CDLL, file: Path) -> bool:
    """True if the library has our version and structures; it warns where not."""
    expected = [VERSION, *map(ctypes.sizeof, (Conv, Norm, Attention, Source))]
    found = (ctypes.c_int * len(expected))()
    # Before there were versions there was no such function.
    if describe := getattr(library, "describe_kernels", None):
        describe(found)
    if list(found) == expected:
        if not library.have_threads() and torch.get_num_threads() > 1:
            warnings.warn(
                f"{file} was compiled without OpenMP, and uses one thread of "
                f"{torch.get_num_threads()}.  On Linux compile it with GCC, or set "
                "INNERLOOP_KERNELS=0: PyTorch's operators use all threads",
                RuntimeWarning,
                stacklevel=2,
            )
        return True
    warnings.warn(
        f"{file} was compiled from other sources than this version of innerloop has, and is not "
        "used: PyTorch's operators do its work, more slowly.  Reinstall innerloop, or in a "
        "checkout run: python setup.py build_ext --inplace --force",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
