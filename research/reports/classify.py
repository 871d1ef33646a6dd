"""Trials of reports about a classifier in use, and about output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import cross_val_score

import innerloop
from research.reports.trial import classes, noise, refused, save, trial

SUPPORT = np.stack([np.eye(28), np.eye(28)[::-1]])
NAMES = ["down", "up"]
ROOT = Path(__file__).resolve().parents[2]


def _learnt() -> innerloop.FewShotClassifier:
    return innerloop.FewShotClassifier().fit(SUPPORT, NAMES)


@trial(
    "one picture told, as path, PIL picture, array or tensor, after a support set was learnt",
    "one label; `model.predict(picture)` is all",
)
def one_picture(root: Path) -> None:
    learnt = _learnt()
    array = (SUPPORT[1] * 255).astype(np.uint8)
    path = save(root / "1.png", array)
    forms = (path, str(path), Image.fromarray(array), array, torch.from_numpy(array), array / 255)
    for picture in forms:
        assert learnt.predict(picture).tolist() == ["up"]


@trial(
    "one flattened picture, `[784]`, where many `[n, 784]` are expected",
    "one error with `X.reshape(1, -1)`; never a label for each row or number",
)
def one_flat_picture(root: Path) -> None:
    learnt = innerloop.FewShotClassifier().fit(SUPPORT.reshape(2, -1), NAMES)
    for each in (learnt, _learnt()):
        with refused("X has one axis of 784 numbers", "X.reshape(1, -1)"):
            each.predict(SUPPORT[0].ravel())
    assert learnt.predict(SUPPORT[0].reshape(1, -1)).tolist() == ["down"]


@trial(
    "None, a dict, a number, a generator, text and an empty list in place of pictures",
    "one error each, which says what X must be (was: messages of scikit-learn's)",
)
def no_pictures(root: Path) -> None:
    learnt = _learnt()
    for X in (None, {"x": 1}, 5, (x for x in SUPPORT), b"123", [], np.zeros((0, 28, 28))):
        with refused("X"):
            learnt.predict(X)
    with refused("is a folder"):
        learnt.predict(root)


@trial(
    "labels that are missing, numbers and text mixed, fractions, one too many",
    "one error each (was: a TypeError; '1' for 1; scikit-learn's words)",
)
def labels(root: Path) -> None:
    for y, words in (
        (["a", None], "1 of the 2 labels are missing"),
        (["a", 1], "of several types"),
        ([0.5, 1.5], "y[0] is 0.5"),
        ([0, 1, 2], "X has 2 pictures, but y 3 labels"),
        (None, "one label for each picture"),
    ):
        with refused(words):
            innerloop.FewShotClassifier().fit(SUPPORT, y)
    with refused("X has 2 pictures, but y 1 label"):
        _learnt().score(SUPPORT, ["up"])


@trial("`cross_val_score(n_jobs=2)`", "works, and gives what one process gives")
def cross_validated(root: Path) -> None:
    X, y = np.repeat(SUPPORT, 4, axis=0), np.repeat(NAMES, 4)
    one, two = (
        cross_val_score(innerloop.FewShotClassifier(), X, y, cv=2, n_jobs=n) for n in (1, 2)
    )
    assert one.tolist() == two.tolist()


@trial("a run loaded from its folder, and used on new pictures", "`FewShotClassifier(folder)`")
def loaded(root: Path) -> None:
    place = classes(root / "pictures", "a b c d e f g h i j k l", number=4)
    small = {"iterations": 2, "val_every": 1, "val_tasks": 2, "test_tasks": 2, "threads": 1}
    settings = {"n_way": 2, "train_n_way": None, "k_query": 2, "eval_k_query": 2, "width": 4}
    innerloop.train(data=str(place), out=root / "run", split="random", **small, **settings)
    files = [place / name / "0.png" for name in "ab"]
    found = innerloop.FewShotClassifier(root / "run").fit(files, ["a", "b"]).predict(files[0])
    assert found.tolist() in (["a"], ["b"])


def _command(line: str, root: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words = line.replace("innerloop", f"'{sys.executable}' -m innerloop")
    variables = {**os.environ, "INNERLOOP_HOME": str(root / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, shell=True, capture_output=True, cwd=root, env=variables | environment, check=False
    )


@trial("output into a pipe that is closed early", "ends in silence, without a traceback")
def closed_pipe(root: Path) -> None:
    classes(root / "pictures")
    done = _command("innerloop data info pictures | head -c 1", root, PYTHONUNBUFFERED="1")
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@trial("output in ASCII and in latin-1, with a progress bar and names in Chinese", "no error")
def narrow_output(root: Path) -> None:
    classes(root / "pictures", "caf\u00e9 \u732b dog")
    for encoding in ("ascii", "latin-1", "cp1252"):
        done = _command("innerloop data info pictures", root, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr


@trial("names of folders that are not UTF-8", "read, used and printed, without a traceback")
def other_names(root: Path) -> None:
    for i, name in enumerate((b"caf\xe9", b"na\xefve", b"plain")):
        place = Path(os.fsdecode(os.fsencode(root) + b"/pictures/" + name))
        for k in range(3):
            save(place / f"{k}.png", noise(10 * i + k, (28, 28)))
    for line in (
        "innerloop data info pictures",
        "innerloop adapt omniglot-conv4 --support pictures --query pictures/plain",
    ):
        done = _command(line, root)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
