"""Meta-training on the features of a frozen body, from the folder to its use."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import innerloop
from innerloop import FewShotClassifier, TrainConfig, UserError
from innerloop.backbones import backbone, feature_classes, sources
from innerloop.cli import main
from innerloop.models import Embedding
from tests.backbones import libraries

NETS = """
import torch
from torch import nn

calls = 0


class Colours(nn.Module):
    def __init__(self, gain):
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Linear(12, 24)
        self.mix.weight.data *= gain

    def forward(self, x):
        global calls
        calls += len(x)
        return self.mix(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def make():
    return Colours({gain})
"""
SMALL = """--iterations 6 --val-every 3 --val-tasks 4 --test-tasks 20 --n-way 3 --train-n-way 3
--k-query 1 --eval-k-query 2 --threads 1 --json""".split()
TRAIN = ["train", "--body", "nets.py:make", "--data", "photos", *SMALL, "--image-size", "16"]
TRAIN += ["--glyph-classes", "50"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twenty classes of four pictures, of different sizes; three pictures of a class anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    Path("nets.py").write_text(NETS.replace("{gain}", "1.0"))
    generator = np.random.default_rng(0)
    for number in range(20):
        colours = generator.integers(0, 256, (2, 2, 3)).astype(np.int64)
        for place, count in ((f"photos/c{number:02d}", 4), (f"new/c{number:02d}", 1)):
            Path(place).mkdir(parents=True)
            for i in range(count):
                noise = generator.integers(-20, 21, (2, 2, 3))
                picture = Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8))
                size = (20 + 2 * number, 30 + i)
                picture.resize(size, Image.Resampling.NEAREST).save(f"{place}/{i}.png")
    return tmp_path


def test_a_run_with_a_function_for_preprocessing_is_used_by_another_process(photos, capsys):
    with Path("nets.py").open("a") as file:
        file.write("""

def pixels(picture):
    from innerloop.backbones import Preprocess

    return Preprocess(16)(picture)
""")
    words = ["train", "--body", "nets.py:make", "--preprocess", "nets.py:pixels"]
    assert main([*words, "--data", "photos", *SMALL, "--schedule", "constant", "--out", "run"]) == 0
    # As after a new start; the function from before stays, so that the other lies elsewhere.
    before = module()
    del sys.modules[before.__name__]
    sources._named.cache_clear()
    assert main(["evaluate", "run", "--tasks", "2"]) == 0
    assert module().pixels is not before.pixels
    assert main(["adapt", "run", "--support", "photos", "--query", "new/c00"]) == 0
    assert main(["resume", "run", "--iterations", "12"]) == 0


def test_a_run_is_handed_on_with_its_files(photos, capsys):
    Path("mine").mkdir()
    shutil.move("nets.py", "mine/nets.py")
    with Path("mine/nets.py").open("a") as file:
        file.write("\nfrom innerloop.backbones import Preprocess\npixels = Preprocess(16)\n")
    save_file(
        {"mix.weight": torch.ones(24, 12), "mix.bias": torch.arange(24.0)}, "mine/w.safetensors"
    )
    words = ["--weights", "mine/w.safetensors", "--preprocess", "mine/nets.py:pixels"]
    words += ["--data", "photos", *SMALL, "--schedule", "constant", "--out", "mine/run"]
    assert main(["train", "--body", "mine/nets.py:make", *words]) == 0
    Path("theirs").mkdir()
    shutil.move("mine/run", "theirs/run")
    shutil.move("mine", "away")
    sources._named.cache_clear()
    capsys.readouterr()
    adapt = ["adapt", "theirs/run", "--support", "photos", "--query", "new/c00"]
    assert main(adapt) == 2
    assert re.search(
        r"body: there is no file .*mine.nets.py: .* put nets.py into its folder",
        capsys.readouterr().err,
    )
    # Code into the folder, weights beside it.
    shutil.copy("away/nets.py", "theirs/run")
    shutil.copy("away/w.safetensors", "theirs")
    assert main(adapt) == 2
    assert "theirs/run/nets.py:make" in capsys.readouterr().err
    assert main([*adapt, "--trust"]) == 0
    assert main(["evaluate", "theirs/run", "--tasks", "2"]) == 0
    assert main(["resume", "theirs/run", "--iterations", "12"]) == 0


def module():
    from innerloop.references import find

    return sys.modules[find("nets.py:make").__module__]


def replace_body():
    """Other weights in the same file."""
    del sys.modules[module().__name__]
    sources._named.cache_clear()
    Path("nets.py").write_text(NETS.replace("{gain}", "2.00"))


def run(*words):
    assert main([*TRAIN, *words]) == 0


@pytest.mark.parametrize(
    "more",
    [
        ["--algorithm", "protonet"],
        ["--algorithm", "anil"],
        ["--adapted", "head"],
        ["--algorithm", "protonet", "--model", "mlp", "--width", "64"],
    ],
)
def test_train_evaluate_and_use(more, photos, capsys):
    run(*more, "--out", "run")
    trained = json.loads(capsys.readouterr().out)
    assert trained["accuracy"] > 0.5
    assert trained["protocol"]["data"] == "photos"
    assert main(["evaluate", "run", "--tasks", "20", "--json", "--per-task"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracies"] == trained["accuracies"]
    assert main(["evaluate", "run", "--data", "glyphs", "--tasks", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["data"] == "glyphs"
    few = Path("few")
    for name in ("c00", "c01", "c02", "c03"):
        shutil.copytree(Path("photos", name), few / name)
    assert main(["adapt", "run", "--support", "few", "--query", "new/c03", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queries"][0]["class"] == "c03"
    assert told["head"] is told["ink"] is None
    files, new = sorted(few.glob("*/*.png")), [f"new/c0{i}/0.png" for i in range(4)]
    classifier = FewShotClassifier("run").fit(files, [file.parent.name for file in files])
    assert (classifier.predict(new) == classifier.classes_).mean() >= 0.75
    labels, probabilities = classifier.tell(new)
    assert (labels == classifier.predict(new)).all()
    np.testing.assert_array_equal(probabilities, classifier.predict_proba(new))
    expected = list(told["queries"][0]["probabilities"].values())
    np.testing.assert_allclose(probabilities[3], expected, atol=1e-6)
    for what in (["run", "--support", "few"], ["run", "--learner"], ["nets.py:make", "--learner"]):
        assert main(["export", *what, "--out", "a.onnx"]) == 2
        assert "cannot be exported" in capsys.readouterr().err


def test_the_body_runs_once_a_picture(photos):
    run("--algorithm", "protonet", "--views", "whole", "--out", "one")
    before = module().calls
    assert before >= 80
    run("--algorithm", "anil", "--views", "whole", "--out", "two")
    assert module().calls == before


def test_a_longer_run_is_that_of_a_run_from_the_start(photos):
    run("--schedule", "constant", "--out", "a")
    assert main(["resume", "a", "--iterations", "12"]) == 0
    run("--schedule", "constant", "--iterations", "12", "--out", "b")
    a, b = (innerloop.load(name) for name in "ab")
    assert all(torch.equal(p, b.params[name]) for name, p in a.params.items())
    assert a.computed_by == b.computed_by != ""


def test_another_body_is_refused(photos, capsys):
    run("--out", "run")
    replace_body()
    capsys.readouterr()
    for command in (
        ["evaluate", "run"],
        ["adapt", "run", "--support", "photos", "--query", "new/c00"],
    ):
        assert main([*command, "--trust"]) == 2
        assert "other features than when the network was trained" in capsys.readouterr().err
    assert main(["resume", "run", "--iterations", "12", "--trust"]) == 2
    assert "bring data and body back" in capsys.readouterr().err


def test_code_that_a_run_names_is_not_run_unasked(photos, capsys):
    run("--out", "run")
    os.environ["INNERLOOP_HOME"] = str(photos / "another")
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert "names code to run" in capsys.readouterr().err


def test_pictures_in_memory_and_a_run_by_fit(photos):
    body = backbone("nets.py:make", image_size=16)
    data = feature_classes(innerloop.data.glyphs(40), body, views="whole")
    assert data.example_shape == (24,)
    assert data.computed_by == body.identity
    pictures = innerloop.data.glyphs(40)
    expected = body.features(pictures.class_examples(7))
    np.testing.assert_allclose(data.class_examples(7), expected, atol=1e-5)
    tasks = innerloop.split_tasks(data, n_way=3, k_shot=1, k_query=2)
    protonet = innerloop.ProtoNet(Embedding(24, width=12), distance="cosine")
    made = innerloop.fit(protonet, tasks.train, test=tasks.test, out="own", iterations=2)
    assert made.results["accuracy"] > 0.3
    loaded = innerloop.load("own", algorithm=protonet)
    with pytest.raises(UserError, match="which are no pictures"):
        FewShotClassifier(loaded).fit(pictures.images[:4], list("aabb"))
    again = innerloop.train(
        model="embedding",
        body="nets.py:make",
        image_size=16,
        data=pictures,
        n_way=2,
        train_n_way=2,
        iterations=2,
        val_tasks=2,
        test_tasks=2,
        out="given",
    )
    assert again.results["protocol"]["data"] == "glyphs"


def test_folders_with_a_split_of_their_own(photos):
    for number, folder in enumerate(sorted(Path("photos").iterdir())):
        part = ("train", "train", "train", "val", "test")[number // 4]
        Path("parts", part).mkdir(parents=True, exist_ok=True)
        folder.rename(Path("parts", part, folder.name))
    Path("parts/train/c00/notes.txt").write_text("not a picture")
    data = feature_classes("parts", backbone("nets.py:make", image_size=16))
    assert {part: len(rows) for part, rows in data.splits["folders"].items()} == {
        "train": 12,
        "val": 4,
        "test": 4,
    }


@pytest.fixture
def deep(photos):
    """The photos as grey pictures of 12 bits, the first class at most a sixteenth as bright."""
    for file in Path("photos").glob("*/*.png"):
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
        light = 16 if file.parent.name != "c00" else 1
        Image.fromarray(grey * light).save(file.with_suffix(".tif"))
        file.unlink()


@pytest.mark.filterwarnings("ignore:photos")
def test_features_of_a_folder_share_one_white(deep):
    body = backbone("nets.py:make", image_size=16)
    files = sorted(Path("photos/c00").iterdir())
    with pytest.warns(UserWarning, match=r"4,095 is taken for white; white= of .*feature_classes"):
        data = feature_classes("photos", body, views="whole")
    assert data.white == 4095
    found = torch.from_numpy(data.class_examples(data.names.index("c00")))
    assert torch.allclose(found, body.features(files, white=4095))
    assert not torch.allclose(found, body.features(files), atol=1e-2)
    said = feature_classes("photos", body, views="whole", white=6000)
    assert said.white == 6000
    first = torch.from_numpy(said.class_examples(0))
    assert torch.allclose(first, body.features(files, white=6000))
    in_memory = innerloop.data.folder("photos")
    assert feature_classes(in_memory, body).white == in_memory.white == 4095
    with pytest.raises(UserError, match="has its pixels already"):
        feature_classes(in_memory, body, white=4095)


@pytest.mark.filterwarnings("ignore:photos")
@pytest.mark.parametrize(
    "words",
    [
        ["--body", "nets.py:make", "--algorithm", "protonet", "--image-size", "16"],
        ["--image-size", "28", "--width", "4", "--inputs", "unit"],
    ],
    ids=["features", "pixels"],
)
def test_white_in_use_is_that_of_training(words, deep, capsys):
    assert main(["train", "--data", "photos", *words, *SMALL, "--out", "run"]) == 0
    loaded = innerloop.load("run")
    assert loaded.white == 4095
    # By themselves, pictures of at most 255 would be taken for ones of 8 bits.
    dim, light = sorted(Path("photos/c00").iterdir()), sorted(Path("photos/c01").iterdir())
    found = FewShotClassifier(loaded).fit(dim, ["a", "a", "b", "b"])
    assert found.white_ == 4095
    asked = FewShotClassifier(loaded, white=4095).fit(dim, ["a", "a", "b", "b"])
    np.testing.assert_array_equal(found.predict_proba(light), asked.predict_proba(light))
    # Neither does a support set of 8 bits leave queries to their own range.
    files = ["few/a/0.png", "few/b/0.png"]
    for file, number in zip(files, ("c02", "c03"), strict=True):
        Path(file).parent.mkdir(parents=True)
        Image.open(f"new/{number}/0.png").convert("L").save(file)
    expected = asked.fit(files, ["a", "b"]).predict_proba(dim[:1])
    np.testing.assert_array_equal(found.fit(files, ["a", "b"]).predict_proba(dim[:1]), expected)
    capsys.readouterr()
    adapt = ["adapt", "run", "--support", "few", "--query", str(dim[0]), "--json"]
    for more, white in (([], 4095), (["--white", "6000"], 6000)):
        assert main([*adapt, *more]) == 0
        told = json.loads(capsys.readouterr().out)["queries"][0]["probabilities"]
        near = FewShotClassifier(loaded, white=white).fit(files, ["a", "b"])
        np.testing.assert_allclose(list(told.values()), near.predict_proba(dim[:1])[0], atol=1e-6)


def test_the_name_of_a_library_is_short_for_a_body(photos, capsys):
    short = TrainConfig.recipe("protonet", "photos", "timm:vit-s.a_1")
    assert (short.model, short.body, short.distance) == ("embedding", "timm:vit-s.a_1", "cosine")
    assert short == TrainConfig.recipe("protonet", "photos", body="timm:vit-s.a_1")
    settings = {"data": "photos", "model": "timm:vit-s.a_1", "algorithm": "protonet"}
    assert TrainConfig.from_dict(settings) == short == TrainConfig.from_dict(short.to_parts())
    assert short.references == []
    words = ["train", "--model", "timm:vit-s.a_1", "--data", "photos"]
    assert main([*words, "--print-config"]) == 0
    assert "body: timm:vit-s.a_1" in capsys.readouterr().out
    assert main(words) == 2
    assert "innerloop[timm]" in capsys.readouterr().err


def test_a_network_of_timm(photos, monkeypatch, capsys):
    for name, module in libraries.timm().items():
        monkeypatch.setitem(sys.modules, name, module)
    sources._named.cache_clear()
    words = ["train", "--model", "timm:resnet.a1", "--data", "photos", *SMALL, "--out", "run"]
    assert main([*words, "--algorithm", "protonet"]) == 0
    capsys.readouterr()
    assert main(["adapt", "run", "--support", "photos", "--query", "new/c00", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["queries"][0]["probabilities"]) == 20
    sources._named.cache_clear()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rotate"], "is for pixels"),
        (["--augment", "flip"], "is for pixels"),
        (["--normalize"], "is for pixels"),
        (["--model", "conv4"], "a body gives features"),
        (["--model", "timm:resnet18"], "give one of them"),
        (["--data", "sinusoid"], "regression"),
        (["--body", "resnet18"], "body must be timm:NAME"),
        (["--body", "nets.py:nothing"], "has no nothing"),
        (["--preprocess", "nets.py:nothing"], "has no nothing"),
        (["--weights", "w.safetensors"], "w.safetensors"),
    ],
)
def test_mistakes_are_named(words, message, photos, capsys):
    assert main([*TRAIN, *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_what_needs_a_body(photos, capsys):
    for words, message in (
        (["--weights", "w.safetensors"], "weights is for a body, and there is none"),
        (["--views", "flips"], "views is for a body, and there is none"),
        (["--model", "embedding"], "takes features"),
    ):
        assert main(["train", "--data", "photos", *words]) == 2
        assert message in capsys.readouterr().err
