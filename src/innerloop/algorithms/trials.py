"""Whether several tasks go through a network together, and whether `torch.func` serves it."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.rows import Rows, moved, reals, varied
from innerloop.errors import first_line
from innerloop.functional import Params
from innerloop.ops.stacked import NotStackableError, noticing_apart
from innerloop.trees import tensors_in

# In double precision nothing is decided by rounding; not every network can do that.
_PRECISIONS = ((torch.float64, 1e-6), (None, 2e-2))


class Trial:
    """A question about a network, tried on an example that is kept until somebody asks."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason  # why not; None if so
        self.example: Tensor | None = None

    def ask(self, tried: Callable[[Tensor], str | None]) -> str | None:
        """The reason, by `tried` if it is yet to be found."""
        x = self.example
        if x is None:
            return self.reason
        # Another thread that asks meanwhile tries it, too: it must not take the answer from before
        # for the one that counts.
        self.reason = found = tried(x)
        self.example = None
        return found


class Tried(Rows):
    """A network that is tried before it is used; the attributes are those of `Network`."""

    writes_weights: bool
    apart: Collection[str]
    _as_several: Trial
    _in_transforms: Trial

    @abstractmethod
    def _together(self, params: Params, x: Tensor, same: Params | None = None) -> Any:
        """Those of T tasks."""

    def why_not_each(self) -> str | None:
        """Why a module that was written for one task cannot take several; None if it can.

        It is tried on the first inputs that `look` has seen: outputs and gradients of two tasks,
        together and one by one.
        """
        return self._as_several.ask(self._tried_together)

    def why_not_in_transforms(self) -> str | None:
        """Why `torch.func` does not give the network's derivatives; None if it does.

        They are compared with autograd's, which goes through more: TorchScript, hooks on tensors.
        """
        return self._in_transforms.ask(self._differentiated)

    def _tried_together(self, x: Tensor) -> str | None:
        if any(self._draws_globally.values()) or self.writes_weights:
            return "its forward pass draws random numbers or writes to weights"
        modes = {False, any(m.training for m in self.module.modules())}
        reason = None
        for dtype, tolerance in _PRECISIONS:
            try:
                with (
                    torch.inference_mode(False),
                    torch.enable_grad(),
                    noticing_apart() as self.apart,
                ):
                    found = [self._difference(x, dtype, tolerance, mode) for mode in sorted(modes)]
                    return next((reason for reason in found if reason), None)
            except NotStackableError as error:
                return str(error)
            except Exception as error:
                reason = f"{type(error).__name__} when it was tried ({first_line(error, 100)})"
        return reason

    def _difference(
        self, x: Tensor, dtype: torch.dtype | None, tolerance: float, training: bool
    ) -> str | None:
        x = _cast(x, dtype)
        inputs = torch.stack([x, *(varied(x) or [x.flip(0)])])
        generator = torch.Generator().manual_seed(0)

        def two(p: Tensor) -> Tensor:
            return _cast(moved(p.detach(), generator, 2), dtype).requires_grad_()

        params = {n: two(p) for n, p in self.named() if p.requires_grad}
        frozen = {n: _cast(p, dtype) for n, p in self.named() if not p.requires_grad}

        def gradients(outputs: list[list[Any]]) -> list[Tensor]:
            """The outputs, and the gradients of a sum of them."""
            flat = [reals(torch.stack([o[i] for o in outputs])) for i in range(len(outputs[0]))]
            flat = [t if t.is_floating_point() else t.double() for t in flat]
            total = sum((t * t.detach().cos()).sum() for t in flat)
            given = list(params.values())
            found = torch.autograd.grad(total, given, allow_unused=True, materialize_grads=True)  # type: ignore[arg-type]
            return [t.detach() for t in (*flat, *found)]

        with noise.calls(training=training, keys=(1, 2)):
            apart_ = []
            for i in range(2):
                with noise.task(i):
                    of_one = {n: p[i] for n, p in params.items()} | frozen
                    apart_.append(tensors_in(self(of_one, inputs[i])))
            with noise.at(0):
                together = tensors_in(self._together(params, inputs, frozen))
            wanted = gradients(apart_)
            found = gradients([[t[i] for t in together] for i in range(2)])
        if [t.shape for t in wanted] != [t.shape for t in found]:
            return "its outputs have another shape for several tasks"
        same = close(wanted, found, tolerance)
        return None if same else "its rows or its tasks would not stay apart"

    def _differentiated(self, x: Tensor) -> str | None:
        for dtype, tolerance in _PRECISIONS:
            # What fails here, or in double precision, fails when it counts, too, or need not.
            with contextlib.suppress(Exception), torch.inference_mode(False), torch.enable_grad():
                return self._derivatives_differ(x, dtype, tolerance)
        return None

    def _derivatives_differ(
        self, x: Tensor, dtype: torch.dtype | None, tolerance: float
    ) -> str | None:
        """Why first and second derivatives are not those of autograd under `torch.func`."""
        generator = torch.Generator().manual_seed(0)
        params: Params = {}
        frozen: Params = {}
        x = _cast(x, dtype)
        for name, p in self.named():
            if p.requires_grad and p.is_floating_point():
                params[name] = _cast(moved(p.detach(), generator), dtype)
            else:
                frozen[name] = _cast(p, dtype)
        towards = {
            n: torch.randn(p.shape, generator=generator, device="cpu").to(p)
            for n, p in params.items()
        }

        def total(params: Params) -> Tensor:
            with noise.calls(training=True, keys=(1,)), noise.at(0):
                outputs = tensors_in(self(params | frozen, x))
            return torch.stack([t.sin().sum() for t in outputs if t.is_floating_point()]).sum()

        def along(params: Params) -> tuple[Tensor, Params]:
            found = torch.func.grad(total)(params)
            return torch.stack([(found[n] * t).sum() for n, t in towards.items()]).sum(), found

        for weight in params.values():
            weight.requires_grad_()
        given = tuple(params.values())
        how: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(total(params), given, create_graph=True, **how)
        sums = [(g * t).sum() for g, t in zip(first, towards.values(), strict=True)]
        second = torch.autograd.grad(torch.stack(sums).sum(), given, **how)
        plain = {n: p.detach() for n, p in params.items()}
        again, once = torch.func.grad(along, has_aux=True)(plain)
        same = all(
            close(wanted, list(found.values()), tolerance, equal_nan=True)
            for wanted, found in ((first, once), (second, again))
        )
        return None if same else "its derivatives under torch.func are not those of autograd"


def _cast(t: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Real numbers as `dtype`, unless that is None."""
    return t.detach().to(dtype if dtype and t.is_floating_point() else t.dtype)


def close(
    wanted: Sequence[Tensor], found: Sequence[Tensor], tolerance: float, *, equal_nan: bool = False
) -> bool:
    """True if tensors are equal within a share of their numbers, and of the largest of all."""
    scale = max((t.abs().max().item() for t in wanted if t.numel()), default=0.0)
    how: dict[str, Any] = {"rtol": tolerance, "atol": tolerance * max(scale, 1e-30)}
    return all(
        torch.allclose(a, b, **how, equal_nan=equal_nan) for a, b in zip(wanted, found, strict=True)
    )
