"""Writes an adapted network, or a learner, to a file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from innerloop.algorithms.base import Algorithm
from innerloop.config import TrainConfig
from innerloop.errors import UserError, number_of_steps, one_of
from innerloop.exporting import network, tracing
from innerloop.exporting.network import Learnt, Pixels
from innerloop.exporting.onnx_file import check_installed, onnx_bytes
from innerloop.files import write_whole
from innerloop.in_use import algorithm_in_use, ways_in_use, with_classes_alike
from innerloop.inputs import PixelInputs, check_ink
from innerloop.keywords import keywords_checked
from innerloop.learners import AdaptedNetwork, SeveralViews
from innerloop.runs.loading import Loaded, load_shared

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
# The name of the metadata inside a file of PyTorch.
METADATA = "metadata.json"
FEATURES = (
    "what learns from the features of a pretrained network cannot be exported yet: export that "
    "network by its own library, or meta-train one on pictures; innerloop adapt and "
    "FewShotClassifier use it"
)


def write_adapted(
    path: str | Path, learnt: Learnt, classes: list[Any], *, format: str | None = None
) -> dict[str, str]:
    """Write a network that has learnt `classes`.

    Returns:
        What the file says of itself.
    """
    format = _format(path, format)
    metadata = {
        **_described(learnt.algorithm, tuple(learnt.support_x.shape[1:]), learnt.temperature),
        "classes": json.dumps(classes, ensure_ascii=False),
    }
    with tracing.alone:
        _write(path, network.adapted(learnt), metadata, format)
    return metadata


@keywords_checked
def export(
    run: str | Path | Loaded,
    path: str | Path,
    *,
    learner: bool = True,
    inner_steps: int | None = None,
    bn: str = "support",
    ink: str = "auto",
    format: str | None = None,
) -> dict[str, str]:
    """Write the learner of a trained network: one graph that learns from a support set.

    It takes `support`, bytes `[S, C, H, W]`; `labels` `[S]`, integers 0..N-1 that all occur; and
    `queries`, bytes `[Q, C, H, W]`.  It returns `logits` and `probabilities`, `[steps + 1, Q, N]`:
    before the first and after each inner step.  N is the greatest label + 1.  For one adapted
    network, see `FewShotClassifier.export`.

    Args:
        run: a run folder, a weights file, one of `pretrained_names`, or what `load` gave.
        path: the file to write.
        learner: true; in the call it says what is written.
        inner_steps: None for those of `FewShotClassifier` where each class has one picture.
        bn: `"support"` or `"transductive"`, see `FewShotClassifier`.
        ink: `"auto"`, `"dark"` or `"light"`, see `FewShotClassifier`.
        format: `"onnx"` or `"torch-export"`; None to go by the ending of `path`.

    Returns:
        What the file says of itself, as text by name.

    Raises:
        UserError: a package is missing, a value is out of range, or the network cannot be exported.

    Example:
        >>> import innerloop
        >>> innerloop.export("omniglot-protonet", "learner.pt2")["algorithm"]  # doctest: +SKIP
        'ProtoNet'
    """
    if not learner:
        raise UserError(
            "an adapted network needs a support set: call FewShotClassifier(run).fit(images, "
            "labels).export(path)"
        )
    format = _format(path, format)
    number_of_steps(inner_steps=inner_steps)
    loaded = run if isinstance(run, Loaded) else load_shared(run)
    if loaded.computed_by:
        raise UserError(FEATURES)
    if loaded.config.regression or len(loaded.input_shape) != 3:
        raise UserError(
            "this network was not trained on classes of pictures, whose learners are exported"
        )
    algorithm = algorithm_in_use(loaded, bn)
    config = loaded.config
    tested = config.eval_inner_steps
    way = ways_in_use(algorithm, tested, several=False, asked=inner_steps)[0]
    algorithm, steps = way.algorithm, way.steps or way.algorithm.inner_steps
    metadata = {
        **_described(algorithm, loaded.input_shape, loaded.temperature),
        "inner_steps": str(steps if algorithm.inner_steps else 0),
        "ink": ink,
    }
    pixels = Pixels(config.inputs == "raw", _inverted(loaded, ink))
    with tracing.alone:
        program = network.learner(
            with_classes_alike(algorithm, recorded=True),
            loaded.params,
            loaded.input_shape,
            pixels,
            inner_steps=steps,
            n_way=_ways(algorithm, loaded),
            temperature=loaded.temperature,
        )
        _write(path, program, metadata, format)
    return metadata


def _inverted(loaded: Loaded, ink: str) -> bool | None:
    """As `FewShotClassifier` finds it; None where the support set decides."""
    check_ink(loaded, ink)
    if ink != "auto":
        return ink == "dark"
    return None if loaded.knows_ink else bool(loaded.inverted)


def _ways(algorithm: Algorithm, loaded: Loaded) -> int | None:
    """N of a network that is made for so many classes; None where any number will do."""
    if algorithm.counts_ways:
        return None
    if isinstance(loaded.config, TrainConfig):
        return loaded.config.n_way
    # The number of outputs is the same for any weights, and an algorithm may hold some otherwise.
    weights = {n: p.detach() for n, p in algorithm.model.named_parameters()} | loaded.params
    with torch.no_grad():
        return int(algorithm.forward(weights, torch.zeros(2, *loaded.input_shape)).shape[-1])


def _described(algorithm: Algorithm, shape: tuple[int, ...], temperature: float) -> dict[str, str]:
    return {
        "algorithm": type(algorithm).__name__,
        "bn": algorithm.bn,
        "input_shape": json.dumps(list(shape)),
        "temperature": repr(temperature),
    }


def write_classifier(
    path: str | Path,
    fitted: Any,
    inputs: Any,
    temperature: float,
    classes: list[Any],
    *,
    format: str | None,
) -> dict[str, str]:
    """See `FewShotClassifier.export`; `fitted` and `inputs` are what it learnt and takes."""
    if isinstance(fitted, SeveralViews):
        raise UserError(
            "an exported network sees a picture once: fit without views=, and export that"
        )
    if not isinstance(fitted, AdaptedNetwork) or not isinstance(inputs, PixelInputs):
        raise UserError(FEATURES)
    if inputs.prepare_ == "ink":
        raise UserError(
            "an exported network takes pictures as they are, and this one has learnt from "
            "prepared ones: fit with prepare='none', and export that"
        )
    learnt = Learnt(*fitted.parts, Pixels(inputs.raw, inputs.inverted), temperature)
    return write_adapted(path, learnt, classes, format=format)


def _format(path: str | Path, format: str | None) -> str:
    """The format asked for, or that of the ending of `path`; checks its packages."""
    if format is None:
        by_ending = {ending: name for name, ending in FORMATS.items()}
        format = by_ending.get(Path(path).suffix)
        if format is None:
            raise UserError(
                f"{path} must end in {' or '.join(by_ending)}, or give the format: "
                f"{' or '.join(FORMATS)}"
            )
    one_of(FORMATS, format=format)
    if format == "onnx":
        check_installed()
    return format


def _write(
    path: str | Path, program: ExportedProgram, metadata: Mapping[str, str], format: str
) -> None:
    if format == "onnx":
        data = onnx_bytes(program, metadata)
    else:
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(dict(metadata))})
        data = buffer.getvalue()
    with write_whole(path) as file:
        file.write(data)
