"""Answers to questions, by `FewShotClassifier` and nothing else."""

from __future__ import annotations

import base64
import io
import json
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from innerloop.classifier import FewShotClassifier
from innerloop.config import TrainConfig
from innerloop.data.base import ImageClasses
from innerloop.data.glyphs import glyphs
from innerloop.demo.questions import (
    MAX_SIDE,
    Answer,
    EpisodeReply,
    EpisodeRequest,
    ModelCard,
    Question,
    Step,
)
from innerloop.demo.sent import sent_picture
from innerloop.errors import UserError
from innerloop.runs.loading import PRETRAINED, Loaded, load, pretrained_names
from innerloop.sources import build_data
from innerloop.tasks.sampler import EpisodeSampler

LABELS = "ABCDEFGHIJ"
# Opens the page: its beliefs grow step by step.
FIRST = "omniglot-5steps"


class Entry(NamedTuple):
    """A network that the page offers: what it says about itself, how Python gets it."""

    card: ModelCard
    loaded: Loaded
    code: str


def offered(runs: list[str]) -> dict[str, Entry]:
    """The networks of `runs`, those that come with the package, and an untrained one, by name.

    Raises:
        UserError: one cannot be loaded, or does not take grey pictures of ink.
    """
    entries = {}
    for name in [*runs, FIRST, *(name for name in pretrained_names() if name != FIRST)]:
        loaded = load(name)
        if loaded.config.inputs != "ink" or loaded.input_shape[0] != 1:
            raise UserError(f"{name} does not take drawings: the page is for grey pictures of ink")
        entries[name] = Entry(_card(name, loaded), loaded, repr(name))
    untrained = _card("untrained", entries[FIRST].loaded).model_copy(
        update={"trained": False, "accuracy": None, "ci95": None}
    )
    entries["untrained"] = Entry(
        untrained, entries[FIRST].loaded.untrained(), f'innerloop.load("{FIRST}").untrained()'
    )
    return entries


def _card(name: str, loaded: Loaded) -> ModelCard:
    file = PRETRAINED / f"{name}.json"
    test = {}
    if name in pretrained_names():
        test = json.loads(file.read_text("utf-8"))["tests"]["5-way 1-shot"]["support"]
    return ModelCard(
        name=name,
        algorithm=loaded.config.algorithm,
        data=loaded.config.data,
        inner_steps=loaded.algorithm.inner_steps,
        trained=True,
        accuracy=test.get("accuracy"),
        ci95=test.get("ci95"),
    )


def answer(question: Question, entries: dict[str, Entry]) -> Answer:
    """Adapt to the support set and return the probabilities for the query.

    Raises:
        UserError: there is no such network, or a picture that is none.
    """
    classifier, _, query = _learnt(question, entries)
    steps = [
        Step(support_loss=loss, probabilities=p[0].tolist())
        for loss, p in zip(
            classifier.support_loss_, classifier.staged_predict_proba([query]), strict=True
        )
    ]
    seen = as_png(classifier.prepared([query])[0, 0])
    return Answer(steps=steps, seen=seen, prepared=classifier.prepare_ == "ink")


def _learnt(
    question: Question, entries: dict[str, Entry]
) -> tuple[FewShotClassifier, list[list[np.ndarray]], np.ndarray]:
    """The classifier that has learnt, and bytes `[h, w]` of the support, by class, and the query.

    Raises:
        UserError: as `answer`.
    """
    classifier = FewShotClassifier(
        _entry(question, entries).loaded,
        inner_steps=question.inner_steps,
        ink="dark",
        prepare=question.prepare,
    )
    support = [[_picture(text) for text in texts] for texts in question.support]
    query = _picture(question.query)
    labels = [i for i, pictures in enumerate(support) for _ in pictures]
    classifier.fit([x for pictures in support for x in pictures], labels)
    return classifier, support, query


CODE = '''\
"""The drawing of the page, told apart in Python."""

import base64
import io

import innerloop
import numpy as np
from PIL import Image


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"))


support = {{
{support}
}}
query = picture("{query}")

images = np.stack([picture(text) for texts in support.values() for text in texts])
labels = [name for name, texts in support.items() for _ in texts]
# The pictures are as the network sees them.
classifier = innerloop.FewShotClassifier(
    {model}, inner_steps={inner_steps}, ink="dark", prepare="none"
)
classifier.fit(images, labels)
for step, p in enumerate(classifier.staged_predict_proba(query[None])):
    print(step, dict(zip(support, p[0].round(3).tolist())))
'''


def code(question: Question, entries: dict[str, Entry]) -> str:
    """A Python program that does the same as `answer`.

    Raises:
        UserError: as `answer`.
    """
    classifier, support, query = _learnt(question, entries)
    lines = [
        f'    "{LABELS[i]}": ['
        + ", ".join(f'"{as_png(x[0])}"' for x in classifier.prepared(pictures))
        + "],"
        for i, pictures in enumerate(support)
    ]
    return CODE.format(
        support="\n".join(lines),
        query=as_png(classifier.prepared([query])[0, 0]),
        model=_entry(question, entries).code,
        inner_steps=question.inner_steps,
    )


def episode_source(
    name: str, omniglot_source: str | None, entries: dict[str, Entry]
) -> tuple[ImageClasses, np.ndarray]:
    """Data set `name`, and the rows of its classes that none of the networks was trained on.

    Raises:
        UserError: the data cannot be had, is not grey, or fewer than ten such classes are left.
    """
    if name == "glyphs":
        # Training draws the alphabets of seed 0; these are others.
        data = glyphs(400, seed=1, progress=True)
        return data, np.arange(data.num_classes)
    data = build_data(TrainConfig(data=name, omniglot_source=omniglot_source), progress=True)
    if data.image_shape[0] != 1 or not data.dark_ink:
        raise UserError(
            f"the pictures of {name} are not dark strokes on light paper, as drawn here"
        )
    trained = {
        c
        for e in entries.values()
        if e.loaded.data_name == data.name
        for c in e.loaded.train_classes
    }
    unseen = np.array([i for i, c in enumerate(data.names) if c not in trained], dtype=np.int64)
    if len(unseen) < 10:
        raise UserError(
            f"{name} has {len(unseen)} classes that no network of the page was trained on; ten are "
            "needed"
        )
    return data, unseen


def episode(wanted: EpisodeRequest, data: ImageClasses, classes: np.ndarray) -> EpisodeReply:
    """An episode of `data`, which is the same for the same seed."""
    sampler = EpisodeSampler(
        data,
        classes,
        split="test",
        n_way=wanted.ways,
        k_shot=wanted.shots,
        k_query=1,
        seed=wanted.seed,
    )
    task = sampler.batch(0, 1).task(0)
    right = wanted.seed % wanted.ways
    (query,) = task.query_x[task.query_y == right]
    return EpisodeReply(
        data=data.name,
        support=[
            [as_png(_dark(x)) for x in task.support_x[task.support_y == i]]
            for i in range(wanted.ways)
        ],
        query=as_png(_dark(query)),
        answer=right,
    )


def _dark(ink: Tensor) -> np.ndarray:
    """Ink `[1, H, W]`, 0 to 1, as bytes of dark strokes on light paper."""
    return ((1 - ink[0]) * 255).round().byte().numpy()


def _entry(question: Question, entries: dict[str, Entry]) -> Entry:
    if question.model not in entries:
        raise UserError(f"there is no model {question.model!r}: choose from {', '.join(entries)}")
    return entries[question.model]


def _picture(text: str) -> np.ndarray:
    """Bytes `[h, w]`, on white paper."""
    picture = sent_picture(text, ["PNG"], MAX_SIDE).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(paper, picture).convert("L"))


def as_png(pixels: np.ndarray) -> str:
    """Grey bytes `[H, W]` as a PNG file in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
