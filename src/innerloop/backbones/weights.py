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

    Linear layers of the file where the network has an `nn.Identity` are passed over: it is how a
    last layer is taken off.

    Raises:
        UserError: there is no such file, it holds anything but weights, or not those of this
            network.
    """
    found = _read(Path(file))
    wanted = network.state_dict().keys()
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found) and not wanted & found.keys():
            found = {name.removeprefix(prefix): t for name, t in found.items()}
    strange = {name: t for name, t in found.items() if name not in wanted}
    lost = tuple(f"{name}." for name in (*without, *_taken_off(network, strange)))
    found = {n: t for n, t in found.items() if n in wanted or not (lost and n.startswith(lost))}
    tied = _tied(network)
    missing = [n for n in wanted if n not in found and not tied.get(n, set()) & found.keys()]
    unknown = [n for n in found if n not in wanted]
    for names, what in ((missing, "lacks"), (unknown, "holds what the network does not have,")):
        if names:
            hint = _hint(strange) if names is unknown else ""
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{file} {what} {names[0]}{more}: it belongs to another network{hint}")
    try:
        network.load_state_dict(found, strict=False)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise UserError(f"{file} belongs to another network: {lines[-1].strip()}") from error


def _taken_off(network: nn.Module, strange: Mapping[str, Tensor]) -> list[str]:
    """The name of the one `nn.Identity` in whose place the weights `strange` were; or nothing."""
    for path, module in network.named_modules():
        nothing = type(module) is nn.Identity or (type(module) is nn.Sequential and not len(module))
        if path and nothing and strange and all(n.startswith(f"{path}.") for n in strange):
            # A norm that is gone changes all that comes after it.
            return [path] if _is_linear(strange) else []
    return []


def _is_linear(tensors: Mapping[str, Tensor]) -> bool:
    """True for weights of linear layers alone."""
    axes = {"weight": 2, "bias": 1}
    return all(axes.get(name.rpartition(".")[2]) == t.ndim for name, t in tensors.items())


def _hint(strange: Mapping[str, Tensor]) -> str:
    """What to do where the network lacks one linear layer, which may be its last."""
    layers = {name.rpartition(".")[0] for name in strange}
    if len(layers) != 1 or not _is_linear(strange):
        return ""
    (layer,) = layers
    return (
        f"; or, if {layer} is a last layer that was taken off, leave torch.nn.Identity() in its "
        "place"
    )


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
