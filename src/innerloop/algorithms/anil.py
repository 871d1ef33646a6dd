"""Almost no inner loop, and body only: MAML that adapts a part of the network."""

from __future__ import annotations

from typing import Unpack

from torch import nn

from innerloop.algorithms.maml import MAML
from innerloop.algorithms.options import MAMLOptions
from innerloop.errors import UserError
from innerloop.rates import InnerRates


class ANIL(MAML):
    """ANIL: the inner loop changes the last layer alone.

    Raghu, Raghu, Bengio, Vinyals 2020, "Rapid Learning or Feature Reuse? Towards
    Understanding the Effectiveness of MAML", section 4: the features are reused as they
    are, so each image goes through the body once, however many inner steps there are.

    Args:
        model: a network whose last layer is called `head`; for another, name its
            parameters in `adapted`.
        inner_lr, inner_steps, first_order, derivative, second_order_from, options: see `MAML`.

    Raises:
        UserError: a value out of range, or nothing called `head`.
    """

    adapts = "head"


class BOIL(MAML):
    """BOIL: the inner loop changes the body alone, the last layer is learnt in the outer loop.

    Oh, Yoo, Kim, Yun 2021, "BOIL: Towards Representation Change for Few-shot Learning".
    The rows of the last layer must differ from the start, and there are as many as classes:
    `head="random"`.

    Args:
        model: a network whose last layer is called `head`; for another, name the
            other parameters in `adapted`.
        inner_lr, inner_steps, first_order, options: see `MAML`.

    Raises:
        UserError: a value out of range, nothing called `head`, or a shared head.
    """

    adapts = "body"

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.4,
        inner_steps: int = 1,
        first_order: bool = False,
        **options: Unpack[MAMLOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, first_order, **options)
        rows = getattr(getattr(model, "head", None), "weight", None)
        if rows is not None and rows.ndim == 2 and len(rows) > 1 and (rows == rows[0]).all():
            raise UserError(
                "all rows of the head are the same, so that nothing flows back into the body: "
                "give the network head='random'"
            )
