"""Training, `evaluate`, `FewShotClassifier` and `innerloop adapt` do the same to pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.cli import main
from innerloop.evaluation import outputs_per_step
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.loading import load_for

SIZE, CLASSES, EACH = 16, 15, 4
SMALL = {
    "split": "random",
    "n_way": 2,
    "train_n_way": None,
    "k_query": 1,
    "eval_k_query": 3,
    "rotate": False,
    "width": 8,
    "iterations": 1,
    "val_every": 1,
    "val_tasks": 2,
    "test_tasks": 2,
    "meta_batch_size": 1,
}


def pictures(kind):
    """Bytes `[classes, images, SIZE, SIZE, 3]`: a patch a class, on what the kind says."""
    generator = np.random.default_rng(1)
    shape = (CLASSES, EACH, SIZE, SIZE, 3)
    colour = kind.startswith("colour")
    paper = {"white": 255, "black": 0}.get(kind.split()[-1])
    if paper is None:
        # Light edges or dark ones, by class: most are light.
        edges = np.where(np.arange(CLASSES) % 3 == 0, 40, 200)
        edges = edges[:, None, None, None, None]
        found = np.clip(edges + generator.integers(-40, 50, shape), 0, 255)
    else:
        found = np.full(shape, paper)
    for c in range(CLASSES):
        y, x = generator.integers(2, SIZE - 7, 2)
        found[c, :, y : y + 5, x : x + 5] = generator.integers(60, 200, (EACH, 5, 5, 3))
    return (found if colour else found[..., :1].repeat(3, -1)).astype(np.uint8)


KINDS = [
    *(("grey on white", "ink"), ("grey on black", "ink"), ("grey photos", "ink")),
    *(("colour on white", "ink"), ("colour photos", "ink"), ("colour photos", "unit")),
    *(("grey on white", "unit"), ("grey photos", "raw"), ("colour on white", "raw")),
]


@pytest.fixture(scope="module", params=KINDS, ids=[" ".join(kind) for kind in KINDS])
def trained(request, tmp_path_factory):
    """A run on a folder of pictures of one kind: `(kind, folder of pictures, run folder)`."""
    kind, inputs = request.param
    root = tmp_path_factory.mktemp("kind")
    for c, images in enumerate(pictures(kind)):
        (root / "data" / f"c{c:02d}").mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / "data" / f"c{c:02d}" / f"{i}.png")
    run = innerloop.train(data=str(root / "data"), inputs=inputs, out=root / "run", **SMALL)
    return request.param, root / "data", run.folder


def tasks_of(run, count=2):
    """A network, its test tasks, and for each which picture is which: bytes and labels."""
    loaded, sampler = load_for(run, bn="support")
    images, _, _ = sampler.indices(0, count)
    for number, chosen in enumerate(images):
        yield loaded, sampler.batch(number, 1).task(0), sampler.data, chosen


def test_three_ways_see_the_same_pixels_and_answer_the_same(trained, tmp_path, capsys):
    _, folder, run = trained
    for number, (loaded, task, data, chosen) in enumerate(tasks_of(run)):
        support, queries = chosen[:, :1].ravel(), chosen[:, 1:].ravel()
        classifier = FewShotClassifier(run, temperature=1.0, inner_steps=3)
        classifier.fit(data.images[support], list("ab"))
        # The task has the same pictures in another order.
        for ours, theirs in ((support, task.support_x), (queries, task.query_x)):
            ours = {x.numpy().tobytes() for x in classifier._inputs(data.images[ours])}
            assert ours == {x.numpy().tobytes() for x in theirs}
        answers = classifier.predict_proba(data.images[queries])
        right = (answers.argmax(1) == np.repeat([0, 1], 3)).mean()
        outputs = outputs_per_step(loaded.algorithm, loaded.params, task, inner_steps=3, n_way=2)[
            -1
        ]
        assert (outputs.argmax(1) == task.query_y).double().mean() == pytest.approx(right)
        found = outputs.softmax(1).sort(dim=1)[0][:, 1].sort()[0]
        expected = torch.from_numpy(answers).max(dim=1)[0].sort()[0]
        assert torch.allclose(found.double(), expected, atol=1e-4)

        # The same pictures as files.
        files = sorted(folder.rglob("*.png"))
        place = tmp_path / str(number)
        for label, index in zip("ab", support, strict=True):
            (place / "support" / label).mkdir(parents=True)
            (place / "support" / label / "1.png").write_bytes(files[index].read_bytes())
        words = ["adapt", str(run), "--support", str(place / "support"), "--json"]
        words += ["--picture", str(place / "p.png"), "--query", *(str(files[i]) for i in queries)]
        assert main(words) == 0
        report = json.loads(capsys.readouterr().out)
        told = [list(query["probabilities"].values()) for query in report["queries"]]
        calibrated = FewShotClassifier(run).fit(data.images[support], list("ab"))
        np.testing.assert_allclose(told, calibrated.predict_proba(data.images[queries]), atol=1e-6)


def test_only_pictures_on_paper_have_ink(trained):
    (kind, inputs), _, run = trained
    loaded = innerloop.load(run)
    on_paper = inputs == "ink" and kind in ("grey on white", "grey on black")
    assert (loaded.on_paper, loaded.knows_ink) == (on_paper, on_paper)
    assert loaded.inverted == (inputs == "ink" and kind in ("grey on white", "grey photos"))
    images = np.full((2, *loaded.input_shape), 255, np.uint8)
    images[0, :, 2:6, 9:12] = images[1, :, 5:9, 5:9] = 90
    for given, ink in ((images, "dark"), (255 - images, "light")):
        assert FewShotClassifier(run).fit(given, [0, 1]).ink_ == (ink if on_paper else None)
    if inputs != "ink" or kind.startswith("colour"):
        with pytest.raises(UserError, match=r"ink is 'dark', but .* leave ink out"):
            FewShotClassifier(run, ink="dark").fit(images, [0, 1])


def test_other_data_is_treated_as_in_training(trained, tmp_path):
    """Photos are inverted exactly if training's were; for ink, the picture itself decides."""
    (kind, _), _, run = trained
    loaded = innerloop.load(run)
    other = np.full((10, 4, *loaded.input_shape), 30, np.uint8)
    np.save(tmp_path / "dark.npy", other)
    _, sampler = load_for(run, data=str(tmp_path / "dark.npy"), split="random")
    assert sampler.inverted == (loaded.inverted and kind != "grey on white")


def test_files_that_do_not_say_are_read_as_before_and_nonsense_is_refused(trained, tmp_path):
    (kind, inputs), _, run = trained
    tensors, metadata = read_tensors(run / "model.safetensors")
    said = metadata.pop("pixels")
    write_tensors(tmp_path / "old.safetensors", tensors, metadata)
    old = innerloop.load(tmp_path / "old.safetensors")
    assert (old.inverted, old.on_paper) == (None, None)
    # Colour was never inverted by itself.
    assert old.knows_ink == (inputs == "ink" and kind.startswith("grey"))
    for nonsense in ([], {"inverted": 1}, {**said, "more": True}):
        write_tensors(tmp_path / "bad.safetensors", tensors, {**metadata, "pixels": nonsense})
        with pytest.raises(UserError, match="does not say what training did to pixels"):
            innerloop.load(tmp_path / "bad.safetensors")
