"""Networks of one's own with `bn="support"`: the same numbers in every way of computing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError
from innerloop.algorithms.settings import WAYS
from innerloop.models import BatchNorm
from tests.helpers import relative_error


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(6, 20), BatchNorm(20), nn.Linear(20, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x))))


class Series(nn.Module):
    """A norm before the first convolution, and one after a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.before, self.norm = BatchNorm(16), BatchNorm(channels)
        self.conv, self.head = nn.Conv1d(16, channels, 3), nn.Linear(channels, 3)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(self.before(x)))).mean(-1))


class Places(nn.Module):
    """The places of each example stand together as rows."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(2, 16), BatchNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        rows = self.norm(self.first(x.transpose(1, 2).flatten(0, 1)))
        return self.head(F.gelu(rows).unflatten(0, (len(x), -1)).mean(1))


class Pictures(nn.Module):
    """Odd sizes, pooling, a way past a block; one norm may stand in two places."""

    def __init__(self, channels, *, twice=False):
        super().__init__()
        self.one = nn.Conv2d(1, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = BatchNorm(channels)
        self.other = self.norm if twice else BatchNorm(channels)
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.one(x))), 2)
        return self.head(F.relu(x + self.other(self.two(x))).mean((-2, -1)))


NETWORKS = {
    "vectors": (Vectors, (6,)),
    "series": (lambda: Series(16), (16, 9)),
    "series without kernels": (lambda: Series(20), (16, 9)),
    "places": (Places, (2, 5)),
    "pictures": (lambda: Pictures(16), (1, 9, 7)),
    "pictures without kernels": (lambda: Pictures(20), (1, 9, 7)),
    "one norm twice": (lambda: Pictures(16, twice=True), (1, 8, 8)),
}


def episodes(shape, tasks, k_shot, k_query):
    generator = torch.Generator().manual_seed(1)

    def part(each):
        x = torch.randn(tasks, 3 * each, *shape, generator=generator, dtype=torch.float64)
        return x, torch.arange(3).repeat(tasks, each)

    return Episodes(*part(k_shot), *part(k_query))


@pytest.mark.falls_back
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("tasks", "k_shot", "k_query"), [(1, 1, 1), (3, 1, 4), (2, 3, 1)])
@pytest.mark.parametrize("first_order", [False, True])
def test_every_way_gives_the_same_numbers(name, tasks, k_shot, k_query, first_order):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().double()
    data, found = episodes(shape, tasks, k_shot, k_query), {}
    for way in (*WAYS, "auto"):
        algorithm = MAML(model, 0.05, 2, first_order=first_order, bn="support", execution=way)
        params = algorithm.init_params()
        try:
            gradient, _ = algorithm.meta_gradient(params, data)
        except UserError:
            continue
        found[way] = gradient, algorithm.score_steps(params, data)["loss"]
    assert {"loop", "vmap", "auto"} <= found.keys()
    assert name in ("vectors", "places") or "kernels" in name or "stacked" in found
    expected, losses = found["loop"]
    for gradient, scored in found.values():
        assert relative_error(gradient, expected) < 1e-9
        torch.testing.assert_close(scored, losses, rtol=1e-9, atol=1e-11)
