"""Weights and training state as safetensors files: nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from innerloop.errors import UserError
from innerloop.files import write_whole

FORMAT = "innerloop-1"


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with a JSON description to a safetensors file, whole or not at all.

    Args:
        path: the file.
        tensors: by name; any device and memory layout.
        metadata: plain values.

    Raises:
        UserError: the file cannot be written.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    data = to_bytes(plain, {"format": FORMAT, "innerloop": json.dumps(metadata)})
    with write_whole(path) as file:
        file.write(data)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Returns:
        `(tensors, metadata)`.

    Raises:
        UserError: the file is missing, damaged, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(
                    f"{path} was not written by innerloop: it is safetensors, but without "
                    "innerloop's description of model and settings"
                )
            # The open file has keys(), but cannot be iterated itself.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(header["innerloop"])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or not a safetensors file ({error})") from error


def fill(template: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """`tensors` with the names, types, devices and memory layouts of `template`.

    Raises:
        UserError: a name is missing or too many, or a shape differs; it names `source`.
    """
    if template.keys() != tensors.keys():
        odd = sorted(template.keys() ^ tensors.keys())
        raise UserError(f"{source} does not fit the network: {', '.join(odd)}")
    for name, t in template.items():
        if t.shape != tensors[name].shape:
            raise UserError(
                f"{source} does not fit the network: {name} has shape "
                f"{tuple(tensors[name].shape)}, not {tuple(t.shape)}"
            )
    return {name: torch.empty_like(t).copy_(tensors[name]) for name, t in template.items()}
