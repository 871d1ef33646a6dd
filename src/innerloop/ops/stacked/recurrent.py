"""Recurrent layers with an axis of tasks: one product a step for all of them.

The formulas are those of `torch.nn.GRU`, `LSTM` and `RNN`, with their order of the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop import ops
from innerloop.ops.stacked.rules import all_of, count_of
from innerloop.ops.stacked.tensor import RULES, NotStackableError, Stacked

# Hidden state `[T, B, H]`, and of an LSTM its cell state.
State = tuple[Tensor, ...]
# What a step does with its inputs' part of the gates, the hidden state's part and the state.
Step = Callable[[Tensor, Tensor, State], State]


def _gru(of_x: Tensor, of_h: Tensor, state: State) -> State:
    (h,) = state
    size = h.shape[-1]
    both = (of_x[..., : 2 * size] + of_h[..., : 2 * size]).sigmoid()
    reset, update = both.chunk(2, -1)
    new = (of_x[..., 2 * size :] + reset * of_h[..., 2 * size :]).tanh()
    return (torch.lerp(new, h, update),)


def _lstm(of_x: Tensor, of_h: Tensor, state: State) -> State:
    _, c = state
    take, keep, new, show = (of_x + of_h).chunk(4, -1)
    c = keep.sigmoid() * c + take.sigmoid() * new.tanh()
    return show.sigmoid() * c.tanh(), c


def _tanh(of_x: Tensor, of_h: Tensor, state: State) -> State:
    return ((of_x + of_h).tanh(),)


def _relu(of_x: Tensor, of_h: Tensor, state: State) -> State:
    return ((of_x + of_h).relu(),)


def _affine(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """`[T, B, in]` to `[T, B, out]`; many times, so without the overhead of the kernels."""
    turned = weight.mT
    if bias is None:
        return lambda x: torch.bmm(x, turned)
    row = bias[:, None]
    return lambda x: torch.baddbmm(row, x, turned)


def _direction(
    step: Step, x: Tensor, state: State, weights: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction: `x` `[T, S, B, in]` to `[T, S, B, H]`, and the last state."""
    to_x, to_h, *biases = weights
    of_x, of_h = biases if biases else (None, None)
    gates = ops.linear(x.flatten(1, 2), to_x, of_x).unflatten(1, x.shape[1:3]).unbind(1)
    affine, outputs = _affine(to_h, of_h), []
    for gate in reversed(gates) if backwards else gates:
        state = step(gate, affine(state[0]), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs, 1), state


def _layers(step: Step) -> Callable[..., Any]:
    def of_tasks(
        input: Any,
        hx: Any,
        params: Any,
        has_biases: Any,
        num_layers: Any,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool = False,
    ) -> Any:
        if not isinstance(params, list | tuple):
            raise NotStackableError("a recurrent layer on packed sequences has no rule")
        directions, each = 1 + bidirectional, 4 if has_biases else 2
        if len(params) != num_layers * directions * each:
            raise NotStackableError("an LSTM with proj_size has no rule")
        if dropout and train and num_layers > 1:
            raise NotStackableError("dropout between recurrent layers has no rule")
        start = hx if isinstance(hx, list | tuple) else [hx]
        tasks = count_of(input, *start, *params)
        x, weights = all_of(input, tasks), [all_of(p, tasks) for p in params]
        states = list(zip(*(all_of(h, tasks).unbind(1) for h in start), strict=True))
        x = x.transpose(1, 2) if batch_first else x
        last = []
        for layer in range(num_layers):
            found = []
            for backwards in range(directions):
                i = layer * directions + backwards
                own = weights[i * each : (i + 1) * each]
                y, state = _direction(step, x, states[i], own, bool(backwards))
                found.append(y)
                last.append(state)
            x = torch.cat(found, -1)
        x = x.transpose(1, 2) if batch_first else x
        return Stacked(x), *(Stacked(torch.stack(h, 1)) for h in zip(*last, strict=True))

    return of_tasks


def _cell(step: Step) -> Callable[..., Any]:
    def of_tasks(
        input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
    ) -> Any:
        start = hx if isinstance(hx, list | tuple) else [hx]
        tasks = count_of(input, *start, w_ih, w_hh, b_ih, b_hh)
        x, *weights = (all_of(t, tasks) for t in (input, w_ih, w_hh, b_ih, b_hh) if t is not None)
        state = tuple(all_of(h, tasks) for h in start)
        _, state = _direction(step, x[:, None], state, weights, False)
        found = tuple(Stacked(h) for h in state)
        return found if len(found) > 1 else found[0]

    return of_tasks


for _f, _c, _step in (
    (torch.gru, torch.gru_cell, _gru),
    (torch.lstm, torch.lstm_cell, _lstm),
    (torch.rnn_tanh, torch.rnn_tanh_cell, _tanh),
    (torch.rnn_relu, torch.rnn_relu_cell, _relu),
):
    RULES[_f], RULES[_c] = _layers(_step), _cell(_step)
