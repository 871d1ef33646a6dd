"""Networks of one's own with `bn="support"`: the same numbers in every way of computing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from innerloop import MAML, Episodes, MAMLPlusPlus, UserError
from innerloop.algorithms.settings import WAYS
from innerloop.models import BatchNorm
from tests.helpers import relative_error


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(6, 20), BatchNorm(20), nn.Linear(20, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x))))


class Mixing(Vectors):
    def forward(self, x):
        return super().forward(torch.tanh(x + x.mean(0)))


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


class Moved(Vectors):
    """Rows of an example stand apart when the norm sees them, or rows are mixed without it."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        count = len(x)
        if self.how == "views after each other":
            rows = super().forward(torch.cat([x, x.flip(-1)]))
            return rows[:count] + rows[count:]
        if self.how == "steps first":
            rows = super().forward(torch.stack([x, 2 * x, x + 1]).flatten(0, 1))
            return rows.unflatten(0, (3, count)).mean(0)
        if self.how == "backwards":
            return super().forward(x.flip(0)).flip(0)
        if self.how == "mixed":
            return self.head(self.first(x - x.mean(0)))
        if self.how == "several rows":
            return super().forward(x).repeat_interleave(2, 0)
        if self.how == "examples second":
            return {"logits": super().forward(x)[None]}
        return super().forward(x)


def moved(how, norm=True):
    model = Moved(how).double()
    if not norm:
        model.norm = nn.Identity()
    return model


def by_rows(outputs, targets):
    if isinstance(outputs, dict):
        outputs = outputs["logits"][0]
    return F.cross_entropy(outputs[:: len(outputs) // len(targets)], targets)


@pytest.mark.parametrize("k_shot", [1, 2])
@pytest.mark.parametrize("execution", ["auto", "loop"])
@pytest.mark.parametrize(
    ("how", "norm", "reason"),
    [
        ("views after each other", True, "no query may change the outputs for another"),
        ("steps first", True, "no query may change the outputs for another"),
        ("backwards", True, "no query may change the outputs for another"),
        ("mixed", True, "no query may change the outputs for another"),
        ("mixed", False, "no query may change the outputs for another"),
        ("several rows", True, "every output needs the examples along its first axis"),
        ("examples second", True, "every output needs the examples along its first axis"),
        ("as it is", True, None),
        ("several rows", False, None),
        ("examples second", False, None),
        ("views after each other", False, None),
    ],
)
def test_queries_stay_apart_or_the_network_is_refused(how, norm, reason, k_shot, execution):
    """Whatever a network does to the rows of a batch."""
    options = {"bn": "support", "loss": by_rows, "metric": None, "execution": execution}
    algorithm = MAML(moved(how, norm), 0.1, 2, **options)
    params, data = algorithm.init_params(), episodes((6,), 2, k_shot, 3)
    calls = algorithm.meta_gradient, algorithm.score_steps, lambda p, d: algorithm.adapt(p, *task)
    task = data.support_x[0], data.support_y[0]
    for call in calls:
        if reason is None:
            call(params, data)
            continue
        # Asked again, it is refused again.
        with pytest.raises(UserError, match=reason):
            call(params, data)
    if reason is None:
        predict = algorithm.predictor(params, data.support_x[0], data.query_x[0])
        first = algorithm.predictor(params, data.support_x[0], data.query_x[0, :1])
        a, b = (tree_leaves(f(params))[0].flatten() for f in (predict, first))
        if how == "as it is":
            torch.testing.assert_close(a[: len(b)], b)


def test_queries_stay_apart_with_constant_statistics_or_the_network_is_refused():
    model = nn.Sequential(nn.BatchNorm1d(6), moved("mixed")).double()
    algorithm = MAML(model, 0.1, 2, bn="frozen")
    data = episodes((6,), 2, 1, 3)
    with pytest.raises(UserError, match="bn='frozen' no query may change the outputs for another"):
        algorithm.score_steps(algorithm.init_params(), data)
    algorithm = MAML(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)).double(), bn="frozen")
    algorithm.score_steps(algorithm.init_params(), data)


def test_queries_stay_apart_with_running_statistics_or_the_network_is_refused():
    data = episodes((6,), 2, 1, 3)
    for model, refused in ((Vectors(), False), (Mixing(), True)):
        algorithm = MAMLPlusPlus(model.double(), 0.1, 2, bn="per_step")
        start = algorithm.init_params()
        if refused:
            with pytest.raises(UserError, match="bn='per_step' no query may change the outputs"):
                algorithm.score_steps(start, data)
        else:
            algorithm.score_steps(start, data)


def zeroed(model):
    nn.init.zeros_(model.head.weight)
    return model


class Steps(nn.Module):
    """The axis of examples is taken for that of time: each row sees those before."""

    def __init__(self):
        super().__init__()
        self.lstm, self.norm, self.head = nn.LSTM(2, 8), BatchNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(self.lstm(x.unflatten(1, (3, 2)))[0][:, -1]))


class Tokens(nn.Module):
    """The mean over the batch of something that no order changes."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Embedding(7, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x).mean(1)
        return self.head(h - h.mean(0))


class Largest(Vectors):
    def forward(self, x):
        return super().forward(x / x.abs().max())


class Checked(Vectors):
    """Takes no values but those that it knows."""

    def forward(self, x):
        assert set(x.unique().tolist()) <= {0.0, 1.0}
        return super().forward(torch.tanh(x + x.mean(0)))


class Large(Vectors):
    def forward(self, x):
        return super().forward(torch.tanh(x + x.mean(0)) if len(x) > 8 else x)


class InTraining(nn.Module):
    """Running statistics in use, those of the batch in training."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        norm = self.norm
        of = norm.running_mean, norm.running_var, norm.weight, norm.bias
        return self.head(F.batch_norm(x, *(t.clone() for t in of), training=self.training))


@pytest.mark.parametrize(
    ("make", "data", "bn"),
    [
        (lambda: zeroed(moved("views after each other")), None, "support"),
        (Steps, None, "support"),
        (Tokens, lambda x: (x.abs() * 3).long().clamp(max=6), "support"),
        (Largest, None, "support"),
        (Checked, lambda x: (x > 0).to(x.dtype), "support"),
        (Large, None, "support"),
        (InTraining, None, "frozen"),
    ],
)
def test_what_only_some_values_or_weights_show(make, data, bn):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        algorithm = MAML(make().double(), 0.1, 2, bn=bn)
    of_task = episodes((6,), 2, 2, 3)
    if data is not None:
        of_task = of_task._replace(support_x=data(of_task[0]), query_x=data(of_task[2]))
    with pytest.raises(UserError, match="no query may change the outputs for another"):
        algorithm.meta_gradient(algorithm.init_params(), of_task)


def test_transductive_norms_take_rows_as_they_come():
    algorithm = MAML(moved("steps first"), 0.1, 2, bn="transductive")
    algorithm.meta_gradient(algorithm.init_params(), episodes((6,), 2, 1, 3))


class Regression(Pictures):
    """Each example has one value per channel when the norm sees it."""

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(self.one(x), 1)
        return self.head(self.norm(pooled).flatten(1))[:, :1]


@pytest.mark.parametrize("channels", [16, 20])
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("execution", WAYS[:3])
def test_one_value_is_no_batch(channels, bn, execution):
    model = Regression(channels)
    algorithm = MAML(model, 0.1, 2, bn=bn, loss=nn.MSELoss(), execution=execution)
    data = Episodes(*(torch.rand(2, n, *size) for n in (1, 3) for size in ((1, 5, 5), (1,))))
    with pytest.raises(UserError, match="batch norm sees one value per channel"):
        algorithm.meta_gradient(algorithm.init_params(), data)


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
