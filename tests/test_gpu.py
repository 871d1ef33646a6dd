"""The same numbers on a GPU as on a CPU; `pytest -m gpu` where there is one."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.own_networks import OWN, conv4, resnet12

import innerloop
from innerloop import ANIL, IMAML, MAML, MAMLPlusPlus, MetaSGD, ProtoNet, Reptile
from innerloop.models import Conv4
from innerloop.ops.precision import products
from innerloop.training.recorded import RecordedMetaGradient
from tests.helpers import random_episodes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

NETWORKS = {
    "strided": lambda: Conv4(3, width=16, image_size=16, head="random"),
    "pooled": lambda: Conv4(3, width=16, image_size=21, pool="max", head="random"),
    "shared head": lambda: Conv4(3, width=16, image_size=16, head="shared", unit_features=True),
    # Not for our kernels: through vmap.
    "odd width": lambda: Conv4(3, width=12, image_size=16, head="random"),
}
ALGORITHMS = {
    "MAML": lambda m: MAML(m, 0.1, 3),
    "first order": lambda m: MAML(m, 0.1, 3, first_order=True),
    "mixed mode": lambda m: MAML(m, 0.1, 3, derivative="mixed"),
    "statistics of the support set": lambda m: MAML(m, 0.1, 2, bn="support"),
    "clipped": lambda m: MAML(m, 0.1, 2, inner_max_norm=0.5, chunk_size=2),
    "ANIL": lambda m: ANIL(m, 0.1, 2),
    "Meta-SGD": lambda m: MetaSGD(m, 0.1, 2),
    "MAML++": lambda m: MAMLPlusPlus(m, 0.1, 2),
    "Reptile": lambda m: Reptile(m, 0.1, 3, inner_batch_size=4),
    "iMAML": lambda m: IMAML(m, 0.1, 2),
    "ProtoNet": ProtoNet,
}


def made(name, network):
    """The algorithm on a GPU, with meta-parameters and episodes, and what a CPU says of them."""
    algorithm = ALGORITHMS[name](NETWORKS[network]().double())
    size = 21 if network == "pooled" else 16
    episodes, params = random_episodes(shape=(1, size, size)), algorithm.init_params()
    expected, _ = algorithm.meta_gradient(params, episodes, 0.5)
    algorithm.model.cuda()
    there = {name: p.cuda() for name, p in params.items()}
    return algorithm, there, episodes.to("cuda"), expected


def assert_same(ours, expected, rtol=1e-6):
    size = torch.stack([g.norm() for g in expected.values()]).norm()
    for name, g in expected.items():
        assert ours[name].device.type == "cuda"
        torch.testing.assert_close(ours[name].cpu() / size, g / size, rtol=rtol, atol=rtol / 1000)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_meta_gradient(name, network):
    algorithm, params, episodes, expected = made(name, network)
    assert_same(algorithm.meta_gradient(params, episodes, 0.5)[0], expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_recording_follows_its_inputs(name, network):
    algorithm, params, episodes, _ = made(name, network)
    warnings = []
    recorded = RecordedMetaGradient(algorithm, warnings.append)
    for shift in range(5):
        turned = innerloop.Episodes(*(t.roll(shift, 0) + (t.ndim > 2) * shift for t in episodes))
        expected, _ = algorithm.meta_gradient(params, turned, 0.5)
        ours, metrics = recorded(params, turned, 0.5)
        assert metrics["loss"].isfinite()
        assert_same(ours, {n: g.cpu() for n, g in expected.items()})
        # As an optimiser does.
        for p in params.values():
            p.add_(0.01)
    assert not warnings
    assert recorded._graph is not None


# The same networks on fewer pixels, still of widths that the kernels serve.
SMALLER = {
    "F": {"network": lambda: conv4(3, 16, 32), "shape": (3, 32, 32)},
    "G": {"network": lambda: resnet12((16, 16, 32, 32)), "shape": (3, 32, 32)},
}


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("name", OWN)
def test_networks_of_ones_own(name, order):
    work = replace(OWN[name], tasks=2, k_query=2, **SMALLER.get(name, {}))
    model, episodes = work.make().double(), work.episodes(torch.float64)
    maml = MAML(model, work.lr, 2, first_order=order == "first")
    params = maml.init_params()
    expected, _ = maml.meta_gradient(params, episodes)
    model.cuda()
    there, warnings = {n: p.cuda() for n, p in params.items()}, []
    recorded = RecordedMetaGradient(maml, warnings.append)
    for _ in range(3):
        assert_same(recorded(there, episodes.to("cuda"), 1.0)[0], expected)
    assert not warnings
    assert recorded._graph is not None
    assert maml.explain().startswith("stacked")


class Waits:
    """An algorithm that reads a value during the step."""

    network = SimpleNamespace(look=lambda x: None, draws=False)

    def ways(self, labels, n_way):
        return n_way

    def phase(self, progress):
        return None

    def meta_gradient(self, params, episodes, progress):
        return {}, {"loss": torch.tensor(episodes.support_x.sum().item())}


def test_what_waits_for_the_gpu_is_not_recorded():
    warnings, episodes = [], random_episodes().to("cuda")
    recorded = RecordedMetaGradient(Waits(), warnings.append)
    for shift in range(4):
        turned = innerloop.Episodes(*(t + shift for t in episodes))
        loss = recorded({}, turned, 1.0)[1]["loss"]
        assert loss == turned.support_x.sum().item()
    assert len(warnings) == 1
    assert "waits for the GPU" in warnings[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.ones(2, device="cuda").sum().item() == 2


@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-4), ("tf32", 2e-2), ("bf16", 0.2)])
def test_precision(precision, off):
    maml = MAML(Conv4(3, width=16, image_size=16, head="random").double(), 0.03, 2)
    episodes, params = random_episodes(), maml.init_params()
    expected, _ = maml.meta_gradient(params, episodes)
    maml.model.float().cuda()
    there = {name: p.float().cuda() for name, p in params.items()}
    with products(precision, "cuda"):
        ours, _ = maml.meta_gradient(there, episodes.to(torch.float32).to("cuda"))
    apart = sum((ours[n].cpu().double() - g).square().sum() for n, g in expected.items())
    length = sum(g.square().sum() for g in expected.values())
    assert (apart / length).sqrt() < off


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("inputs", ["ink", "unit", "raw"])
def test_episodes(rotate, inputs, monkeypatch):
    data = innerloop.data.random_images(classes=20)
    options = {"n_way": 5, "k_shot": 1, "k_query": 2, "rotate": rotate, "inputs": inputs}
    here = innerloop.EpisodeSampler(data, **options).batch(3, 2)
    sampler = innerloop.EpisodeSampler(data, **options, device="cuda")
    assert sampler._fetch._on_device is not None
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, sampler.batch(3, 2), strict=True))
    # Too many images for the GPU's memory.
    monkeypatch.setattr(sampler._fetch, "_on_device", None)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, sampler.batch(3, 2), strict=True))


@pytest.fixture
def settings(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 1, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", images)
    return {
        "data": str(tmp_path / "noise.npy"),
        "split": "random",
        "device": "cuda",
        "iterations": 12,
        "val_every": 4,
        "val_tasks": 4,
        "test_tasks": 4,
        "width": 16,
        "n_way": 3,
        "train_n_way": None,
        "k_query": 3,
        "eval_k_query": 3,
    }


@pytest.mark.parametrize("algorithm", ["maml", "maml++", "protonet", "reptile", "fine-tune"])
@pytest.mark.parametrize("meta_optimizer", ["adam", "sgd"])
def test_training(tmp_path, settings, algorithm, meta_optimizer):
    run = innerloop.train(
        out=tmp_path / "run", **settings, algorithm=algorithm, meta_optimizer=meta_optimizer
    )
    assert run.results["iterations"] == 12


def test_resume_is_exact(tmp_path, settings, monkeypatch):
    whole = innerloop.train(out=tmp_path / "whole", **settings)

    class Interrupts(innerloop.training.report.SilentReport):
        def validated(self, line):
            if line["iteration"] == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        innerloop.train(out=tmp_path / "parts", report=Interrupts(), **settings)
    again = innerloop.resume(tmp_path / "parts")
    assert all(torch.equal(p, again.params[n]) for n, p in whole.params.items())


def test_divergence_is_said(tmp_path, settings):
    with pytest.raises(innerloop.UserError, match="diverged"):
        innerloop.train(
            out=tmp_path / "run",
            **settings | {"meta_lr": 1e30, "clip_norm": None},
            schedule="constant",
        )
