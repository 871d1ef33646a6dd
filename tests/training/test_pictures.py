"""Training on pictures: normalised, augmented, and from a classifier of all training classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.data import augment
from innerloop.data.base import ImageClasses
from innerloop.models import ResNet12
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.folder import checkpoints
from innerloop.runs.loading import load_for
from tests.small_runs import StopAt, assert_same_runs, settings

PRETRAINED = {"pretrain": 0.5, "pretrain_lr": 0.003, "iterations": 8, "val_every": 2}


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """Colour noise, the channels of different brightness."""
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 3, 16, 16), dtype=np.uint8)
    images[:, :, 1] //= 3
    images[:, :, 2] = 7
    path = tmp_path_factory.mktemp("data") / "colour.npy"
    np.save(path, images)
    return path


def losses(run):
    return (run.folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("algorithm", "stop"),
    [("maml", 2), ("maml", 4), ("maml", 6), ("protonet", 3), ("reptile", 4), ("meta-sgd", 5)],
)
def test_a_run_with_pretraining_resumes_exactly(array, tmp_path, algorithm, stop):
    changes = settings(array, algorithm=algorithm, test_tasks=6, **PRETRAINED)
    whole = innerloop.train(out=tmp_path / "whole", **changes)
    stopped = innerloop.train(out=tmp_path / "stopped", report=StopAt(stop), **changes)
    assert stopped.interrupted
    innerloop.resume(stopped.folder)
    assert_same_runs(whole.folder, stopped.folder)
    assert whole.results["iterations"] == 8
    assert whole.results["cpu_seconds"] > 0


def test_pretraining_is_of_all_classes_and_its_body_is_taken_over(array, tmp_path):
    """The first losses are those of a classifier of all classes, the last those of tasks."""
    changes = settings(array, test_tasks=6, **PRETRAINED) | {"rotate": False}
    run = innerloop.train(out=tmp_path / "run", **changes)
    found = losses(run).splitlines()
    classes = len(innerloop.load(run.folder).train_classes)
    assert float(found[0].split('"loss": ')[1].split(",")[0]) > np.log(classes) * 0.8
    assert float(found[-1].split('"loss": ')[1].split(",")[0]) < np.log(classes) * 0.8
    # A meta-training rate of next to nothing leaves the body as the classifier had it.
    still = innerloop.train(out=tmp_path / "still", **changes | {"meta_lr": 1e-12, "val_every": 4})
    latest = read_tensors(max((still.folder / "checkpoints").iterdir()))[0]
    start = innerloop.load(still.folder).untrained().params
    name = "convs.0.weight"
    assert not torch.allclose(latest[f"params/{name}"], start[name], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "sinusoid", "pretrain": 0.5}, "pretrain needs classes"),
        ({"algorithm": "fine-tune", "pretrain": 0.5}, "set pretrain to 0"),
        ({"algorithm": "maml++", "pretrain": 0.5}, "set per_step_norm to false"),
        ({"data": "sinusoid", "normalize": True}, "normalize is for classes of images"),
        ({"model": "tutorial_conv", "head": "linear", "normalize": True}, "does not normalise"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, changes, message):
    changes = {"data": "random", "train_n_way": None, "iterations": 2, "k_query": 2} | changes
    with pytest.raises(UserError, match=message):
        innerloop.train(out=tmp_path / "run", **changes)


@pytest.mark.parametrize("model", ["conv4", "resnet12"])
def test_normalised_by_the_training_classes_and_again_in_use(colour, tmp_path, model):
    changes = settings(colour, model=model, width=4, iterations=2, val_every=1, test_tasks=6)
    changes |= {"normalize": True, "inputs": "unit", "augment": "crop=2,flip,color,erase"}
    run = innerloop.train(out=tmp_path / "run", **changes)
    loaded, sampler = load_for(run.folder)
    classes = sampler.data.names.index
    seen = [sampler.data.class_images(classes(name)) for name in loaded.train_classes]
    pixels = np.concatenate(seen) / 255
    found = loaded.normalization
    assert found.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)))
    deviation = pixels.std(axis=(0, 2, 3))
    assert found.deviation == pytest.approx([*deviation[:2], 1.0])
    layer = loaded.model.standardize
    assert layer.mean.flatten().tolist() == pytest.approx(found.mean)
    again = innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=6, inner_steps=3)
    assert again["accuracies"] == run.results["accuracies"]
    assert again["loss_per_step"] == run.results["loss_per_step"]
    assert loaded.untrained().model.standardize is not None


def test_a_file_that_does_not_say_how_is_refused(colour, tmp_path):
    changes = settings(colour, iterations=1, val_every=1, test_tasks=2) | {"normalize": True}
    run = innerloop.train(out=tmp_path / "run", **changes)
    file = run.folder / "model.safetensors"
    tensors, metadata = read_tensors(file)
    for wrong in (None, {}, {"mean": [0.1] * 3}, {"mean": [0.1] * 3, "deviation": [1.0, 2.0]}):
        write_tensors(file, tensors, metadata | {"normalization": wrong})
        with pytest.raises(UserError, match="how images are normalised"):
            innerloop.load(file)


def test_a_network_of_ones_own_gets_mean_and_deviation(colour, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from innerloop.models import Conv4\n"
        "def make(n_way, input_shape, mean, deviation):\n"
        "    return Conv4(n_way, channels=input_shape[0], image_size=16, width=4,\n"
        "                 mean=mean, deviation=deviation)\n"
    )
    monkeypatch.chdir(tmp_path)
    changes = settings(colour, iterations=1, val_every=1, test_tasks=2)
    changes |= {"model": "own_net.py:make", "normalize": True, "head": "linear"}
    run = innerloop.train(out="run", **changes | {"train_n_way": None})
    assert len(innerloop.load(run.folder).normalization.mean) == 3


def test_augmentation_is_of_training_alone_and_in_the_protocol(colour):
    from innerloop.build import build_samplers

    config = TrainConfig.from_dict(
        {"data": str(colour), "augment": "crop,flip", "train_n_way": None, "eval_k_query": 3}
    )
    samplers = build_samplers(config)[1]
    assert "RandomCrop(padding=2, fill=None)" in samplers["train"].protocol()["augment"]
    assert samplers["train"].augment is not None
    assert samplers["val"].augment is samplers["test"].augment is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop,spin", "'spin'"),
        ("", "''"),
        ("flip,flip", "twice"),
        ("color=much", "needs a number"),
        ("crop=inf", "needs a number"),
        ("affine=3", "takes no number"),
    ],
)
def test_wrong_names_of_augmentations(text, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(augment=text)


def test_colour_jitter_is_not_for_raw_pixels():
    with pytest.raises(UserError, match="pixels of 0 to 1"):
        TrainConfig(augment="flip,color", inputs="raw")


@pytest.mark.parametrize("text", ["crop=0", "crop=1.5", "flip=2", "color=-1"])
def test_numbers_out_of_range(text):
    with pytest.raises(UserError):
        augment.named(text, (3, 32, 32))


@pytest.mark.parametrize("name", ["crop", "affine"])
def test_edges_are_repeated(name):
    """A picture of one colour stays one: no black comes in at its sides."""
    images = torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32).contiguous()
    changed = augment.named(name, (3, 32, 32))(images, torch.Generator().manual_seed(0))
    assert torch.allclose(changed, images, atol=1e-6)


def test_standardising_is_what_it_says():
    images = torch.rand(2, 3, 16, 16)
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    plain = ResNet12(5, widths=(4, 4, 4, 4))
    inside = ResNet12(5, widths=(4, 4, 4, 4), mean=mean, deviation=deviation)
    by_hand = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    assert torch.allclose(inside.features(images), plain.features(by_hand), atol=1e-5)
    for wrong in ((0.1,), (1.0, 0.0, 1.0), None):
        with pytest.raises(UserError, match="deviation"):
            ResNet12(5, mean=mean, deviation=wrong)


def test_old_checkpoints_go_on(array, tmp_path):
    """Those of version 0.1 have neither a phase nor processor seconds."""
    changes = settings(array, iterations=6, val_every=3, test_tasks=6)
    whole = innerloop.train(out=tmp_path / "whole", **changes)
    stopped = innerloop.train(out=tmp_path / "stopped", report=StopAt(4), **changes).folder
    file = checkpoints(stopped)[0]
    tensors, metadata = read_tensors(file)
    for name in ("phase", "cpu_seconds"):
        del metadata[name]
    write_tensors(file, tensors, metadata)
    innerloop.resume(stopped)
    assert_same_runs(whole.folder, stopped)


def test_statistics_do_not_depend_on_the_scale_of_pixels():
    images = np.random.default_rng(1).integers(0, 255, (5, 4, 1, 16, 16), dtype=np.uint8)
    data = ImageClasses.from_square(images, dark_ink=True)

    def of(inputs):
        sampler = innerloop.EpisodeSampler(data, n_way=2, k_query=1, inputs=inputs)
        x = sampler.batch(0, 1).support_x
        mean, deviation = (torch.tensor(v).view(-1, 1, 1) for v in sampler.normalization)
        return (x - mean) / deviation

    assert torch.allclose(of("raw"), of("unit"), atol=1e-4)
    assert torch.allclose(of("ink"), -of("unit"), atol=1e-4)


def test_another_length_is_refused_once_pretraining_would_have_been_another(array, tmp_path):
    changes = settings(array, test_tasks=6, **PRETRAINED) | {"schedule": "constant"}
    stopped = innerloop.train(out=tmp_path / "run", report=StopAt(5), **changes).folder
    with pytest.raises(UserError, match=r"pretrain 0\.5 is a share of the run"):
        innerloop.resume(stopped, iterations=20)
