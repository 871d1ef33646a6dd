"""The kernels in another process, such as an emulator's: every call goes there and comes back."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from innerloop.ops.cpu import library
from innerloop.ops.cpu.episodes import EpisodeSource

SOURCE = Path(__file__).with_name("remote.c")
KERNELS = Path(library.__file__).with_name("kernels.c")


def _packed(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}q", *numbers)


class Remote:
    """A running program.

    Args:
        command: the program, with the emulator before it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 20
        )

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def call(self, name, given, others=(), patches=()):
        """Run a function; what it writes is in its arrays afterwards.

        Args:
            name: of the function.
            given: arguments: structures, tensors, arrays, numbers, None.
            others: arrays besides.
            patches: (argument, offset, array): where in a structure the address of an array goes,
                which counts on from `given`.

        Returns:
            What the function returns; -1 if there is none of that name.
        """
        everything = [*given, *others]
        buffers = [_memory(a) for a in everything]
        pipe = self.process.stdin
        pipe.write(name.encode().ljust(32, b"\0") + _packed(len(given), len(everything)))
        for argument, buffer in zip(everything, buffers, strict=True):
            if buffer is None:
                pipe.write(_packed(-1, argument or 0))
            else:
                pipe.write(_packed(buffer.nbytes))
                pipe.write(buffer)
        pipe.write(_packed(len(patches), *(n for patch in patches for n in patch)))
        pipe.flush()
        status = int(self._read(8).view(np.int64)[0])
        for number, buffer in enumerate(buffers):
            if buffer is not None:
                answer = self._read(buffer.nbytes)
                if number < len(given) and not isinstance(given[number], ctypes.Structure):
                    buffer[:] = answer
        return status

    def _read(self, count: int) -> np.ndarray:
        answer = self.process.stdout.read(count)
        assert len(answer) == count, f"the process ended with status {self.process.wait()}"
        return np.frombuffer(answer, np.uint8)

    # In the place of functions of `binding` and `episodes`:

    def run(self, name, *arguments) -> None:
        (dtype, *_) = [a.dtype for a in arguments if isinstance(a, torch.Tensor)]
        assert self.call(f"{name}_{library.TYPES[dtype]}", arguments) == 0

    def episodes(self, source: EpisodeSource, name, start, count, out) -> None:
        arrays = list(source._arrays.values())
        given = [source._source, start, count, torch.get_num_threads(), *out]
        patches = [
            (0, getattr(library.Source, field).offset, len(given) + i)
            for i, field in enumerate(source._arrays)
        ]
        assert self.call(name, given, arrays, patches) == 0


def _memory(argument) -> np.ndarray | None:
    """The bytes of an argument, to be read and written; None for a number."""
    if argument is None or isinstance(argument, int):
        return None
    if isinstance(argument, ctypes.Structure):
        return np.frombuffer(argument, np.uint8)
    array = argument.numpy() if isinstance(argument, torch.Tensor) else argument
    return array.reshape(-1).view(np.uint8)
