"""The same numbers on a GPU as on a CPU; `pytest -m gpu` where there is one."""

import numpy as np
import pytest
import torch

import innerloop
from innerloop.models import Conv4
from tests.helpers import random_episodes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.mark.parametrize("pool", ["stride", "max"])
@pytest.mark.parametrize("options", [{"first_order": True}, {}, {"derivative": "mixed"}])
def test_meta_gradient(pool, options):
    model = Conv4(3, width=16, image_size=16, pool=pool, head="random").double()
    maml = innerloop.MAML(model, 0.1, 3, **options)
    episodes, params = random_episodes(), maml.init_params()
    expected, _ = maml.meta_gradient(params, episodes)
    model.cuda()
    there = {name: p.cuda() for name, p in params.items()}
    ours, _ = maml.meta_gradient(there, episodes.to("cuda"))
    size = torch.stack([g.norm() for g in expected.values()]).norm()
    for name, g in expected.items():
        assert ours[name].device.type == "cuda"
        torch.testing.assert_close(ours[name].cpu() / size, g / size, rtol=1e-6, atol=1e-9)


def test_episodes():
    data = innerloop.data.random_images(classes=20)
    shape = {"n_way": 5, "k_shot": 1, "k_query": 2}
    here = innerloop.EpisodeSampler(data, **shape).batch(3, 2)
    there = innerloop.EpisodeSampler(data, **shape, device="cuda").batch(3, 2)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_training(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 1, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", images)
    run = innerloop.train(
        data=str(tmp_path / "noise.npy"),
        split="random",
        device="cuda",
        iterations=4,
        val_every=2,
        val_tasks=4,
        test_tasks=4,
        width=16,
        n_way=3,
        train_n_way=None,
        out=tmp_path / "run",
    )
    assert run.results["iterations"] == 4
