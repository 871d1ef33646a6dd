"""Weights from a file into a network, without unpickling anything."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from innerloop.errors import UserError, first_line

# Where training code puts the weights in a checkpoint.
_INSIDE = ("state_dict", "model", "model_state_dict", "state_dict_ema")
# What wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_weights(network: nn.Module, file: str | Path, without: Sequence[str] = ()) -> None:
    """Fill `network` with the weights of a file.

    Args:
        network: it is written to.
        file: `.safetensors`; or `.pt`, `.pth`, `.bin`, read with `weights_only=True`.
        without: names of layers that the network has lost, whose weights the file may hold.

    Raises:
        UserError: there is no such file, it holds anything but weights, or not those of this
            network.
    """
    found = _read(Path(file))
    wanted = network.state_dict().keys()
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found) and not wanted & found.keys():
            found = {name.removeprefix(prefix): t for name, t in found.items()}
    lost = tuple(f"{name}." for name in without)
    found = {n: t for n, t in found.items() if n in wanted or not (lost and n.startswith(lost))}
    tied = _tied(network)
    missing = [n for n in wanted if n not in found and not tied.get(n, set()) & found.keys()]
    unknown = [n for n in found if n not in wanted]
    for names, what in ((missing, "lacks"), (unknown, "holds what the network does not have,")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{file} {what} {names[0]}{more}: it belongs to another network")
    try:
        network.load_state_dict(found, strict=False)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise UserError(f"{file} belongs to another network: {lines[-1].strip()}") from error


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} is damaged, or holds more than weights and could run code: save only the "
            "network's state_dict(), best as .safetensors"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        raise UserError(f"{file} is damaged or no file of weights ({first_line(error)})") from error
    for name in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise UserError(f"{file} holds no weights by name: save the network's state_dict()")
    return dict(found)


def _tied(network: nn.Module) -> dict[str, set[str]]:
    """The further names of shared tensors."""
    names: dict[int, set[str]] = {}
    for group in (network.named_parameters, network.named_buffers):
        for name, tensor in group(remove_duplicate=False):
            names.setdefault(id(tensor), set()).add(name)
    return {name: same for same in names.values() if len(same) > 1 for name in same}
