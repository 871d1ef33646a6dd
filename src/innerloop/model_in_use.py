"""From what `FewShotClassifier` was given as its model to what learns and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from innerloop.algorithms.base import Algorithm
from innerloop.backbones import Backbone, Preprocess, Transform, backbone
from innerloop.backbones.maps import LAST
from innerloop.backbones.sources import is_backbone
from innerloop.errors import UserError, one_of, true_or_false
from innerloop.heads.choice import AUTO, HEADS
from innerloop.inputs import FeatureInputs, PixelInputs, inputs_of
from innerloop.learners import Learner, head_learner, network_learner
from innerloop.runs.loading import Loaded, load_shared


def inputs_and_learner(
    model: str | Path | Loaded | nn.Module | Backbone,
    *,
    inner_steps: int | None,
    bn: str,
    ink: str,
    prepare: str,
    weights: str | Path | None,
    preprocess: Preprocess | Transform | str | None,
    image_size: int | None,
    head: str,
    views: str | None,
    layers: str | Sequence[str] | None,
    white: float | None,
    fine_tune: bool,
    **_: Any,
) -> tuple[PixelInputs | FeatureInputs, Learner]:
    """The inputs that `model` takes, and the learner on top of them.

    The arguments are those of `FewShotClassifier`, of which the others have no part in it.

    Raises:
        UserError: there is no such model, or an argument that is not for it.
    """
    one_of([AUTO, *HEADS], head=head)
    true_or_false(fine_tune=fine_tune)
    if is_backbone(model):
        one_of(Algorithm.bn_modes, bn=bn)
        if bn == "transductive":
            raise UserError(
                "bn='transductive' is for networks that were meta-trained: in a pretrained network "
                "of others batch norm has constants, so leave bn out"
            )
        if inner_steps is not None and head != "inner_loop":
            raise UserError(
                f"inner_steps is for head='inner_loop', and head is {head!r}: leave one out"
            )
        if layers is None and not isinstance(model, Backbone):
            layers = LAST
        body = backbone(
            model,
            weights=weights,
            preprocess=preprocess,
            image_size=image_size,
            layers=layers or (),
        )
        inputs = FeatureInputs(body, ink, prepare, "middle" if views is None else views, white)
        return inputs, head_learner(head, inner_steps)
    if not isinstance(model, str | Path | Loaded):
        raise UserError(
            "model must be a name, a run folder, a weights file, what innerloop.load gave or a "
            f"torch.nn.Module, not {type(model).__name__}"
        )
    others = {"weights": weights, "preprocess": preprocess, "image_size": image_size}
    given = {**others, "layers": layers, "head": head}
    for name, value in {**given, "fine_tune": fine_tune or None}.items():
        if value not in (None, AUTO):
            raise UserError(f"{name} is for pretrained networks of others: leave it out")
    loaded = model if isinstance(model, Loaded) else load_shared(model)
    name = str(model) if isinstance(model, str | Path) else "the network"
    learn = network_learner(loaded, name, bn, inner_steps, views)
    return inputs_of(loaded, ink, name, prepare, white), learn
