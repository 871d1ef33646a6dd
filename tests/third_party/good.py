"""A package of somebody else's, checked by `mypy --strict`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

import innerloop
from innerloop import FewShotClassifier, Tasks
from innerloop.algorithms import GradientBased, InnerRates, MAMLOptions, Support
from innerloop.data import from_arrays, from_dataset
from innerloop.functional import Params, gradient
from innerloop.inner import Adam, InnerOptimizer
from innerloop.testing import check_algorithm


class Network(nn.Module):
    def __init__(self, n_way: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Linear(4, width)
        self.head = nn.Linear(width, n_way)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).relu())
        return out


class Headed(innerloop.models.HeadedModel):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Shrinking(innerloop.MAML):
    """Each inner step is a share of the one before."""

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.1,
        inner_steps: int = 2,
        *,
        share: float = 0.5,
        **options: Unpack[MAMLOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        self.share = share

    def init_params(self) -> Params:
        params = super().init_params()
        return params | {"share@": next(iter(params.values())).new_tensor(self.share)}

    def rates(self, params: Params, step: int) -> Mapping[str, Tensor]:
        return {
            name: self.inner_lr_of(name) * params["share@"] ** step for name in self.adapted_names
        }

    def inner_loss(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        return super().inner_loss(params, fast, support, step)

    def support_loss(self, outputs: Any, targets: Any) -> Tensor:
        return 2 * super().support_loss(outputs, targets)

    def query_loss(self, params: Params, task: innerloop.Episodes) -> tuple[Tensor, Params]:
        loss, metrics = super().query_loss(params, task)
        return loss + 0, metrics


class Slower(innerloop.MAML):
    def update(self, params: Params, fast: Params, gradient: Params, step: int) -> Params:
        return super().update(params, fast, {n: g / 2 for n, g in gradient.items()}, step)


class SignDescent(innerloop.Algorithm):
    inner_steps = 3

    def inner_loop(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        def loss(weights: Params) -> Tensor:
            return self.loss(self.forward(weights, support_x), support_y)

        fast = self.fast_weights(params, n_way)
        yield fast
        for _ in range(self.inner_steps if inner_steps is None else inner_steps):
            slope = gradient(loss, fast, create_graph=True)
            fast = {name: p - 0.01 * slope[name].sign() for name, p in fast.items()}
            yield fast


class Plain:
    """An inner optimiser."""

    def init(self, weights: Params) -> None:
        return None

    def update(
        self, weights: Params, gradient: Params, state: Any, rates: innerloop.functional.Rates
    ) -> tuple[Params, None]:
        return innerloop.functional.descend(weights, gradient, rates), None


class Lines:
    """Tasks: anything with `batch`."""

    n_way = 3

    def batch(self, start: int, count: int) -> innerloop.Episodes:
        tasks: list[tuple[Tensor, ...]] = []
        for number in range(start, start + count):
            generator = torch.Generator().manual_seed(number)
            x, y = torch.randn(6, 4, generator=generator), torch.arange(3).repeat(2)
            tasks.append((x, y, x, y))
        sx, sy, qx, qy = (torch.stack(parts) for parts in zip(*tasks, strict=True))
        return innerloop.Episodes(sx, sy, qx, qy, n_way=3)


class Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(index)), index % 3


class Quiet(innerloop.Report):
    def validated(self, line: dict[str, Any]) -> None:
        print(line["iteration"])


@innerloop.register_algorithm("shrinking", recipe={"inner_lr": 0.05})
class Registered(Shrinking):
    pass


innerloop.register_algorithm("sign-descent", SignDescent)


@innerloop.register_model("small")
def small(n_way: int, width: int) -> Network:
    return Network(n_way, width)


@innerloop.register_data("lines")
def lines() -> dict[str, Tasks]:
    return {"train": Lines(), "val": Lines()}


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    return (outputs.argmax(-1) == targets).float().mean().item()


def rate(done: float) -> float:
    return 1 - done


def train(folder: Path) -> innerloop.Run:
    optimizer: InnerOptimizer = Plain()
    rates = {"head.*": 0.4, "*": 0.1}
    algorithm = Shrinking(Network(3), rates, inner_optimizer=optimizer, metric=accuracy)
    maml = innerloop.MAML(Network(3), 0.1, 3, inner_optimizer=Adam(), bn="support", chunk_size=4)
    innerloop.ProtoNet(Headed(), distance="cosine", loss=nn.functional.cross_entropy)
    run = innerloop.fit(
        algorithm,
        Lines(),
        val=Lines(),
        test=Lines,
        out=folder,
        iterations=2,
        val_tasks=4,
        test_tasks=4,
        meta_optimizer=torch.optim.AdamW,
        schedule=rate,
        report=Quiet(),
        precision="float32",
    )
    run = innerloop.resume(
        run.folder, algorithm=algorithm, train=Lines(), val=Lines(), test=Lines, schedule=rate
    )
    print(run.results["accuracy"], maml.explain(), isinstance(Lines(), Tasks))
    scores: dict[str, Any] = innerloop.evaluate(run.algorithm, run.params, Lines(), tasks=20)
    print(scores["ci95"], gradient_based(algorithm).inner_steps)
    return run


def gradient_based(algorithm: GradientBased) -> GradientBased:
    return algorithm


def recipe(folder: Path) -> innerloop.Run:
    config = innerloop.TrainConfig(algorithm="anil", n_way=3, inputs="unit", val_tasks=2)
    return innerloop.train(
        config, out=folder, data="random", iterations=2, test_tasks=2, pool="max", bn="support"
    )


def data() -> innerloop.data.ClassIndexed:
    rng = np.random.default_rng(0)
    classes = from_arrays(rng.normal(size=(900, 4)), np.arange(900) % 30, name="numbers")
    parts = innerloop.split_tasks(classes, n_way=3, k_shot=(1, 5))
    train: Tasks = parts.train
    sampler = innerloop.EpisodeSampler(classes, n_way=3, k_shot=1)
    print(train.batch(0, 1).to("cpu").to(torch.float64).num_tasks, sampler.protocol())
    return from_dataset(Pairs())


def classify(images: np.ndarray[Any, np.dtype[Any]], labels: list[str]) -> list[str]:
    classifier = FewShotClassifier("omniglot-conv4", inner_steps=2, ink="light")
    fitted = classifier.fit(images, labels)
    probabilities = fitted.predict_proba(images)
    other = FewShotClassifier.from_pretrained("omniglot-conv4", bn="support", temperature=2.0)
    print(probabilities.shape, other.bn)
    found: list[str] = fitted.predict(images).tolist()
    return found


def adapt(loaded: innerloop.Loaded) -> Params:
    x, y = torch.rand(1, 6, 1, 28, 28), torch.arange(3).repeat(1, 2)
    episodes = innerloop.Episodes(x, y, x, y, n_way=3)
    task = episodes.task(0)
    fast = loaded.algorithm.adapt(loaded.params, task.support_x, task.support_y, n_way=3)
    grads, metrics = loaded.algorithm.meta_gradient(loaded.params, episodes)
    print(loaded.config.device, metrics["loss"], len(grads))
    return fast


def main(folder: Path) -> None:
    torch.manual_seed(0)
    train(folder / "own")
    recipe(folder / "named")
    data()
    images = np.stack([np.eye(28), np.eye(28)[::-1]])
    assert classify(images, ["down", "up"]) == ["down", "up"]
    adapt(innerloop.load("omniglot-conv4"))
    check_algorithm(lambda model: Shrinking(model, inner_steps=2))
    check_algorithm(Slower)
    try:
        innerloop.load("nothing")
    except innerloop.UserError:
        print("fine")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
