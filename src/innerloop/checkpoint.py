"""Weights and training state as safetensors files: nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from innerloop.errors import UserError
from innerloop.files import write_whole

# Raised when what is in the files changes its meaning.
VERSION = 2
FORMAT = f"innerloop-{VERSION}"


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with a JSON description to a safetensors file, whole or not at all.

    Any program that reads safetensors reads the tensors.  The file's own metadata holds
    `format` (with its version), `innerloop` (the description) and `sha256` of all the rest.

    Args:
        path: the file.
        tensors: by name; any device and memory layout.
        metadata: plain values.

    Raises:
        UserError: the file cannot be written.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    description = json.dumps(metadata)
    header = {"format": FORMAT, "innerloop": description, "sha256": _digest(plain, description)}
    data = to_bytes(plain, header)
    with write_whole(path) as file:
        file.write(data)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Returns:
        `(tensors, metadata)`.

    Raises:
        UserError: the file is missing, damaged, of another kind or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_format(path, header.get("format", ""))
            # The open file has keys(), but cannot be iterated itself.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = header["innerloop"]
        if _digest(tensors, description) != header["sha256"]:
            raise UserError(f"{path} is damaged: what is in it does not have its checksum")
        metadata = json.loads(description)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or not a safetensors file ({error})") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is damaged: its description is no list of names and values")
    return tensors, metadata


def _check_format(path: str | Path, found: str) -> None:
    name, _, version = found.partition("-")
    if name != "innerloop":
        raise UserError(
            f"{path} was not written by innerloop: it is safetensors, but without "
            "innerloop's description of model and settings"
        )
    if found != FORMAT:
        raise UserError(
            f"{path} has version {version!r} of innerloop's format, and this innerloop reads "
            f"version {VERSION}: use the one that wrote it"
        )


def _digest(tensors: dict[str, Tensor], description: str) -> str:
    """SHA-256 of the description and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"\n{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fill(template: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """`tensors` with the names, types, devices and memory layouts of `template`.

    Raises:
        UserError: a name is missing or too many, or a shape or kind differs; it names `source`.
    """
    if template.keys() != tensors.keys():
        odd = sorted(template.keys() ^ tensors.keys())
        raise UserError(f"{source} does not fit the network: {', '.join(odd)}")
    for name, t in template.items():
        if not tensors[name].is_floating_point():
            raise UserError(f"{source} does not fit the network: {name} holds no real numbers")
        if t.shape != tensors[name].shape:
            raise UserError(
                f"{source} does not fit the network: {name} has shape "
                f"{tuple(tensors[name].shape)}, not {tuple(t.shape)}"
            )
    return {name: torch.empty_like(t).copy_(tensors[name]) for name, t in template.items()}
