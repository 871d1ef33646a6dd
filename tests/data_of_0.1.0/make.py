"""Makes the runs beside this file, with innerloop 0.1.0: see README.md.

    PYTHONPATH=OLD/src python tests/data_of_0.1.0/make.py

A run of each kind to its end, and the same run stopped after a few iterations.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

from innerloop.report import SilentReport

import innerloop

HERE = Path(__file__).parent
SMALL = {
    "iterations": 12,
    "val_every": 4,
    "val_tasks": 10,
    "test_tasks": 20,
    "meta_batch_size": 2,
    "threads": 1,
}
IMAGES = {
    "data": "glyphs",
    "glyph_classes": 300,
    "width": 8,
    "train_n_way": 5,
    "rotate": False,
    **SMALL,
}
RUNS = {
    "maml": IMAGES,
    "maml++": {"algorithm": "maml++", **IMAGES},
    "reptile": {"algorithm": "reptile", **IMAGES},
    "protonet": {"algorithm": "protonet", **IMAGES},
    # Its head has a row for each training class.
    "fine-tune": {"algorithm": "fine-tune", **IMAGES, "glyph_classes": 100, "width": 4},
    "sinusoid": {"data": "sinusoid", "width": 16, **SMALL},
}


class Stop(SilentReport):
    """Presses Ctrl-C in an iteration that is far from a validation; the run ends after the next."""

    def step(self, iteration: int, loss: float, share: float) -> None:
        """After each iteration."""
        if iteration == 6:
            os.kill(os.getpid(), signal.SIGINT)


def keep(run: Path, folder: Path) -> None:
    """Keep what is small: no picture, and of the checkpoints the one that a run goes on from."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("run.png"))
    finished = (folder / "results.json").exists()
    for path in sorted((folder / "checkpoints").iterdir())[: None if finished else -1]:
        path.unlink()


def main() -> None:
    """Make all of them."""
    assert innerloop.__version__ == "0.1.0"
    with tempfile.TemporaryDirectory() as temporary:
        for name, settings in RUNS.items():
            work = Path(temporary) / name
            whole = innerloop.train(out=work / "finished", **settings)
            stopped = innerloop.train(out=work / "interrupted", report=Stop(), **settings)
            assert stopped.interrupted
            for run in (whole, stopped):
                keep(run.folder, HERE / name / run.folder.name)
            metric = whole.results["metric"]
            print(f"{name}: {metric} {whole.results[metric]:.3f}")


if __name__ == "__main__":
    main()
