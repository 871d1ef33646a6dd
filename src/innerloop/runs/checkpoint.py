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
# Where the metadata names the tensors that are pairs of real numbers.
_PAIRS = "complex128"
# What reading a file may raise that somebody has changed.
_DAMAGE = (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError)


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with a description to a safetensors file, whole or not at all.

    Any program that reads safetensors reads the tensors.  The description is JSON in the
    file's own metadata, under the one name `innerloop`: `version` of this format, `sha256` of
    tensors and metadata, and the `metadata`.  (safetensors writes several names in random
    order, and the same content is to be the same bytes.)  Complex numbers of double precision,
    which safetensors does not know, are pairs of real ones, `[..., 2]`.

    Args:
        path: the file.
        tensors: by name; any device and memory layout.
        metadata: plain values.

    Raises:
        UserError: the file cannot be written.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    pairs = sorted(name for name, t in plain.items() if t.dtype is torch.complex128)
    if pairs:
        plain |= {name: torch.view_as_real(plain[name]) for name in pairs}
        metadata = metadata | {_PAIRS: pairs}
    header = {"version": VERSION, "sha256": _digest(plain, metadata), "metadata": metadata}
    data = to_bytes(plain, {"innerloop": json.dumps(header)})
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
            header = _header(path, file.metadata() or {})
            # The open file has keys(), but cannot be iterated itself.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = header["metadata"]
        if not isinstance(metadata, dict) or _digest(tensors, metadata) != header["sha256"]:
            raise UserError(f"{path} is damaged: what is in it does not have its checksum")
        for name in metadata.pop(_PAIRS, ()):
            # A copy, for PyTorch reads such numbers where 16 divides their address alone.
            tensors[name] = torch.view_as_complex(tensors[name].clone())
        return tensors, metadata
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except _DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or not a safetensors file ({error})") from error


def _header(path: str | Path, found: dict[str, str]) -> dict[str, Any]:
    """The description of the file, if it is one of ours."""
    header = json.loads(found.get("innerloop", "0"))
    if not isinstance(header, dict):
        raise UserError(
            f"{path} was not written by innerloop: it is safetensors, but without "
            "innerloop's description of model and settings"
        )
    if header.get("version") != VERSION:
        raise UserError(
            f"{path} has version {header.get('version')!r} of innerloop's format, and this "
            f"innerloop reads version {VERSION}: use the one that wrote it"
        )
    return header


def _digest(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """SHA-256 of the metadata and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(metadata).encode())
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
        for kind, is_it in (("real", Tensor.is_floating_point), ("complex", Tensor.is_complex)):
            if is_it(t) and not is_it(tensors[name]):
                raise UserError(
                    f"{source} does not fit the network: {name} holds no {kind} numbers"
                )
        if t.shape != tensors[name].shape:
            raise UserError(
                f"{source} does not fit the network: {name} has shape "
                f"{tuple(tensors[name].shape)}, not {tuple(t.shape)}"
            )
    return {name: torch.empty_like(t).copy_(tensors[name]) for name, t in template.items()}
