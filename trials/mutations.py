"""Valid inputs changed at random: bytes, values, pictures and tensors."""

from __future__ import annotations

import random
import re
import struct
import zlib
from typing import Any

import torch

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.5),
    *(1e-300, 1e38, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "0", "nan", "1e999", "\x00", "é" * 3, "x" * 10_000, "../../x", "/", "cuda", "cpu:7"),
    *(
        "meta",
        "mkldnn",
        "%s%n",
        "[bold]",
        "-1",
        "--help",
        "none",
        "null",
        "yes",
        "random",
        "glyphs",
    ),
    *([], {}, [[]], {"a": 1}, ["a", None], [0] * 1000),
)


def mutated(draw: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds, changed in one to six places."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(data) + 1)
        span = min(draw.choice((1, 2, 4, 8, 64, 1024)), len(data) - at)
        kind = draw.randrange(9)
        if kind == 0 and span:
            data[draw.randrange(at, at + span)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + span] = draw.randbytes(span)
        elif kind == 2:
            del data[at : at + span]
        elif kind == 3:
            data[at:at] = data[at : at + span] * draw.choice((1, 1, 100))
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            other = draw.choice(seeds)
            start = draw.randrange(len(other) + 1)
            data[at : at + span] = other[start : start + span]
        elif kind == 6:
            form = draw.choice(("<I", ">I", "<Q", ">Q", "<H", ">H", "B"))
            size = struct.calcsize(form)
            number = draw.choice(NUMBERS) % (1 << 8 * size)
            data[at : at + size] = struct.pack(form, number)
        elif kind == 7:  # a number in a text
            found = list(re.finditer(rb"\d+", data))
            if found:
                match = draw.choice(found)
                data[match.start() : match.end()] = str(draw.choice(NUMBERS)).encode()
        else:
            sign = draw.choice(
                (b"[", b"{", b'"', b"\n", b"\x00", b"\xff", b"&a", b"*a", b": ", b",")
            )
            data[at:at] = sign * draw.choice((1, 1, 1, 3, 5000))
    return bytes(data)


def mutated_values(draw: random.Random, value: Any) -> Any:
    """A JSON value with one place in it replaced."""
    if isinstance(value, (dict, list)) and value and draw.random() < 0.85:
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = draw.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        if isinstance(copy, dict) and draw.random() < 0.15:
            taken = copy.pop(key)  # type: ignore[arg-type]
            if draw.random() < 0.5:
                copy[draw.choice(("", "x", "iteration", "width", "\x00"))] = taken
        else:
            copy[key] = mutated_values(draw, copy[key])  # type: ignore[index,call-overload]
        return copy
    return draw.choice(VALUES)


def sound_png(data: bytes) -> bytes:
    """The chunks of a PNG with their checksums made right, as far as they can be made out."""
    out, at = bytearray(b"\x89PNG\r\n\x1a\n"), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        out += struct.pack(">I", max(0, len(body) - 4)) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def forged(
    draw: random.Random, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata, one of them changed."""
    if draw.random() < 0.6:
        changed = mutated_values(draw, metadata)
        return tensors, changed if isinstance(changed, dict) else {"config": changed}
    copy = dict(tensors)
    name = draw.choice(list(copy))
    tensor = copy.pop(name)
    kinds = [
        lambda t: t.to(torch.int64),
        lambda t: t.to(torch.bool),
        lambda t: t.to(torch.float64),
        lambda t: t * float("nan"),
        lambda t: t[None],
        lambda t: t.new_zeros(0),
        lambda t: t.new_zeros(()),
        lambda t: t.flatten(),
    ]
    kind = draw.randrange(len(kinds) + 2)
    if kind < len(kinds):
        copy[name] = kinds[kind](tensor)
    elif kind == len(kinds):
        copy[draw.choice(("", "/", "best/", name + "x", "optimizer/x/y", "\x00"))] = tensor
    return copy, metadata
