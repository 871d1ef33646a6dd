"""What a network does beside computing outputs, found out by calling copies of it.

`Network` calls it with other weights; here it is tried what that has to heed.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.caches import kept_in_globals
from innerloop.algorithms.kept import changed, filled_before, numbers_outside, warn_of_numbers
from innerloop.algorithms.modules import changing
from innerloop.algorithms.recomputed import REENTRANT
from innerloop.algorithms.rows import TRAINED, copied, differ, moved, varied
from innerloop.algorithms.trials import Tried
from innerloop.errors import UserError, first_line
from innerloop.functional import Params
from innerloop.models.layers import HeadedModel
from innerloop.models.unregistered import OF_EVERY_MODULE
from innerloop.references import at_line, is_of_user
from innerloop.trees import mapped, tensors_in

_log = logging.getLogger("innerloop")


_NOT_REPEATED = (
    "the network gives other outputs when it is called again with the same weights, examples and "
    "seeds, so that its numbers would depend on how often and in which order it is called: it "
    "draws from a generator, or counts, where its copies cannot have their own{}. Hold the "
    "generator or the number as an attribute of the module (self.generator, self.calls) and use "
    "it by self in forward"
)


class Inspected(Tried):
    """A network that is tried; the attributes are those of `Network`."""

    mixes_rows: bool
    entangled: bool
    takes: tuple[int, ...] | None
    without: Collection[str]
    left_behind: set[str]
    _written: set[str]
    _writes_inputs: bool
    _weights_as: int

    @abstractmethod
    def _copy(self, params: Params, *, every_buffer: bool = False) -> nn.Module:
        """The module with other weights."""

    def why_not_taken(self, x: Any) -> str | None:
        """Why the network itself fails on examples `[B, ...]`; None if it does not."""
        try:
            self._call_once({}, x)
        except Exception as error:
            what = at_line(error) if is_of_user(error) else first_line(error)
            shape = tuple(x.shape[1:]) if isinstance(x, Tensor) else type(x).__name__
            takes = "" if self.takes is None else f"; it was trained on {self.takes}"
            return self._why_of_another_type(x, what) or (
                f"the network cannot take examples of shape {shape}{takes} ({what})"
            )
        return None

    def _why_of_another_type(self, x: Any, what: str) -> str | None:
        """That the type of `x` is at fault, if the network takes the same values as another."""
        if not isinstance(x, Tensor):
            return None
        kind = next((p.dtype for _, p in self.named() if p.is_floating_point()), None)
        # Real numbers, or what an embedding looks up.
        for dtype in (kind, torch.int64):
            if dtype not in (None, x.dtype) and self.takes_as_given({}, x.to(dtype)):
                of = f"has weights of {kind} and " if dtype is kind else ""
                return (
                    f"the network {of}cannot take examples of {x.dtype} ({what}): bring both to "
                    f"one type, for instance by examples.to({dtype}), which forward of the network "
                    "can do, too"
                )
        return None

    def takes_as_given(self, params: Params, x: Any) -> bool:
        """True if the network does not fail on examples `[B, ...]` with these weights."""
        try:
            self._call_once(params, x)
        except Exception:  # a network may raise anything
            return False
        return True

    def _call_once(self, params: Params, x: Any) -> None:
        with torch.no_grad(), noise.generators_kept(), noise.calls(training=False, keys=(0,)):
            self(params, copied(x))

    def _look(self, x: Any, modes: Sequence[bool]) -> bool:
        """Sets what the attributes say, if the forward pass works; see `Network.look`.

        Args:
            x: examples.
            modes: whether in training, of each pass.
        """
        trained = {id(p): n for n, p in self.named() if p.requires_grad}
        hidden, counted, filled, rewritten, outside = (set[str]() for _ in range(5))
        before_this: dict[int, tuple[str, Tensor]] = {}
        aliases = self._aliases()
        for in_training in modes:
            leaves: Params = {
                n: nn.Parameter(p.detach().clone(), p.requires_grad) for n, p in self.named()
            }
            try:
                with torch.enable_grad(), noise.calls(training=in_training):
                    self.entangled |= self._is_entangled(leaves, x)
                    with noise.copies_watched() as copies:
                        module = self._copy(leaves, every_buffer=True)
                    versions = {n: (b, b._version) for n, b in _state(module)}
                    before = _values(module)
                    given = copied(x)
                    with noise.watching(copies, given) as seen:
                        out = module(given)
                    self.left_behind |= _left_behind(module)
                    self._writes_inputs |= any(t._version for t in tensors_in(given))
                    other = [(n, p) for n, p in self.named() if _changed(leaves[n], p)]
                    self.writes_weights |= bool(other)
                    # Another type is no other value.
                    rewritten |= {n for n, p in other if p.dtype == leaves[n].dtype}
                    before_again = numbers_outside(self.module)
                    repeats = self._repeats(out, x)
                    counted |= changed(before_again, numbers_outside(self.module))
                    filled |= self._filled_before(leaves, x)
                    outside |= self._kept_outside(leaves, x)
                    self.without = self._unreached(leaves, out)
                    hidden |= self._hidden(leaves, out, x)
            except Exception:
                # The call that counts says what is wrong; there may be more to a forward pass.
                self.draws = True
                return False
            if not repeats:
                places = ", ".join(changing(self.module))
                raise UserError(_NOT_REPEATED.format(places and f" (look at {places})"))
            self._draws_globally[in_training] = seen.globally
            after = dict(_state(module))
            # What each call overwrites, as the older spectral norm does, is used as it is then.
            replaced = {n for n, (b, _) in versions.items() if after.get(n) is not b}
            aliases = {n: w for n, w in aliases.items() if n not in replaced}
            written = {n for n, (b, v) in versions.items() if after.get(n) is b and b._version != v}
            # Running statistics change without a new version, where it calls train() itself.
            written |= {n for n, b in before.items() if _changed(versions[n][0], b)}
            only = [n for n in written - self._written if versions[n][0].is_floating_point()]
            if in_training and only:
                _log.warning(
                    "the network writes to %s in training alone. Every call begins with the values "
                    "that the module has, and what it writes is dropped: where evaluation reads "
                    "them, as spectral norm does, its outputs are others than in training. Set "
                    "them beforehand, or compute without them",
                    ", ".join(sorted(only)),
                )
            self._written |= written
            nodes = nodes_of(out)
            reached = leaves_of(nodes)
            if not {id(p) for p in leaves.values() if p.requires_grad} <= reached:
                nodes |= self._nodes_from_inputs(leaves, x)
            if any(node.name() == REENTRANT for node in nodes):
                raise UserError(
                    "the network calls torch.utils.checkpoint with use_reentrant=True, through "
                    "which an inner step gets no gradients: give it use_reentrant=False"
                )
            for name in sorted(before_this[i][0] for i in reached & before_this.keys()):
                raise UserError(
                    f"the network keeps what it computed from its parameter {name} in one call for "
                    "the next one, for instance in a global variable, so adapted weights would "
                    "have no effect: compute it in each call, or keep it as an attribute of the "
                    "module (self)"
                )
            before_this |= {id(p): (n, p) for n, p in leaves.items()}
            for name in sorted(trained[i] for i in reached & trained.keys()):
                raise UserError(
                    f"the network uses its parameter {name} without going through the module, for "
                    "instance by a global variable, so adapted weights would have no effect: use "
                    "the module's own attributes (self) in forward"
                )
        if filled:
            raise UserError(
                f"the network holds in {', '.join(sorted(filled))} what it computed from its "
                "weights before, so that adapted weights would have no effect there: set it to "
                "what it was before the first call, such as None, and the network computes it in "
                "each call. If it is meant to be a constant, detach it where it is computed"
            )
        if outside:
            raise UserError(
                f"the network keeps in the global variable {', '.join(sorted(outside))} what it "
                "computed from its weights or examples in one call, and computes with it in the "
                "next, so that its outputs depend on which call came first: compute it in each "
                "call, or keep it as an attribute of the module (self)"
            )
        warn_of_numbers("network", counted)
        if rewritten:
            _log.warning(
                "a forward pass of the network writes to its weights (%s). Every call begins with "
                "the weights that it is given, and what it writes is dropped: neither an inner "
                "step nor the trained weights have it. Compute with what follows from a weight "
                "(self.weight.clamp(-1, 1)), and hold a moving average in a buffer that you set "
                "between two meta-gradients",
                ", ".join(sorted(rewritten)),
            )
        for name, weight in aliases.items():
            _log.warning(
                "%s is the memory of the parameter %s under another name, as .data and .detach() "
                "give it: it stays as it is while an inner step changes the parameter. If forward "
                "uses it, let it take the parameter itself",
                name,
                weight,
            )
        if hidden:
            _log.warning(
                "the outputs of the network change with %s, but no gradient leads there: "
                "torch.no_grad(), detach(), .data or something that is kept cuts it off, so that "
                "it is neither adapted nor trained. If that is meant, call requires_grad_(False)",
                ", ".join(sorted(hidden)),
            )
        self.draws = seen.dropout or seen.globally
        self.mixes_rows = self._mixes_rows(x)
        return True

    def _unreached(self, leaves: Params, outputs: Any) -> list[str]:
        reached = leaves_of(nodes_of(outputs))
        return [n for n, p in leaves.items() if p.requires_grad and id(p) not in reached]

    def _hidden(self, leaves: Params, outputs: Any, x: Any) -> set[str]:
        """Trained weights that the outputs change with, though no gradient leads to them."""
        wanted = tensors_in(outputs)

        def matter(names: Iterable[str]) -> bool:
            generator = torch.Generator().manual_seed(0)
            # Far away, for a mean over many may change little; with gradients as before, for
            # `torch.func.stack_module_state` wants the same of all that it stacks.
            others = {n: moved(2 * leaves[n].detach(), generator).requires_grad_() for n in names}
            return differ([wanted, self._again(others, x)])

        with contextlib.suppress(Exception):
            if self.without and matter(self.without):
                return {name for name in self.without if matter([name])}
        return set()

    def _filled_before(self, leaves: Params, x: Any) -> set[str]:
        """Attributes that hold what was computed from the weights, see `filled_before`."""
        trained = {id(p) for p in leaves.values() if p.requires_grad}

        def call(module: nn.Module) -> None:
            with noise.watching(x=x):
                module(copied(x))

        return filled_before(
            lambda: self._copy(leaves, every_buffer=True),
            call,
            lambda t: bool(trained & leaves_of(nodes_of(t))),
        )

    def _kept_outside(self, leaves: Params, x: Any) -> set[str]:
        """Global variables with what another call computed, see `kept_in_globals`."""
        generator = torch.Generator().manual_seed(0)
        others = {
            n: moved(2 * p.detach(), generator).requires_grad_() if p.requires_grad else p
            for n, p in leaves.items()
        }

        def copy(weights: Params) -> Callable[[], nn.Module]:
            return lambda: self._copy(weights, every_buffer=True)

        def call(module: nn.Module, x: Any) -> list[Tensor]:
            with noise.watching(x=x):
                return tensors_in(module(copied(x)))

        later = [(copy(others), x)]
        if isinstance(x, Tensor):
            later += [(copy(leaves), near) for near in varied(x)]
        return kept_in_globals(copy(leaves), call, x, later)

    def _repeats(self, outputs: Any, x: Any) -> bool:
        """True if the outputs come again; notes what weights have to be for that."""
        wanted = tensors_in(outputs)
        plain = {n: p.detach() for n, p in self.named()}
        # Twice, lest what changes to and fro seem to follow from the weights.
        while self._weights_as < TRAINED:
            with contextlib.suppress(Exception):
                if self._comes_again(wanted, plain, x, 2 if self._weights_as else 1):
                    return True
            self._weights_as += 1
        return self._comes_again(wanted, {}, x, 2)

    def _comes_again(self, wanted: list[Tensor], weights: Params, x: Any, times: int) -> bool:
        again = (self._again(weights, x) for _ in range(times))
        return not any(differ([wanted, found], same_rows=True) for found in again)

    def _again(self, weights: Params, x: Any) -> list[Tensor]:
        # Gradients are recorded as before, for a network may ask whether they are.
        with noise.watching(x=x):
            return tensors_in(self._copy(weights, every_buffer=True)(copied(x)))

    def _aliases(self) -> dict[str, str]:
        """Tensors that are the memory of a weight, and stay as they are while it is adapted."""
        weights = {_memory(p): n for n, p in self.named() if p.requires_grad and p.numel()}
        held = {n: t for n, t in _state(self.module) if not isinstance(t, nn.Parameter)}
        places = {n: _memory(t) for n, t in held.items() if t.numel()}
        return {n: weights[at] for n, at in places.items() if at is not None and at in weights}

    def _is_entangled(self, leaves: Params, x: Any) -> bool:
        if not isinstance(self.module, HeadedModel):
            return False
        features = self(leaves, x, lambda module, x: module.features(x))
        head = {id(p) for n, p in leaves.items() if n.startswith("head.")}
        return bool(leaves_of(nodes_of(features)) & head)

    def _nodes_from_inputs(self, leaves: Params, x: Any) -> set[Any]:
        """The nodes of the graph from inputs with a gradient; none if the network fails on them.

        A part that only `backward` can follow leaves not even a node where its inputs have none.
        """
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            return nodes_of(self._copy(leaves)(mapped(_with_gradient, x)))
        return set()


def _left_behind(module: nn.Module) -> set[str]:
    """Attributes that hold what a call computed from the weights."""
    return {
        name
        for part in module.modules()
        for name, value in vars(part).items()
        if name not in OF_EVERY_MODULE and any(t.grad_fn is not None for t in tensors_in(value))
    }


def _memory(t: Tensor) -> int | None:
    """Where a tensor lies; None where that is not known."""
    return t.untyped_storage().data_ptr() if t.layout is torch.strided else None


def _with_gradient(value: Any) -> Any:
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return value.detach().requires_grad_().clone() if floats else value


def _changed(now: Tensor, before: Tensor) -> bool:
    return now.dtype != before.dtype or not torch.equal(now.detach(), before.detach())


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers, and the tensors among the attributes, by the names that `Skeleton` uses."""
    for prefix, child in module.named_modules():
        start = f"{prefix}." if prefix else ""
        for name, value in (*child._buffers.items(), *vars(child).items()):
            if isinstance(value, Tensor):
                yield start + name, value


def _values(module: nn.Module) -> dict[str, Tensor]:
    """Copies of what can be compared of its state."""
    return {n: t.clone() for n, t in _state(module) if t.layout is torch.strided}


def leaves_of(nodes: Iterable[Any]) -> set[int]:
    """Identities of the leaves at the ends of a graph."""
    variables = (getattr(node, "variable", None) for node in nodes)
    return {id(v) for v in variables if v is not None}


def nodes_of(outputs: Any) -> set[Any]:
    """The nodes of the graph that `outputs` were computed by."""
    waiting = [t.grad_fn for t in tensors_in(outputs) if t.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        for parent, _ in waiting.pop().next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return seen
