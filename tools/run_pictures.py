"""Draw the pictures of runs for the docs: `python -m tools.run_pictures [NAME ...]`.

`run` is that of `innerloop train`; `comparison` that of `innerloop plot` on short runs of three
algorithms; `adapt` that of `innerloop adapt` on invented symbols.  Each is `docs/img/NAME.png` with
English labels and `docs/img/NAME.svg` with Chinese ones.  `run` also writes what the same run found
to `benchmarks/results/first_run.json`, for the output that pages show beside the picture.  Without
names all are drawn.  Trains for some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.pictures import IMAGES, KINDS
from benchmarks.reports import check_names, shorten, write_report
from PIL import Image

import innerloop
from innerloop.cli import main as command
from innerloop.data import glyphs
from innerloop.plots.comparison import plot_runs
from innerloop.plots.figures import plot_run
from innerloop.runs.loading import load_for

SHORT: dict[str, Any] = {"iterations": 600, "val_every": 50, "val_tasks": 200}
CLASSES, SHOTS = 5, 2


def _run() -> None:
    run = innerloop.train(out="run")
    network, sampler = load_for(run.folder)
    steps = network.config.eval_inner_steps or network.algorithm.inner_steps
    for kind, language in KINDS.items():
        out = IMAGES / f"run.{kind}"
        plot_run(
            run.folder,
            network.algorithm,
            network.params,
            sampler,
            steps,
            out=out,
            language=language,
        )
    found = dict(run.results)
    shorten(found)
    write_report("first_run", found, "python -m tools.run_pictures run")


def _comparison() -> None:
    names = ("maml", "protonet", "reptile")
    runs = [innerloop.train(out=name, algorithm=name, **SHORT).folder for name in names]
    # Short in the legend.
    short = [Path(folder.name) for folder in runs]
    for kind, language in KINDS.items():
        plot_runs(short, IMAGES / f"comparison.{kind}", language=language)


def _adapt() -> None:
    images = glyphs(CLASSES, SHOTS + 1, seed=1).images.reshape(CLASSES, SHOTS + 1, 28, 28)
    Path("queries").mkdir()
    for number, (*support, query) in enumerate(images):
        symbol = "abcde"[number]
        for i, picture in enumerate(support):
            folder = Path("symbols") / symbol
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{i}.png")
        if number < 2:
            Image.fromarray(query).save(f"queries/{number + 1}.png")
    words = ["adapt", "omniglot-conv4", "--support", "symbols", "--query", "queries"]
    for kind, language in KINDS.items():
        out = IMAGES / f"adapt.{kind}"
        if status := command([*words, "--picture", str(out), "--language", language]):
            raise SystemExit(status)


PICTURES: dict[str, Callable[[], None]] = {"run": _run, "comparison": _comparison, "adapt": _adapt}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all by default")
    names = parser.parse_args().names
    check_names(parser, "picture", names, PICTURES)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in names or PICTURES:
            PICTURES[name]()


if __name__ == "__main__":
    main()
