"""The page as static files, which need no server: the browser runs the inner loop.

`static/network.js` computes; this writes what it computes with beside it.  A network is written
only where that file has all of its parts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.algorithms import (
    ANIL,
    MAML,
    FineTune,
    MAMLPlusPlus,
    MetaSGD,
    ProtoNet,
    Reptile,
)
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.config import TrainConfig
from innerloop.data.base import ImageClasses
from innerloop.demo.answers import CODE, FIRST, Entry, as_png
from innerloop.errors import UserError
from innerloop.files import at_home, write_whole
from innerloop.inputs import CENTRED
from innerloop.models import Conv4
from innerloop.runs.loading import Loaded

STATIC = Path(__file__).parent / "static"
NETWORKS, SYMBOLS = "networks.js", "symbols.js"
# Classes for episodes, and drawings of each: five to learn from, one to ask.
CLASSES, DRAWINGS = 50, 6
# What network.js computes: the inner loops of these, with these parameters of Conv4.  The bias of
# a convolution makes no difference before a norm.
ALGORITHMS = (MAML, ANIL, MetaSGD, MAMLPlusPlus, Reptile, FineTune, ProtoNet)
BODY = [
    name for i in range(4) for name in (f"convs.{i}.weight", f"norms.{i}.weight", f"norms.{i}.bias")
]
HEAD = ["head.weight", "head.bias"]


def write_site(
    folder: str | Path, entries: dict[str, Entry], data: ImageClasses, classes: np.ndarray
) -> list[Path]:
    """Write the page with its networks and symbols into `folder`.

    Args:
        folder: made if need be; an older page in it is replaced.
        entries: the networks, see `innerloop.demo.answers.offered`.
        data: where its episodes come from, see `innerloop.demo.answers.episode_source`.
        classes: rows of the classes to take.

    Returns:
        The files.

    Raises:
        UserError: the page cannot run one of the networks, or `folder` holds something else.
    """
    folder = at_home(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder")
    if (folder / "index.html").exists() and not (folder / NETWORKS).exists():
        raise UserError(f"{folder} holds another page: name an empty folder")
    files = {file.name: file.read_bytes() for file in sorted(STATIC.iterdir()) if file.is_file()}
    files[SYMBOLS] = _script("symbols", _symbols(data, classes))
    places = {}
    for number, (name, entry) in enumerate(entries.items()):
        file = f"network-{number}.js"
        files[file] = _script("network", name, _network(name, entry.loaded))
        places[name] = {
            "file": file,
            "code": entry.code,
            "centred": entry.loaded.data_name in CENTRED,
        }
    later = {SYMBOLS, *(place["file"] for name, place in places.items() if name != FIRST)}
    site: dict[str, Any] = {
        "models": [entry.card.model_dump() for entry in entries.values()],
        "networks": places,
        "template": CODE,
    }
    own = len(json.dumps(site))
    at_first = own + sum(len(data) for name, data in files.items() if name not in later)
    in_all = own + sum(map(len, files.values()))
    site["kilobytes"] = [round(at_first / 1000), round(in_all / 1000)]
    files[NETWORKS] = f"innerloop.site = {json.dumps(site)};\n".encode()
    for old in set(folder.glob("network-*.js")) - {folder / name for name in files}:
        old.unlink()
    for name, content in files.items():
        with write_whole(folder / name) as out:
            out.write(content)
    return [folder / name for name in files]


def _script(function: str, *arguments: Any) -> bytes:
    """A script that calls `innerloop.FUNCTION`: a page from file:// can read nothing else."""
    given = ", ".join(json.dumps(each, separators=(",", ":")) for each in arguments)
    return f"innerloop.{function}({given});\n".encode()


def _symbols(data: ImageClasses, classes: np.ndarray) -> dict[str, Any]:
    """Drawings of classes that no network has seen, as PNG files in base64."""
    enough = [c for c in classes if data.counts[c] >= DRAWINGS][:CLASSES]
    if len(enough) < 10:
        raise UserError(
            f"{data.name} has {len(enough)} unseen classes of {DRAWINGS} drawings; ten are needed"
        )
    pictures = [[as_png(x[0]) for x in data.class_images(c)[:DRAWINGS]] for c in enough]
    return {"data": data.name, "pictures": pictures}


def _network(name: str, loaded: Loaded) -> dict[str, Any]:
    """What `innerloop.learn` of network.js takes.

    Raises:
        UserError: it names what network.js does not have.
    """
    model, algorithm, p = loaded.model, loaded.algorithm, loaded.params
    for what, carried in _carried(loaded).items():
        if not carried:
            raise UserError(
                f"the page without a server cannot run {name}: it has no {what}; leave {name} out, "
                "or serve it with innerloop demo"
            )
    assert isinstance(model, Conv4)
    facts = {
        "side": loaded.input_shape[1],
        "width": len(p["convs.0.weight"]),
        "halvings": model.halvings,
        "unit": model.unit_features,
        "scale": model.scale,
        "temperature": loaded.temperature,
    }
    if isinstance(algorithm, ProtoNet):
        parameters = {name: _parameter([p[name]], None) for name in BODY}
        return facts | {"body_stays": True, "parameters": parameters}
    assert isinstance(algorithm, GradientBased)
    # Beyond the steps of training nothing changes any more.
    steps = range(algorithm.inner_steps + 1)
    weights = [algorithm.start(p, 1) | algorithm.rest(p, 1, step) for step in steps]
    rates = [algorithm.rates(p, step) for step in steps]
    parameters = {
        name: _parameter(
            [own[name] for own in weights],
            [own[name] if isinstance(own, Mapping) else own for own in rates]
            if name in algorithm.adapted_names
            else None,
        )
        for name in (*BODY, *HEAD)
    }
    return facts | {
        "per_shot": algorithm.inner_reduction == "per_shot",
        "body_stays": algorithm.body_stays_in_use(),
        "parameters": parameters,
    }


def _parameter(
    values: Sequence[Tensor], rates: Sequence[Tensor | float] | None
) -> dict[str, list[dict[str, Any]] | None]:
    """A parameter at each step, and its inner rates; None where the inner loop leaves it alone."""
    return {
        # What the inner loop changes is what it has become.
        "values": _by_step(values if rates is None else values[:1]),
        "rates": None if rates is None else _by_step([torch.as_tensor(rate) for rate in rates]),
    }


def _by_step(values: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The numbers of each step, of which the last count for all further ones."""
    count = len(values)
    while count > 1 and torch.equal(values[count - 1], values[count - 2]):
        count -= 1
    return [_numbers(value) for value in values[:count]]


def _carried(loaded: Loaded) -> dict[str, bool]:
    """By name, whether each part that network.js is written for is the one at hand."""
    model, algorithm, config = loaded.model, loaded.algorithm, loaded.config
    carried = {
        f"network but Conv4 (this is {type(model).__name__})": type(model) is Conv4,
        f"algorithm but {', '.join(each.__name__ for each in ALGORITHMS)} (this is "
        f"{type(algorithm).__name__})": type(algorithm) in ALGORITHMS,
        "settings of a run of your own objects": isinstance(config, TrainConfig),
    }
    if not all(carried.values()):
        return carried
    assert isinstance(config, TrainConfig)
    carried = {
        "pooling but pool: max": config.pool == "max",
        "standardised pixels": not config.normalize,
        "oblong pictures": loaded.input_shape[-1] == loaded.input_shape[-2],
        "running statistics of batch norm (bn: frozen)": config.bn != "frozen",
    }
    if isinstance(algorithm, ProtoNet):
        return carried | {"distance but euclidean": algorithm.distance == "euclidean"}
    assert isinstance(algorithm, GradientBased)
    return carried | {
        "head but head: shared": config.head == "shared",
        "inner loss of your own": config.loss is None,
        "inner optimiser but SGD": config.inner_optimizer == "sgd",
        "momentum": config.inner_momentum == 0,
        "weight decay": config.inner_weight_decay == 0,
        "clipping of inner gradients": config.inner_max_norm is None,
    }


def _numbers(tensor: Tensor) -> dict[str, Any]:
    """Numbers in base64: of two bytes each where nothing is lost by it, else of four."""
    x = tensor.detach().float().numpy()
    half = x.astype(np.float16)
    fits = bool((half.astype(np.float32) == x).all())
    data = half.astype("<f2") if fits else x.astype("<f4")
    return {"half": fits, "data": base64.b64encode(data.tobytes()).decode()}
