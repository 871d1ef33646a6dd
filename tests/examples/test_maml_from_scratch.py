"""examples/maml_from_scratch.py is MAML, by the library's measure, and learns."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import innerloop

FILE = Path(__file__).parents[2] / "examples" / "maml_from_scratch.py"


@pytest.fixture(scope="module")
def scratch():
    """The example's own names."""
    return runpy.run_path(str(FILE))


class AsModule(nn.Module):
    """The example's network, with its weights as parameters."""

    def __init__(self, network, weights):
        super().__init__()
        self.network = network
        for name, w in weights.items():
            self.register_parameter(name, nn.Parameter(w.detach().clone()))

    def forward(self, x):
        return self.network(dict(self.named_parameters()), x)


@pytest.mark.parametrize("second_order", [True, False])
def test_its_meta_gradient_is_that_of_the_library(scratch, second_order):
    torch.manual_seed(1)
    weights = {n: w.detach().double() for n, w in scratch["init_weights"](width=4).items()}
    weights["head"] += 0.3 * torch.randn_like(weights["head"])
    weights = {n: w.requires_grad_() for n, w in weights.items()}
    tasks = [
        tuple(t.double() if t.is_floating_point() else t for t in scratch["make_task"]())
        for _ in range(3)
    ]
    loss, accuracy = scratch["meta_loss"](weights, tasks, second_order)
    mine = torch.autograd.grad(loss, list(weights.values()))

    model = AsModule(scratch["network"], weights)
    maml = innerloop.MAML(
        model,
        inner_lr=scratch["INNER_LR"],
        inner_steps=scratch["INNER_STEPS"],
        inner_reduction="mean",
        first_order=not second_order,
    )
    episodes = innerloop.Episodes(*(torch.stack(part) for part in zip(*tasks, strict=True)))
    grads, metrics = maml.meta_gradient(maml.init_params(), episodes)
    for name, g in zip(weights, mine, strict=True):
        assert g.abs().max() > 0, name
        torch.testing.assert_close(grads[name], g, rtol=1e-9, atol=1e-12, msg=name)
    assert metrics["loss"] == pytest.approx(loss.item())
    assert metrics["accuracy"] == pytest.approx(accuracy)


def test_it_learns(scratch, capsys):
    """Accuracy on symbols that it has never seen, from one drawing of each."""
    scratch["main"](iterations=20)
    last = capsys.readouterr().out.splitlines()[-1]
    untrained, trained = map(float, re.findall(r"0\.\d+", last))
    assert untrained < 0.85
    assert trained > 0.9


def test_it_needs_torch_alone():
    lines = FILE.read_text("utf-8").splitlines()
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert imports == ["import torch", "import torch.nn.functional as F"]
