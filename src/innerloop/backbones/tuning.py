"""Train a copy of a pretrained network on a support set and changed versions of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import nn
from torch.nn import functional as F

from innerloop.algorithms.protonet import prototypes
from innerloop.backbones.body import Backbone
from innerloop.backbones.outputs import features_of
from innerloop.backbones.transforms import pixels_of
from innerloop.errors import UserError, first_line

# Learning rates of Adam that are compared, and steps.
RATES, STEPS = (3e-5, 1e-4), 10
# Pictures in a step, each also in a changed version; memory for the backward pass grows with them.
ROWS = 16
# Cosines times this are logits.
SCALE = 15.0


# Whatever mode `fit` is called in.
@torch.inference_mode(False)
@torch.enable_grad()
def tuned(
    body: Backbone,
    pictures: Sequence[Image.Image],
    labels: np.ndarray,
    rate: float,
    advance: Callable[[int], None] = lambda _: None,
) -> Backbone | None:
    """A copy of the body that has learnt a support set; None if its numbers became infinite.

    Steps of Adam on the cross-entropy of cosines between changed pictures and the means of the
    classes of unchanged ones, as ProtoNet is trained (Hu, Li, Stühmer, Kim, Hospedales 2022,
    "Pushing the Limits of Simple Pipelines for Few-Shot Learning").  Batch norm keeps its
    statistics, dropout is off, and only parameters that require gradients are trained.

    Args:
        body: it is not written to.
        pictures: the support set, RGB.
        labels: `[n]`, 0..N-1.
        rate: learning rate.
        advance: called with 1 after each step.

    Raises:
        UserError: the network cannot be copied, or has nothing to train.
    """
    network = _copy(body)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = generator.permutation(len(pictures))[:ROWS]
        seen = [pictures[row] for row in rows]
        both = [*seen, *(changed(picture, generator) for picture in seen)]
        pixels = torch.stack([pixels_of(body.preprocess, p, "a picture") for p in both])
        # Without a gap: not all classes need be among these rows.
        present, targets = np.unique(labels[rows], return_inverse=True)
        y = torch.from_numpy(targets).to(trained[0].device)
        out, _ = features_of(network(pixels.to(trained[0])), body.name, len(pixels))
        plain, others = F.normalize(out.float(), dim=1).chunk(2)
        centres = F.normalize(prototypes(plain, y, len(present)), dim=1)
        optimizer.zero_grad()
        F.cross_entropy(SCALE * others @ centres.T, y).backward()
        optimizer.step()
        advance(1)
    with torch.no_grad():
        out, _ = features_of(network(pixels[:1].to(trained[0])), body.name, 1)
    if not all(t.isfinite().all() for t in (out, *trained)):
        return None
    return Backbone(
        network,
        body.preprocess,
        name=body.name,
        precision=body.precision,
        keep=False,
        layers=body.layers,
    )


def changed(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A part of 0.6 to 1 of width and height, in other light; as large as the picture."""
    width, height = (side * generator.uniform(0.6, 1) for side in picture.size)
    left, top = generator.uniform(0, 1, 2) * (picture.width - width, picture.height - height)
    box = (left, top, left + width, top + height)
    picture = picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(generator.uniform(0.6, 1.4))
    return picture


def changed_otherwise(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Turned by up to 20 degrees, without its margin, and coarser: what `changed` never does."""
    angle = generator.uniform(-20, 20)
    turned = picture.rotate(angle, Image.Resampling.BICUBIC)
    sides = np.array(picture.size)
    # What stays inside when a square is turned by 20 degrees.
    margin = 0.14 * sides
    turned = turned.crop((*margin.astype(int), *(sides - margin).astype(int)))
    coarse = generator.uniform(0.3, 1) * np.array(turned.size)
    small = turned.resize(tuple(coarse.astype(int).clip(1)), Image.Resampling.BILINEAR)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def _copy(body: Backbone) -> nn.Module:
    try:
        network = copy.deepcopy(body.network).eval()
    except Exception as error:  # of code of the user's own
        raise UserError(
            f"{body.name} cannot be copied ({first_line(error)}), and fine_tune=True trains a "
            "copy: leave it out"
        ) from error
    own = {p.data_ptr() for p in body.network.parameters()}
    if any(p.data_ptr() in own for p in network.parameters()):
        raise UserError(
            f"a copy of {body.name} shares weights with it, and fine_tune=True trains a copy: "
            "leave it out"
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError(
            f"no parameter of {body.name} requires a gradient, so that there is nothing to "
            "fine-tune: leave out fine_tune=True, or call network.requires_grad_()"
        )
    return network
