"""Fine-tune a pretrained network on a support set, or leave it as it is, whichever tells better."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from torch import Tensor

from innerloop.backbones.tuning import RATES, STEPS, changed_otherwise, tuned
from innerloop.data.given import each_picture
from innerloop.data.progress import progress_bar
from innerloop.heads.choice import Trial, clear_gain, fit_head, try_heads
from innerloop.heads.left_out import folds
from innerloop.inputs import FeatureInputs
from innerloop.learners import Fitted, Learner

# Changed versions of each picture by which rates are compared where no picture can be left out.
VERSIONS = 4


def fine_tuned(
    inputs: FeatureInputs,
    X: Any,
    labels: np.ndarray,
    background: Any,
    head: str,
    inner_steps: int | None,
) -> tuple[FeatureInputs, Learner, float]:
    """Inputs of a body that has learnt the support set, what learns on them, and the rate.

    Learning rates, 0 among them, are compared by the cross-entropy on pictures of the support set
    that neither body nor head has learnt: in two halves, each told by what has learnt the other.
    Where each class has one picture, that is not possible, and they are compared on versions of the
    pictures, changed in other ways than in training.  Another rate than 0, the body as it is, has
    to be better by 0.05 nats and by two standard errors, as one head than another.

    By the same halves the head is chosen, probabilities are calibrated, and thresholds found: the
    tuned body knows the support set too well for that.

    Args:
        inputs: of the body; it is not written to.
        X: the support set, as `inputs` takes it.
        labels: `[n]`, 0..N-1.
        background: pictures of none of the classes; None for none.
        head, inner_steps: as for `innerloop.heads.fit_head`.

    Raises:
        UserError: the body cannot be trained.
    """
    body = inputs.backbone
    pictures = [picture.rgb() for picture in each_picture(X, inputs.white_of(X))]
    outside = None
    if background is not None:
        white = inputs.white_of(background)
        outside = [picture.rgb() for picture in each_picture(background, white)]
    # Once for all trials of the body as it is: it may keep nothing.
    known = inputs.seen_by(body, pictures)
    known_outside = None if outside is None else inputs.seen_by(body, outside)
    halves = folds(known, labels, most=2)
    generator = np.random.default_rng(0)
    versions = [] if halves else [changed_otherwise(p, generator) for p in VERSIONS * pictures]
    n_way = int(labels.max()) + 1
    trainings = len(RATES) * max(1, len(halves)) + 1
    shown = sys.stderr.isatty()
    with progress_bar(f"fine-tuning {body.name}", STEPS * trainings, shown=shown) as advance:

        def trial(rate: float, left_out: np.ndarray) -> Trial | None:
            kept = np.setdiff1d(np.arange(len(labels)), left_out)
            learnt = [pictures[row] for row in kept]
            asked = [pictures[row] for row in left_out] if len(left_out) else versions
            targets = labels[left_out] if len(left_out) else np.tile(labels, VERSIONS)
            if not rate:
                queries = known[left_out] if len(left_out) else inputs.seen_by(body, asked)
                return Trial(known[kept], labels[kept], queries, targets, known_outside)
            found = tuned(body, learnt, labels[kept], rate, advance)
            if found is None:
                return None
            return Trial(
                inputs.seen_by(found, learnt),
                labels[kept],
                inputs.seen_by(found, asked),
                targets,
                None if outside is None else inputs.seen_by(found, outside),
            )

        best, most, chosen = 0.0, 0.0, None
        frozen: np.ndarray | None = None
        for rate in (0.0, *RATES):
            made = [trial(rate, half) for half in halves or [np.zeros(0, np.int64)]]
            trials = [each for each in made if each is not None]
            if len(trials) < len(made):
                continue
            found = try_heads(trials, n_way, head, inner_steps=inner_steps)
            losses = found.losses[found.name]
            frozen = losses if frozen is None else frozen
            gain = clear_gain(frozen, losses)
            if gain > most:
                best, most, chosen = rate, gain, trials
        learnt = tuned(body, pictures, labels, best, advance) if best else None
    if learnt is None:
        best, learnt, chosen = 0.0, body, None

    def learn(x: Tensor, y: np.ndarray, background: Tensor | None) -> Fitted:
        trials = chosen if halves else None
        return fit_head(x, y, head, background=background, inner_steps=inner_steps, trials=trials)

    return inputs.with_body(learnt), learn, best
