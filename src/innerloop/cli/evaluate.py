"""`innerloop evaluate`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from innerloop.cli.output import show, show_lines
from innerloop.errors import UserError, at_least

if TYPE_CHECKING:
    from innerloop.runs.loading import Loaded
    from innerloop.tasks.protocol import Tasks

DESCRIPTION = """Test a trained network on tasks that it has not seen.

examples:
  innerloop evaluate runs/first
  innerloop evaluate runs/first --tasks 1000 --bn support --json
  innerloop evaluate runs/first --in-use --k-shot 5
  innerloop evaluate runs/first --data omniglot --inner-steps 10
  innerloop evaluate runs/first --data glyphs omniglot my-photos/
  innerloop evaluate runs/first --n-way 20
  innerloop evaluate runs/first --lake all_runs.zip"""

# What the challenge leaves open; without its archive, also which runs are drawn.
_LAKE = ("run", "lake", "inner_steps", "views", "trust", "json")
_DRAWN = (*_LAKE, "part", "tasks", "seed", "omniglot_source")


# What options are called among the settings of a run, where otherwise.
SETTINGS = {"k_query": "eval_k_query", "inner_steps": "eval_inner_steps", "seed": "episode_seed"}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to test on; everything not given is as in the run."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A run folder or a weights file."""
    tasks: int | None = None
    """Number of test tasks; by default 600, and 20 with --lake."""
    lake: tuple[Path, ...] | None = None
    """Run Lake's one-shot challenge on all_runs.zip or the folder with what is in it; without a
    PATH on runs of the same kind, drawn from the evaluation alphabets of Omniglot."""
    in_use: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Learn each task as FewShotClassifier and `innerloop adapt` do, with their inner steps and
    calibrated probabilities, each query by itself; pictures as in training, nothing is cropped."""
    views: Literal["whole", "flips", "turns"] | None = None
    """With --in-use or --lake: `turns` learns pictures in all quarter turns and averages the
    answers; `flips` their mirror images, too, not where left and right make a class."""
    inner_steps: int | None = None
    """Inner steps; by default the run's eval_inner_steps, with --in-use those of use."""
    bn: Literal["transductive", "support", "frozen", "per_step"] | None = None
    """Batch statistics for queries: of the query set, of the support set alone, `frozen` ones of a
    pretrained network, or for maml++ the running ones of each inner step."""
    part: Literal["test", "val", "train", "all"] = "test"
    """Which part of the split; all for every class of other data."""
    data: tuple[str, ...] = ()
    """Other data: glyphs, omniglot, random or a PATH; several make a table."""
    omniglot_source: str | None = None
    """Folder with the Omniglot archives."""
    split: str | None = None
    """Another split."""
    n_way: int | None = None
    """Another number of classes (needs head `shared`)."""
    k_shot: int | None = None
    """Another number of support images of each class."""
    k_query: int | None = None
    """Another number of query images of each class."""
    within_group: bool | None = None
    """Whether all classes of a task come from one group, such as an alphabet."""
    rotate_test: bool | None = None
    """Whether classes turned by 90, 180 and 270 degrees count as further classes."""
    seed: int | None = None
    """Other tasks, of the same split."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, mps."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the code that the run names, although you never used it on this machine."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the result as JSON on standard output."""
    per_task: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --json: keep the accuracy (or the loss) of every single task."""


def main(argv: list[str]) -> int:
    """Parse `argv`, evaluate, print; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop evaluate", description=DESCRIPTION)

    from innerloop.ops.allocator import keep_memory
    from innerloop.runs.loading import load_for
    from innerloop.training.report import TerminalReport, format_result, format_table

    at_least(2, tasks=arguments.tasks)  # Before it says that it is testing.
    keep_memory()
    if arguments.lake is not None:
        return _lake(arguments)
    tasks = 600 if arguments.tasks is None else arguments.tasks
    if arguments.views is not None and not arguments.in_use:
        raise UserError("--views is for --in-use and --lake: add one, or leave --views out")
    if arguments.per_task and not arguments.json:
        raise UserError("--per-task is for --json: add that, or leave --per-task out")
    several = len(arguments.data) > 1
    results = []
    try:
        for data in arguments.data or (None,):
            changes = _changes(arguments) | ({} if data is None else {"data": data})
            loaded, sampler = load_for(
                arguments.run, part=arguments.part, trust=arguments.trust, **changes
            )
            if arguments.views is not None:
                from innerloop.learners import network_learner

                # Before it says that it is testing.
                network_learner(loaded, str(arguments.run), "support", None, arguments.views)
            with TerminalReport().testing(tasks) as on_progress:
                result = _result(arguments, loaded, sampler, tasks, on_progress)
            if not arguments.per_task:
                result = {k: v for k, v in result.items() if k not in ("accuracies", "losses")}
            results.append(result)
    finally:
        # Where later data are refused, what has been measured is not lost.
        if results and several:
            show_lines(json.dumps(results) if arguments.json else format_table(results))
        elif results:
            show_lines(json.dumps(results[0]) if arguments.json else format_result(results[0]))
    return 0


def _result(
    arguments: Arguments,
    loaded: Loaded,
    sampler: Tasks,
    tasks: int,
    on_progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """By the inner steps of the tests, or by those of use."""
    if arguments.in_use:
        from innerloop.evaluation_in_use import evaluate_in_use

        return evaluate_in_use(
            loaded,
            sampler,
            tasks=tasks,
            inner_steps=arguments.inner_steps,
            bn=arguments.bn or "support",
            views=arguments.views,
            on_progress=on_progress,
        )
    from innerloop.evaluation import evaluate

    return evaluate(
        loaded.algorithm,
        loaded.params,
        sampler,
        tasks=tasks,
        inner_steps=loaded.config.eval_inner_steps,
        on_progress=on_progress,
    )


def _lake(arguments: Arguments) -> int:
    """Run the challenge, print; returns the exit status."""
    from innerloop.challenge import OFFICIAL, format_challenge, lake_challenge
    from innerloop.data import draw_lake_runs, lake_runs, omniglot, split_classes
    from innerloop.data.lake import ARCHIVE, RUNS, WHERE
    from innerloop.runs.loading import load
    from innerloop.training.report import TerminalReport

    places = arguments.lake or ()
    if len(places) > 1:
        raise UserError(f"--lake takes one PATH, not {len(places)}: put the run before --lake")
    for field in dataclasses.fields(Arguments):
        given = getattr(arguments, field.name) != field.default
        if given and field.name not in (_LAKE if places else _DRAWN):
            option = "--" + field.name.replace("_", "-")
            raise UserError(
                f"{option} is not for --lake, whose protocol is fixed: leave {option} out"
                + (f", or leave out {places[0]}" if field.name in _DRAWN else "")
            )
    # Before data is prepared, or downloaded.
    if arguments.part == "all":
        raise UserError("--part all is not for --lake: choose test, val or train")
    loaded = load(arguments.run, trust=arguments.trust)
    if places:
        runs, name = lake_runs(places[0]), OFFICIAL
    else:
        data = omniglot(arguments.omniglot_source, progress=not arguments.json)
        part, seed = arguments.part, arguments.seed or 0
        drawn = RUNS if arguments.tasks is None else arguments.tasks
        classes = None if part == "test" else split_classes(data, "lake2015")[part]
        runs = draw_lake_runs(data, classes, runs=drawn, seed=seed)
        name = f"runs drawn from the {part} part of lake2015, not the official ones"
    with TerminalReport().testing(len(runs)) as on_progress:
        result = lake_challenge(
            loaded,
            runs,
            inner_steps=arguments.inner_steps,
            views=arguments.views,
            name=name,
            on_progress=on_progress,
        )
    if not places:
        result["protocol"]["seed"] = seed
    show_lines(json.dumps(result) if arguments.json else format_challenge(result))
    if not places and not arguments.json:
        show(f"for the official runs: --lake {ARCHIVE}, which is {WHERE}")
    return 0


def _changes(arguments: Arguments) -> dict[str, Any]:
    """The settings of the run that are to be replaced."""
    own = ("run", "data", "tasks", "lake", "part", "trust", "json", "per_task", "in_use", "views")
    changes = {
        SETTINGS.get(name, name): value
        for name, value in dataclasses.asdict(arguments).items()
        if name not in own and value is not None
    }
    if changes.get("eval_inner_steps", 1) == 0:
        raise UserError("--inner-steps must be at least 1; the result lists step 0 too")
    return changes
