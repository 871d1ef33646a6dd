"""The weights of the interactive sine waves: `python -m tools.sine_weights`.

The networks of docs/en/tutorial/why-it-works.md, trained as there, in two minutes or so.  Writes
`docs/scripts/sine-weights.js`: the 1,761 numbers of each start, four bytes each, in base64.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import torch
import torch.nn.functional as F

import innerloop
from innerloop.functional import Params

FILE = Path(__file__).parent.parent / "docs" / "scripts" / "sine-weights.js"
ITERATIONS = 1500


def trained(algorithm: innerloop.Algorithm) -> Params:
    """The meta-parameters after training on waves."""
    waves = innerloop.SinusoidSampler(k_shot=10, k_query=10)
    params = algorithm.init_params()
    optimizer = torch.optim.Adam(params.values(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    for i in range(ITERATIONS):
        gradient, _ = algorithm.meta_gradient(params, waves.batch(25 * i, 25).to(torch.float64))
        for name, p in params.items():
            p.grad = gradient[name]
        optimizer.step()
        schedule.step()
    return params


def starts() -> dict[str, Params]:
    """Meta-learnt, pre-trained on all waves together, and random."""
    network = innerloop.models.MLP(1, 1, hidden=(40, 40)).double()
    settings = {"inner_lr": 0.01, "inner_steps": 1, "loss": F.mse_loss}
    maml = innerloop.MAML(network, **settings)
    joint = innerloop.FineTune(network, **settings)
    return {"meta": trained(maml), "joint": trained(joint), "random": maml.init_params()}


def packed(params: Params) -> str:
    """Weights and bias of each layer in turn."""
    names = [
        f"{layer}.{kind}"
        for layer in ("layers.0", "layers.1", "head")
        for kind in ("weight", "bias")
    ]
    flat = torch.cat([params[name].detach().float().flatten() for name in names])
    return base64.b64encode(flat.numpy().astype("<f4").tobytes()).decode()


def main() -> None:
    texts = {name: packed(params) for name, params in starts().items()}
    FILE.write_text(
        "// Made by python -m tools.sine_weights.\n"
        f"globalThis.sineWeights = {json.dumps(texts, indent=1)};\n"
    )


if __name__ == "__main__":
    main()
