"""Whether the rows of a batch stay apart in a network, found out by changing some of them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.errors import UserError
from innerloop.functional import Params, in_transform
from innerloop.models.layers import (
    HeadedModel,
    given_statistics,
    seen_statistics,
    statistics_by_group,
)
from innerloop.trees import mapped, tensors_in


class Rows(ABC):
    """A network that is called with other rows; the attributes are those of `Network`."""

    module: nn.Module
    draws: bool
    normalises: bool
    _draws_globally: dict[bool, bool]
    _stays_apart: bool

    @abstractmethod
    def __call__(
        self, params: Params, x: Any, part: Callable[[Any, Any], Any] | None = None
    ) -> Any:
        """The outputs for `x`."""

    @abstractmethod
    def why_not_taken(self, x: Any) -> str | None:
        """Why the network itself fails on examples `[B, ...]`; None if it does not."""

    @abstractmethod
    def named(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters by name."""

    def check_apart(self, x: Any, bn: str, *, shapes: bool) -> None:
        """See that no query changes the outputs for another, after `look`.

        Args:
            x: examples.
            bn: where batch norm takes its statistics from: `"support"`, `"frozen"`, or, for
                running ones of this package's norms, `"per_step"`.
            shapes: whether outputs of support set and queries, together, have to be told apart.

        Raises:
            UserError: queries meet, or an output has no axis of examples first.
        """
        if not self._stays_apart and not in_transform():
            with contextlib.ExitStack() as stack:
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(noise.generators_kept())
                if bn == "per_step":
                    # Any that are fixed will do.
                    with seen_statistics() as seen:
                        self.why_not_taken(x)
                    stack.enter_context(given_statistics(seen))
                self._check_apart(x, bn, shapes=shapes)
            self._stays_apart = True

    def _check_apart(self, x: Any, bn: str, *, shapes: bool) -> None:
        """Changes all queries but the first and the last, whose outputs have to stay.

        So have those of the support set.
        """
        if not isinstance(x, Tensor) or not len(x):
            return
        together = self.normalises and bn == "support"
        # Enough that rows which a network has moved reach those that are changed.
        x = torch.cat([x, x, x]) if len(x) < 3 else x
        # What only a larger value shows, as a maximum over the batch, is in either half.
        for rows in (x, x.flip(0)):
            half = (len(rows) + 1) // 2
            rest = torch.cat([rows[half:]] * 3)
            query, support = rows[:1], rows[: half if together else 0]
            first = len(support)
            batches = [
                torch.cat([support, query, others, query])
                for others in (rest, query.expand(rest.shape), *varied(rest))
            ]
            for training in (False, True):
                found = [
                    self._of_rows(batch, [*range(first + 1), -1], len(batch), first, training)
                    for batch in batches
                ]
                if not training and not self._draws_globally[False]:
                    # By itself; what is drawn for fewer rows would be other numbers.
                    alone = torch.cat([support, query])
                    kept = [*range(first + 1), first]
                    found.append(self._of_rows(alone, kept, len(alone), first, training))
                if differ(found):
                    raise UserError(_QUERIES_MEET.format(bn) + _MENDS[bn])
            if together and shapes and (shape := _without_rows(found)):
                raise UserError(
                    f"the network has an output of shape {shape[1:]} for {shape[0]} examples. With "
                    "bn='support' the support set and the queries go through it together, so every "
                    "output needs the examples along its first axis: return it so, or choose "
                    "bn='transductive'"
                )

    def _of_rows(
        self,
        x: Tensor,
        kept: Sequence[int],
        group: int,
        first: int,
        training: bool = False,
        part: Callable[[Any, Any], Any] | None = None,
    ) -> _Rows:
        """Rows `kept` of all outputs, or what is told of an output without rows; None if it fails.

        By other weights than the module's: zeros, as of a head that is not trained, would hide
        what comes before.  `group` and `first` are as for `statistics_by_group`, 0 for no `first`.
        """
        generator = torch.Generator().manual_seed(0)
        weights = {
            n: moved(p.detach(), generator) if p.is_floating_point() else p.detach()
            for n, p in self.named()
        }
        groups = statistics_by_group(group, first or None, len(x))
        try:
            with torch.no_grad(), noise.calls(training=training), groups:
                outputs = tensors_in(self(weights, copied(x), part))
        except UserError:
            raise
        except Exception:
            # The call that counts says what is wrong; these values may be none that it takes.
            return None
        return [
            o[list(kept)] if o.ndim and len(o) == len(x) else (len(x), *o.shape) for o in outputs
        ]

    def _mixes_rows(self, x: Any) -> bool:
        """True if a task's features change when those of another go through the body with it."""
        if not isinstance(self.module, HeadedModel) or not isinstance(x, Tensor):
            return False
        if not x.is_floating_point():
            return False
        rows = len(x)

        def features(x: Tensor, training: bool) -> _Rows:
            # The first task's and the last task's.
            kept = [*range(rows), *range(-rows, 0)]
            return self._of_rows(x, kept, rows, 0, training, lambda module, x: module.features(x))

        batches = [x, *(torch.cat([x, other, x]) for other in (2 * x.flip(0) + 1, *varied(x)))]
        # What draws in training has no features of several tasks at once then.
        for training in (False,) if self.draws else (False, True):
            found = [features(batch, training) for batch in batches]
            # What fails in one batch cannot be computed there either.
            if any(f is None for f in found) or differ(found, atol=1e-5):
                return True
        return False


# Rows of the outputs, or of an output without rows the number of rows and its shape.
_Rows = Sequence[Tensor | tuple[int, ...]] | None


def differ(found: Sequence[_Rows], atol: float | None = None, *, same_rows: bool = False) -> bool:
    """True if outputs differ that should be the same; by default beyond a share of the largest.

    With `same_rows` they come from the very same batch, and are rounded in the same way.
    """
    of_all = [outputs for outputs in found if outputs is not None]
    for outputs in of_all[1:]:
        if len(outputs) != len(of_all[0]):
            return True
        for a, b in zip(of_all[0], outputs, strict=True):
            if isinstance(a, Tensor) and isinstance(b, Tensor) and a.layout is torch.strided:
                if a.shape != b.shape:
                    return True
                # Half precision rounds by how many rows there are.
                coarse = a.dtype in (torch.float16, torch.bfloat16)
                close = 1e-9 if same_rows and a.dtype in (torch.float64, torch.complex128) else 1e-3
                a, b = reals(a).double(), reals(b).double()
                scale = a.nan_to_num(0, 0, 0).abs().max().item() if a.numel() else 0.0
                least = (3e-2 if coarse else close / 10) * scale if atol is None else atol
                if not torch.allclose(a, b, rtol=close, atol=least, equal_nan=True):
                    return True
    return False


def reals(x: Tensor) -> Tensor:
    """Real and imaginary parts of complex numbers, `[..., 2]`; others as they are."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _without_rows(found: Sequence[_Rows]) -> tuple[int, ...] | None:
    """What is told of the first output that has no axis of examples first."""
    every = (o for outputs in found for o in outputs or ())
    return next((o for o in every if not isinstance(o, Tensor)), None)


_QUERIES_MEET = (
    "with bn={!r} no query may change the outputs for another, and in this network they do: it "
    "mixes the rows of a batch"
)
_EACH = (
    ": let it compute each row by itself (F.batch_norm with training=True takes the statistics of "
    "the batch)"
)
_MENDS = {
    "support": ", or moves the rows of an example apart before a batch norm, which takes the "
    "leading ones for the support set. Let rows of an example follow each other, as after "
    "flatten(0, 1) of [B, L, ...], or choose bn='transductive'",
    "frozen": _EACH,
    "per_step": _EACH,
}


def moved(p: Tensor, generator: torch.Generator, *more: int) -> Tensor:
    """Other weights near `p`, `[*more, ...]`."""
    drawn = torch.randn((*more, *p.shape), generator=generator, device="cpu").to(p)
    return p + drawn * (0.02 + 0.1 * p.abs())


# What a network may want its weights to be: tensors, parameters, or parameters with gradients.
TENSORS, _PARAMETERS, TRAINED = range(3)


def as_parameter(t: Tensor, trained: bool) -> Tensor:
    """The same tensor for a network that asks whether it is a parameter, with gradients."""
    t = t.view_as(t) if t.requires_grad or not trained else t.detach().requires_grad_()
    t._is_param = True  # what `isinstance` goes by
    return t


def varied(x: Tensor) -> list[Tensor]:
    """Other examples near `x`, where there are any between whole numbers."""
    return [0.9 * x.flip(0) + 0.05] if x.is_floating_point() else []


def copied(tree: Any) -> Any:
    """`tree` with copies of its tensors."""
    return mapped(lambda t: t.clone() if isinstance(t, Tensor) else t, tree)
