"""An exported program as an ONNX model."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from innerloop.errors import UserError, first_line

OPSET = 18


def onnx_bytes(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """The ONNX model of `program`, with `metadata` as text by name.

    Raises:
        UserError: `innerloop[export]` is not installed; or an operation has no translation, which
            the message names.
    """
    onnx = check_installed()
    names = [spec.arg.name for spec in program.graph_signature.input_specs if _is_given(spec)]
    outputs = [str(key) for key in program.call_spec.out_spec.context]
    quiet = logging.getLogger("torch.onnx._internal.exporter")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program,
                dynamo=True,
                # Runtimes do this when they load a model, in a hundredth of the time.
                optimize=False,
                verbose=False,
                opset_version=OPSET,
                input_names=names,
                output_names=outputs,
            )
    except Exception as error:
        raise UserError(_untranslated(error)) from error
    finally:
        quiet.setLevel(level)
    assert made is not None
    model = made.model_proto
    _strip(model)
    _name_axes(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


def check_installed() -> Any:
    """The module `onnx`.

    Raises:
        UserError: it, or what translates to it, is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "an ONNX file needs the packages onnx and onnxscript: pip install 'innerloop[export]', "
            "or choose the format torch-export"
        ) from error
    return onnx


def _is_given(spec: Any) -> bool:
    return bool(spec.kind == torch.export.graph_signature.InputKind.USER_INPUT)


def _untranslated(error: BaseException) -> str:
    """What cannot be translated, found along the causes of PyTorch's error."""
    cause: BaseException | None = error
    while cause is not None:
        found = re.search(r"target=torch\.ops\.([.\w]+)", str(cause))
        if found:
            return (
                f"the operation {found[1]} of this network has no translation to ONNX: choose the "
                "format torch-export, or a network without it"
            )
        cause = cause.__cause__
    return f"this network has no translation to ONNX: {first_line(error)}"


def _strip(model: Any) -> None:
    """Drop notes about where in the source code each node came from."""
    model.producer_name, model.doc_string = "innerloop", ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del graph.value_info[:]


# By input, what its first axis counts.
_COUNTED = {"images": "images", "support": "supports", "labels": "supports", "queries": "queries"}


def _name_axes(graph: Any) -> None:
    """Names in place of PyTorch's symbols for axes of any length; the rest counts the classes."""
    known = {}
    for given in graph.input:
        first = given.type.tensor_type.shape.dim[0]
        known[first.dim_param] = _COUNTED[given.name]
        first.dim_param = _COUNTED[given.name]
    for found in graph.output:
        for axis in found.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = known.get(axis.dim_param, "ways")
