"""A function of tensors as a graph of plain operators, for any number of examples.

PyTorch's own export does not trace `autograd.grad`.  So the function is recorded below autograd
first, where a derivative is a list of operators like any other, and that record is exported.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from innerloop.errors import UserError, first_line
from innerloop.exporting.derivatives import WrittenOut, decompositions
from innerloop.ops import kernels

aten = torch.ops.aten
# PyTorch changes classes of its own while it traces, so that one thread at a time makes a graph.
alone = threading.RLock()
# No operators for other runtimes: they only say how PyTorch handles memory and derivatives.
_SAME = (aten.detach.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default)
# How far a record may be from what it is of, relative to the greatest value: rounding, in several
# inner steps.
_TOLERANCE = 1e-2


def record(function: Callable[..., Any], *examples: Tensor) -> nn.Module:
    """A module that does the same for other values, and other sizes of all axes.

    Args:
        function: of tensors; what else it uses becomes a constant.
        examples: axes of one length stand for axes that always have the same length.

    Raises:
        UserError: it writes into memory in a way that cannot be followed.
    """
    graph = _recorded(function, examples)
    if any(node.target is aten.mkldnn_rnn_layer.default for node in graph.graph.nodes):
        # That LSTM leaves out what its own backward pass needs wherever gradients are switched off.
        # Other threads compute without the library for as long, which they see in time alone.
        with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=False):
            graph = _recorded(function, examples)
    if any(_writes(node) for node in graph.graph.nodes):
        graph = _recorded(torch.func.functionalize(graph), examples)
    _simplify(graph)
    return graph


def _recorded(function: Callable[..., Any], examples: tuple[Tensor, ...]) -> fx.GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        # Our compiled operators mean nothing to other runtimes.
        with kernels.without(), WrittenOut(), torch.no_grad():
            return make_fx(
                function,
                decomposition_table=decompositions(),
                tracing_mode="symbolic",
                _allow_non_fake_inputs=True,
            )(*examples)
    except UserError:
        raise
    except Exception as error:
        # Tracing raises whatever an operation makes of sizes that are symbols.
        raise _refused(error) from error


def _refused(error: Exception) -> UserError:
    why = f"{type(error).__name__}: {first_line(error)}"
    if "specialized it to be a constant" in str(error):
        why = "its code fixes their number, as len(x) does; write x.shape[0] instead"
    return UserError(f"this network cannot be exported for any number of images: {why}")


def _writes(node: fx.Node) -> bool:
    """Whether it writes into a tensor that it is given."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def sizes_unlike(*taken: int) -> Iterator[int]:
    """Lengths of axes that `record` can tell from others, and from each other."""
    return (n for n in (7, 11, 13, 17, 19, 23, 29, 31, 37) if n not in taken)


def exported(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    axes: dict[str, dict[int, Any]],
    meant: Callable[..., dict[str, Tensor]],
) -> torch.export.ExportedProgram:
    """PyTorch's exported program of `module`.

    Args:
        axes: by name of the argument, the axes that may have any length.
        meant: gives some of its outputs, by name, as they are without a record.

    Raises:
        UserError: the sizes of something depend on data in a way that cannot be exported; or the
            program gives other values than `meant`, for other examples of the same kind.
    """
    try:
        with kernels.without(), torch.no_grad():
            program = torch.export.export(module, examples, dynamic_shapes=axes, strict=False)
    except Exception as error:
        raise _refused(error) from error
    for node in program.graph.nodes:
        # They name files of this machine.
        for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(note, None)
    _check(program, examples, meant)
    return program


def _check(
    program: torch.export.ExportedProgram,
    examples: tuple[Tensor, ...],
    meant: Callable[..., dict[str, Tensor]],
) -> None:
    random = torch.Generator().manual_seed(0)
    others = [
        torch.randint(256, x.shape, generator=random, dtype=x.dtype)
        if x.dtype == torch.uint8
        else x
        for x in examples
    ]
    with torch.no_grad():
        found, values = program.module()(*others), meant(*others)
    for name, value in values.items():
        # What diverges has no values to compare.
        off = torch.where(value.isfinite(), found[name] - value, 0).abs().max().item()
        scale = torch.where(value.isfinite(), value, 0).abs().max().item()
        if not off <= _TOLERANCE * scale:
            raise UserError(
                "this network cannot be exported: what was recorded of it differs from it by "
                f"{off:.2g} where the greatest value is {scale:.2g}; look for a Python value, a "
                "branch or a random number that differs from one call to the next"
            )


def _simplify(module: fx.GraphModule) -> None:
    """Drop operations without effect on the values, and merge duplicates.

    A copy in another order of memory stays: some operations read the memory as it lies.
    """
    graph = module.graph
    _share_constants(module)
    for node in _nodes(graph):
        if node.target is aten.view.default:
            # Whether a view will do depends on what was dropped.
            node.target = aten.reshape.default
        if node.target in _SAME and _strides(node) == _strides(node.args[0]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is aten.squeeze.dims and _undoes_unsqueeze(node):
            node.replace_all_uses_with(node.args[0].args[0])
            graph.erase_node(node)
    _merge(graph)
    graph.eliminate_dead_code()
    module.recompile()


def _nodes(graph: fx.Graph) -> list[Any]:
    """Those of now, so that some can be erased meanwhile."""
    return list(graph.nodes)


def _strides(node: Any) -> tuple[str, ...]:
    """As text: sizes that were compared would become a condition of the record."""
    return tuple(map(str, node.meta["val"].stride()))


def _undoes_unsqueeze(node: Any) -> bool:
    before, axes = node.args
    return before.target is aten.unsqueeze.default and list(axes) == [before.args[1]]


def _share_constants(module: fx.GraphModule) -> None:
    """One attribute for each tensor, however often it was met."""
    known: dict[Any, str] = {}
    for node in _nodes(module.graph):
        if node.op == "get_attr":
            t = getattr(module, node.target)
            key = (t.data_ptr(), t.shape, t.stride(), t.dtype) if t.numel() else node.target
            node.target = known.setdefault(key, node.target)


def _merge(graph: fx.Graph) -> None:
    """Use the first of several nodes that compute the same."""
    known: dict[Any, Any] = {}
    for node in _nodes(graph):
        if node.op not in ("call_function", "get_attr"):
            continue
        key = (node.op, node.target, _frozen(node.args), _frozen(node.kwargs))
        first = known.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in value.items())
    # 1, 1.0 and True are equal, and not the same argument.
    return value if isinstance(value, fx.Node) else (type(value), repr(value))
