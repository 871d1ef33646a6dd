"""A function of tensors as a graph of plain operators, for any number of examples.

PyTorch's own export does not trace `autograd.grad`.  So the function is recorded below autograd
first, where a derivative is a list of operators like any other, and that record is exported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from innerloop.errors import UserError, first_line
from innerloop.exporting.derivatives import decompositions
from innerloop.ops import kernels

aten = torch.ops.aten
# PyTorch changes classes of its own while it traces, so that one thread at a time makes a graph.
alone = threading.RLock()
# No operators for other runtimes: they only say how PyTorch handles memory and derivatives.
_SAME = (aten.detach.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default)


def record(function: Callable[..., Any], *examples: Tensor) -> nn.Module:
    """A module that does the same for other values, and other sizes of all axes.

    Args:
        function: of tensors; what else it uses becomes a constant.
        examples: axes of one length stand for axes that always have the same length.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # Our compiled operators mean nothing to other runtimes.
    with kernels.without(), torch.no_grad():
        graph = make_fx(
            function,
            decomposition_table=decompositions(),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
        )(*examples)
    _simplify(graph)
    return graph


def sizes_unlike(*taken: int) -> Iterator[int]:
    """Lengths of axes that `record` can tell from others, and from each other."""
    return (n for n in (7, 11, 13, 17, 19, 23, 29, 31, 37) if n not in taken)


def exported(
    module: nn.Module, examples: tuple[Tensor, ...], axes: dict[str, dict[int, Any]]
) -> torch.export.ExportedProgram:
    """PyTorch's exported program of `module`.

    Args:
        axes: by name of the argument, the axes that may have any length.

    Raises:
        UserError: the sizes of something depend on data in a way that cannot be exported.
    """
    try:
        with kernels.without(), torch.no_grad():
            program = torch.export.export(module, examples, dynamic_shapes=axes, strict=False)
    except Exception as error:
        raise UserError(
            "this network cannot be exported for any number of images: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    for node in program.graph.nodes:
        # They name files of this machine.
        for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(note, None)
    return program


def _simplify(module: fx.GraphModule) -> None:
    """Drop operations without effect on the values, and merge duplicates."""
    graph = module.graph
    _share_constants(module)
    if any(node.target._schema.is_mutable for node in _nodes(graph) if _is_operator(node)):
        _replace_in_place(graph)
    for node in _nodes(graph):
        if node.target is aten.view.default:
            # Whether a view will do depends on what was dropped.
            node.target = aten.reshape.default
        if node.target in _SAME:
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


def _is_operator(node: Any) -> bool:
    return isinstance(node.target, torch._ops.OpOverload)


def _replace_in_place(graph: fx.Graph) -> None:
    """Operations that write into a tensor of which nobody else knows, by those that do not."""
    for node in _nodes(graph):
        if not _is_operator(node) or not node.target._schema.is_mutable:
            continue
        name = node.target._schema.name.removeprefix("aten::").removesuffix("_")
        plain = getattr(getattr(aten, name, None), node.target._overloadname, None)
        if plain is None or len(node.args[0].users) > 1:
            raise UserError(f"the operation {node.target} writes in place: it cannot be exported")
        node.target = plain


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
