"""Inner optimisers: how a gradient changes the fast weights.

An inner optimiser is any object with two methods, `InnerOptimizer`.  Its state comes in and goes
out as a value.  Nothing is changed in place, so derivatives pass through the update as through
everything else in the inner loop.  Learning rates are not part of it: they are the algorithm's
(`inner_lr`, or learnt ones), and reach it as `rates`.

With `first_order` the inner gradients are constants, and with them what an optimiser makes of
gradients alone.  What depends on the weights themselves, such as weight decay, is differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from innerloop.errors import UserError, above_zero, not_negative, share_below_one
from innerloop.functional import Params, Rates, descend, zeros_like

__all__ = ["SGD", "Adam", "InnerOptimizer"]


@runtime_checkable
class InnerOptimizer(Protocol):
    """The interface of an inner optimiser.

    Both methods are about one task, in plain tensor operations, and return new tensors.  An object
    whose attribute `elementwise` is true treats every number of a weight by itself; it is called
    once for all tasks, with tensors `[T, ...]`, and otherwise task by task.
    """

    def init(self, weights: Params) -> Any:
        """The state before the first step.

        Args:
            weights: what the inner loop changes, by name.

        Returns:
            Tensors and numbers in dicts, lists and tuples; None where there is no state.
        """

    def update(
        self, weights: Params, gradient: Params, state: Any, rates: Rates
    ) -> tuple[Params, Any]:
        """One inner step.

        Args:
            weights: before the step.
            gradient: of the inner loss, clipped where the algorithm clips.
            state: what `init` or the step before returned.
            rates: the inner learning rates: a number; or by name, each a number or a tensor that
                broadcasts against the weight.

        Returns:
            The weights after the step, by the same names, and the state.
        """


class SGD:
    """Gradient descent with momentum and weight decay, as `torch.optim.SGD` has it.

    With d = g + w θ: b ← μ b + d, from b = 0, and θ ← θ - α b; with `nesterov` θ ← θ - α (d + μ b).
    In our names θ is `weights`, g `gradient`, w `weight_decay`, μ `momentum`, α the rate.

    Args:
        momentum: 0 to 1, 1 excluded.
        weight_decay: at least 0.  It pulls towards zero, not towards the initial weights; what
            pulls there is `IMAML`'s `regularization`.
        nesterov: look ahead by one step; needs momentum.

    Raises:
        UserError: a value out of range.

    Example:
        >>> import innerloop
        >>> momentum = innerloop.inner.SGD(momentum=0.9)
        >>> maml = innerloop.MAML(innerloop.models.MLP(4, 2), 0.1, 3, inner_optimizer=momentum)
    """

    elementwise = True

    def __init__(
        self, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        share_below_one(momentum=momentum)
        not_negative(weight_decay=weight_decay)
        if nesterov and not momentum:
            raise UserError("nesterov needs a momentum greater than 0")
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

    def __repr__(self) -> str:
        return f"SGD({self.momentum}, {self.weight_decay}, {self.nesterov})"

    def init(self, weights: Params) -> Params | None:
        """Momentum 0 for each weight; None without momentum."""
        return zeros_like(weights) if self.momentum else None

    def update(
        self, weights: Params, gradient: Params, state: Params | None, rates: Rates
    ) -> tuple[Params, Params | None]:
        """See `InnerOptimizer`."""
        slope = _with_decay(weights, gradient, self.weight_decay)
        if state is None:
            return descend(weights, slope, rates), None
        state = {name: d.add(state[name], alpha=self.momentum) for name, d in slope.items()}
        ahead = state
        if self.nesterov:
            ahead = {name: d.add(state[name], alpha=self.momentum) for name, d in slope.items()}
        return descend(weights, ahead, rates), state


class Adam:
    """Adam, as `torch.optim.Adam` has it.

    Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 1: with d = g + w θ,
    m ← β₁ m + (1 - β₁) d and v ← β₂ v + (1 - β₂) d², from 0, and in step t
    θ ← θ - α m̂ / (√v̂ + ε), with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).

    Its state starts from zero in every task.  Its first step has the length α for each weight,
    whatever the gradient: rates are smaller than those of gradient descent.

    The root has no derivative at v = 0, where all gradients so far were 0 and m is 0 as well.
    There the step, as a function of the gradient, has the derivative of m̂ / ε all the same, and
    that is what is returned: the root counts as a constant.  It is finite, and for the usual ε it
    is large, 1/ε; a greater `eps` makes meta-gradients smoother.

    Args:
        betas: β₁ and β₂, each 0 to 1, 1 excluded.
        eps: ε, greater than 0.
        weight_decay: w, at least 0.
        decoupled_weight_decay: subtract α w θ in place of adding w θ to the gradient (AdamW,
            Loshchilov and Hutter 2019).

    Raises:
        UserError: a value out of range.
    """

    elementwise = True

    def __init__(
        self,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        first, second = betas
        share_below_one(**{"betas[0]": first, "betas[1]": second})
        above_zero(eps=eps)
        not_negative(weight_decay=weight_decay)
        self.betas, self.eps = (first, second), eps
        self.weight_decay, self.decoupled_weight_decay = weight_decay, decoupled_weight_decay

    def __repr__(self) -> str:
        decay = f"{self.weight_decay}, {self.decoupled_weight_decay}"
        return f"Adam({self.betas}, {self.eps}, {decay})"

    def init(self, weights: Params) -> dict[str, Any]:
        """Both moments 0, and no step so far.

        Raises:
            UserError: ε is 0 in the precision of a weight.
        """
        check_eps(self.eps, weights.values())
        squares = {name: _in_parts(zeros) for name, zeros in zeros_like(weights).items()}
        return {"steps": 0, "mean": zeros_like(weights), "square": squares}

    def update(
        self, weights: Params, gradient: Params, state: dict[str, Any], rates: Rates
    ) -> tuple[Params, dict[str, Any]]:
        """See `InnerOptimizer`."""
        (first, second), steps = self.betas, state["steps"] + 1
        coupled = 0.0 if self.decoupled_weight_decay else self.weight_decay
        slope = _with_decay(weights, gradient, coupled)
        mean = {n: (state["mean"][n] * first).add(d, alpha=1 - first) for n, d in slope.items()}
        square = {n: _squares(d, state["square"][n], second) for n, d in slope.items()}
        # m̂ / (√v̂ + ε), with one factor in place of two corrections.
        root = (1 - second**steps) ** 0.5
        ahead = {
            n: _over(m, (_root(square[n]) / root + self.eps) * (1 - first**steps))
            for n, m in mean.items()
        }
        if self.decoupled_weight_decay:
            ahead = _with_decay(weights, ahead, self.weight_decay)
        return descend(weights, ahead, rates), {"steps": steps, "mean": mean, "square": square}


def check_eps(eps: object, weights: Iterable[Tensor]) -> None:
    """Raise a `UserError` where a small number that is divided by is 0 in a weight's precision."""
    for p in weights:
        if (
            isinstance(eps, float)
            and eps > 0
            and not torch.tensor(eps, dtype=p.dtype, device="cpu")
        ):
            raise UserError(
                f"eps={eps} of the optimiser is 0 in {p.dtype}, so that its steps would divide by "
                "zero: bring the network and the examples to float32 or bfloat16 "
                "(network.float()), or take plain gradient descent (sgd)"
            )


def _in_parts(x: Tensor) -> Tensor:
    """Real and imaginary parts, which each have a moment of their own, `[..., 2]`."""
    return torch.stack([x.real, x.imag], dim=-1) if x.is_complex() else x


def _squares(slope: Tensor, square: Tensor, second: float) -> Tensor:
    parts = _in_parts(slope)
    return (square * second).addcmul(parts, parts, value=1 - second)


def _over(mean: Tensor, root: Tensor) -> Tensor:
    found = _in_parts(mean) / root
    return torch.complex(*found.unbind(-1)) if mean.is_complex() else found


def _root(square: Tensor) -> Tensor:
    """√v, at v = 0 with a derivative of 0 in place of infinity."""
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _with_decay(weights: Params, slope: Params, decay: float) -> Params:
    if not decay:
        return slope
    return {name: g.add(weights[name], alpha=decay) for name, g in slope.items()}
