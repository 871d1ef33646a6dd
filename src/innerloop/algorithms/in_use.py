"""Adaptation to many tasks, and its scores: what is computed without a meta-gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.apart import first, one_by_one
from innerloop.algorithms.arguments import checked_episodes
from innerloop.algorithms.execution import candidates, first_that_works
from innerloop.algorithms.hooks import Hooks
from innerloop.algorithms.inner_loops import check_lengths, steps_of
from innerloop.algorithms.reached import check_own_weights, try_loss
from innerloop.algorithms.shared_body import features_in_place
from innerloop.functional import Params
from innerloop.tasks.episodes import Episodes


def score_steps(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    inner_steps: int | None,
    every_step: bool,
) -> Params:
    """See `Algorithm.score_steps`."""
    episodes = checked_episodes(algorithm, episodes, training=False)
    algorithm.look(episodes.support_x[0])
    if not algorithm._loss_tried:
        try_loss(algorithm, params, episodes, training=False)
    check_own_weights(algorithm, params, episodes, training=False)

    def scored(tasks: Episodes, of_features: bool = False) -> Params:
        scores = algorithm.scores_each(
            params, tasks, inner_steps=inner_steps, every_step=every_step, of_features=of_features
        )
        return {name: torch.stack([s[name] for s in scores], dim=1) for name in scores[0]}

    numbers = set[int]()

    def of_one(task: Episodes) -> Params:
        found = first(scored(task.with_task()))
        numbers.update(len(m) for m in found.values())
        check_lengths(algorithm, len(numbers) <= 1)
        return found

    def by(way: str) -> Params:
        with torch.no_grad(), noise.in_use(episodes.num_tasks):
            if way == "stacked":
                return scored(episodes)
            if way == "shared_body":
                return scored(features_in_place(algorithm, params, episodes), True)
            return one_by_one(way, of_one, episodes)

    ways = candidates(algorithm, 1.0, training=False)
    return first_that_works(algorithm, "use", ways, by)


def adapt_all(
    algorithm: Hooks,
    params: Params,
    support_x: Tensor,
    support_y: Tensor,
    inner_steps: int | None,
    n_way: int | None,
) -> list[Params]:
    """See `Algorithm.inner_loop_each`."""
    tasks = Episodes(support_x, support_y, support_x, support_y, n_way=n_way)
    tasks = checked_episodes(algorithm, tasks, training=False)
    algorithm.look(support_x[0])
    check_own_weights(algorithm, params, tasks, training=False, queries=False)

    numbers = set[int]()

    def of_one(task: Episodes) -> list[Params]:
        x, y = task.support_x, task.support_y
        how: dict[str, Any] = {"inner_steps": inner_steps, "n_way": tasks.n_way}
        found = list(steps_of(algorithm, params, x, y, **how))
        numbers.add(len(found))
        check_lengths(algorithm, len(numbers) == 1)
        return found

    def by(way: str) -> list[Params]:
        with torch.no_grad(), noise.in_use(len(support_x)):
            if way == "stacked":
                return list(algorithm.loops(params, tasks, inner_steps=inner_steps))
            return one_by_one(way, of_one, tasks)

    ways = candidates(algorithm, 1.0, training=False)
    ways = ["loop"] if ways == ["shared_body"] or len(support_x) == 1 else ways
    return first_that_works(algorithm, "use", ways, by)
