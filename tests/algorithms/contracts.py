"""The table that every registered algorithm has a row in; test_contracts.py holds them to it.

Sums by hand are for y = w x with squared loss, one support example (1, 1) and one
query (1, 3), unless a row says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import (
    ANIL,
    BOIL,
    IMAML,
    MAML,
    Episodes,
    FineTune,
    MAMLPlusPlus,
    MetaSGD,
    ProtoNet,
    Reptile,
)
from innerloop.algorithms import Algorithm
from tests.algorithms import naive
from tests.algorithms.naive import LR, STEPS
from tests.algorithms.networks import Product, WithHead

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Sum:
    """An algorithm, and the meta-gradient that was worked out by hand for it."""

    algorithm: Algorithm
    loss: float
    gradient: dict[str, float]
    episodes: Episodes | None = None
    progress: float = 1.0


@dataclass(frozen=True)
class Contract:
    """What the tests know about an algorithm.

    Attributes:
        make: the algorithm on a network whose last layer is `head`; takes options.
        foreign: the algorithm on a network of others', whose last layer is `out`.
        naive: network, meta-parameters and episodes to the meta-gradient.
        is_gradient: whether that is the gradient of the mean query loss.
        sums: worked by hand.
    """

    make: Callable[..., Algorithm]
    foreign: Callable[[nn.Module], Algorithm]
    naive: Callable[[nn.Module, Params, Episodes], Params]
    is_gradient: bool
    sums: Callable[[], list[Sum]]


def line(start: float, cls: type[Algorithm], *options: Any, **more: Any) -> Algorithm:
    """An algorithm on y = body * x with squared loss; `head` stays at 1 and is frozen."""
    model = Product(start)
    model.head.w.requires_grad_(False)
    return cls(model, *options, loss=F.mse_loss, **more)


def product(cls: type[Algorithm]) -> Algorithm:
    """One step of 0.1 on y = head * body * x from body 2, head 1."""
    return cls(Product(2.0, 1.0), 0.1, 1, loss=F.mse_loss)


def examples(support_y: list[float], query_y: list[float], x: float = 1.0) -> Episodes:
    def row(values):
        return torch.tensor([values], dtype=torch.float64)

    sx, qx = ([x] * len(v) for v in (support_y, query_y))
    return Episodes(row(sx), row(support_y), row(qx), row(query_y))


ONE_AND_THREE = examples([1.0], [3.0])


def maml_sums() -> list[Sum]:
    # Support gradient 2(w - 1) = 2, so w' = 2 - 0.5 = 1.5; query gradient 2(w' - 3) = -3,
    # and dw'/dw = 1 - 2 * 0.25 = 0.5.
    return [
        Sum(line(2.0, MAML, 0.25, 1), 2.25, {"body.w": -1.5}),
        Sum(line(2.0, MAML, 0.25, 1, True), 2.25, {"body.w": -3.0}),
        Sum(line(2.0, MAML, 0.25, 1, derivative="mixed"), 2.25, {"body.w": -1.5}),
        # Annealed: first order before half of training, second order after it.
        Sum(line(2.0, MAML, 0.25, second_order_from=0.5), 2.25, {"body.w": -3.0}, progress=0.4),
        Sum(line(2.0, MAML, 0.25, second_order_from=0.5), 2.25, {"body.w": -1.5}, progress=0.5),
    ]


def anil_sums() -> list[Sum]:
    # Support gradient of the head 2(hb - 1)b = 4: h' = 0.6, y = 1.2, query gradient -3.6.
    # h' = h - 0.2(hb - 1)b, so dh'/dh = 1 - 0.2 b^2 = 0.2 and dh'/db = -0.2(2hb - 1) = -0.6.
    # y = h'b: dy/dh = 0.4, dy/db = h' - 0.6 b = -0.6.
    return [Sum(product(ANIL), 3.24, {"head.w": -3.6 * 0.4, "body.w": -3.6 * -0.6})]


def boil_sums() -> list[Sum]:
    # Support gradient of the body 2(hb - 1)h = 2: b' = 1.8 = y, query gradient -2.4.
    # b' = b - 0.2(hb - 1)h, so db'/db = 1 - 0.2 h^2 = 0.8 and db'/dh = -0.2(2hb - 1) = -0.6.
    # y = h b': dy/db = 0.8, dy/dh = b' - 0.6 = 1.2.
    return [Sum(product(BOIL), 1.44, {"head.w": -2.4 * 1.2, "body.w": -2.4 * 0.8})]


def meta_sgd_sums() -> list[Sum]:
    # As MAML; w' = w - 0.25 r 2(w - 1), so dw'/dr = -0.5.
    return [Sum(line(2.0, MetaSGD, 0.25, 1), 2.25, {"body.w": -1.5, "rate@body.w": 1.5})]


def maml_pp_sums() -> list[Sum]:
    # w: 2 -> 1.5 -> 1.25; query gradients -3 and -3.5; dw2/dw = 0.25; dw2/dr0 = 0.5 * -0.5,
    # dw2/dr1 = -0.25.
    last = {"body.w": -3.5 * 0.25, "rate@body.w": [-3.5 * 0.5 * -0.5, -3.5 * -0.25]}
    # At the start both steps count one half.
    both = {
        "body.w": (-3 * 0.5 - 3.5 * 0.25) / 2,
        "rate@body.w": [(-3 * -0.5 - 3.5 * -0.25) / 2, -3.5 * -0.25 / 2],
    }
    # Half way through the annealing the first counts 1/4.
    midway = {
        "body.w": -3 * 0.5 / 4 - 3.5 * 0.25 * 3 / 4,
        "rate@body.w": [-3 * -0.5 / 4 - 3.5 * -0.25 * 3 / 4, -3.5 * -0.25 * 3 / 4],
    }
    make = partial(line, 2.0, MAMLPlusPlus, 0.25, 2, multi_step_loss_until=0.5)
    return [
        Sum(make(), 3.0625, last),
        Sum(make(), 3.0625, both, progress=0.0),
        Sum(make(), 3.0625, midway, progress=0.25),
        Sum(make(learn_inner_lr=False), 3.0625, {"body.w": -3.5 * 0.25}),
    ]


def reptile_sums() -> list[Sum]:
    # Both examples are the task's data. One at a time: 2 -> 2 - 0.25 * 2 = 1.5 -> 1.5 + 0.25 * 3.
    # Together, the gradient at 2 is 0.
    return [
        Sum(line(2.0, Reptile, 0.25, 2, inner_batch_size=1), 0.5625, {"body.w": -0.25}),
        Sum(line(2.0, Reptile, 0.25, 2), 1.0, {"body.w": 0.0}),
    ]


def imaml_sums() -> list[Sum]:
    # (v - 1)^2 + (v - w)^2 is least at (1 + w)/2 = 1.5, where one step of 0.25 arrives;
    # H = 2, so (1 + H/2)^-1 = 1/2 times the query gradient -3, and indeed dv/dw = 1/2.
    return [Sum(line(2.0, IMAML, 0.25, 1, regularization=2.0), 2.25, {"body.w": -1.5})]


def protonet_sums() -> list[Sum]:
    # Prototypes w and 3w; the query at w has logits 0 and -(2w)^2, loss log(1 + exp(-4w^2)).
    x = torch.tensor([[[1.0], [3.0]]], dtype=torch.float64)
    y = torch.tensor([[0, 1]])
    model = Product(0.5)
    model.head.w.requires_grad_(False)
    loss, gradient = math.log(1 + math.exp(-1)), -4 / (1 + math.e)
    episodes = Episodes(x, y, x[:, :1], y[:, :1])
    return [Sum(ProtoNet(model), loss, {"body.w": gradient}, episodes)]


def fine_tune_sums() -> list[Sum]:
    # The mean over both examples of (w - y)^2 at 2.5: (2.25 + 0.25) / 2.
    return [Sum(line(2.5, FineTune), 1.25, {"body.w": 1.0})]


def embed(model: nn.Module, leaves: Params, x: Tensor) -> Tensor:
    """Features if the model is a `HeadedModel`, otherwise its outputs."""
    if not hasattr(model, "head"):
        return naive.call(model, leaves, x)
    replaced = {name: p for name, p in leaves.items() if "@" not in name}

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.features(x)

    return naive.call(Features(), {f"model.{name}": p for name, p in replaced.items()}, x)


def in_head(name: str) -> bool:
    return name.startswith(("head.", "out."))


def not_in_head(name: str) -> bool:
    return not in_head(name)


# Networks from elsewhere have no module called head, so their last layer is named.
CONTRACTS: dict[str, Contract] = {
    "maml": Contract(
        make=partial(MAML, inner_lr=LR, inner_steps=STEPS),
        foreign=partial(MAML, inner_lr=LR, inner_steps=STEPS),
        naive=naive.maml,
        is_gradient=True,
        sums=maml_sums,
    ),
    "anil": Contract(
        make=partial(ANIL, inner_lr=LR, inner_steps=STEPS),
        foreign=partial(ANIL, inner_lr=LR, inner_steps=STEPS, adapted="out.*"),
        naive=partial(naive.maml, adapted=in_head),
        is_gradient=True,
        sums=anil_sums,
    ),
    "boil": Contract(
        make=partial(BOIL, inner_lr=LR, inner_steps=STEPS),
        foreign=partial(BOIL, inner_lr=LR, inner_steps=STEPS, adapted="[!o]*"),
        naive=partial(naive.maml, adapted=not_in_head),
        is_gradient=True,
        sums=boil_sums,
    ),
    "reptile": Contract(
        make=partial(Reptile, inner_lr=LR, inner_steps=STEPS, inner_batch_size=5),
        foreign=partial(Reptile, inner_lr=LR, inner_steps=STEPS, inner_batch_size=5),
        naive=partial(naive.reptile, batch=5),
        is_gradient=False,
        sums=reptile_sums,
    ),
    "meta-sgd": Contract(
        make=partial(MetaSGD, inner_lr=LR, inner_steps=STEPS),
        foreign=partial(MetaSGD, inner_lr=LR, inner_steps=STEPS),
        naive=naive.meta_sgd,
        is_gradient=True,
        sums=meta_sgd_sums,
    ),
    "maml++": Contract(
        make=partial(MAMLPlusPlus, inner_lr=LR, inner_steps=STEPS),
        foreign=partial(MAMLPlusPlus, inner_lr=LR, inner_steps=STEPS),
        naive=partial(naive.maml_plus_plus, counts=[0.0] * STEPS + [1.0]),
        is_gradient=True,
        sums=maml_pp_sums,
    ),
    "imaml": Contract(
        make=partial(IMAML, inner_lr=LR, inner_steps=STEPS, cg_steps=4),
        foreign=partial(IMAML, inner_lr=LR, inner_steps=STEPS, cg_steps=4),
        naive=partial(naive.imaml, strength=2.0, krylov=4),
        is_gradient=False,
        sums=imaml_sums,
    ),
    "protonet": Contract(
        make=ProtoNet,
        foreign=ProtoNet,
        naive=partial(naive.protonet, embed=embed),
        is_gradient=True,
        sums=protonet_sums,
    ),
    "fine-tune": Contract(
        make=partial(FineTune, num_classes=3),
        # Says which layer is the new last one.
        foreign=lambda network: FineTune(WithHead(network), num_classes=3),
        naive=lambda model, params, episodes: naive.fine_tune(
            params, episodes, partial(embed, model)
        ),
        is_gradient=True,
        sums=fine_tune_sums,
    ),
}
