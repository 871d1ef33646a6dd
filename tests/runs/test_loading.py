"""Trained networks back from files."""

from __future__ import annotations

import dataclasses
import shutil
import warnings

import numpy as np
import pytest
import torch

import innerloop
from innerloop import UserError
from innerloop.algorithms import ALGORITHMS
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.loading import load_for
from innerloop.runs.tested import check_shape
from tests.small_runs import settings


@pytest.mark.long
def test_colour_images_and_other_ways_and_shots_for_every_algorithm(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "colour.npy", images)
    changes = settings(tmp_path / "colour.npy", iterations=1, val_every=1, test_tasks=2)
    for name in ALGORITHMS:
        head = {"head": "random"} if name == "boil" else {}
        run = innerloop.train(out=tmp_path / name, **changes | head, algorithm=name)
        if name == "boil":
            with pytest.raises(UserError, match="cannot tell 4 classes apart"):
                load_for(run.folder, n_way=4)
        more = {"k_shot": 2} if name == "boil" else {"k_shot": 2, "n_way": 4}
        loaded, sampler = load_for(run.folder, bn="support", **more)
        result = innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=2)
        assert result["protocol"]["k_shot"] == 2
    loaded, sampler = load_for(tmp_path / "maml++", bn="per_step")
    assert innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=2)["bn"] == "per_step"


def test_load_gives_back_what_was_learnt(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array))
    for path in (run.folder, run.folder / "model.safetensors"):
        loaded = innerloop.load(path)
        assert all(torch.equal(run.params[n], loaded.params[n]) for n in run.params)
        named = dict(loaded.model.named_parameters())
        assert all(torch.equal(named[n], loaded.params[n]) for n in loaded.params)
        assert loaded.config.n_way == 3
        x = torch.rand(6, *loaded.input_shape)
        fast = loaded.algorithm.adapt(loaded.params, x, torch.arange(6) % 3)
        assert loaded.algorithm.query_outputs(fast, x, x).shape == (6, 3)


@pytest.mark.parametrize("damage", ["empty", "foreign", "cut"])
def test_load_refuses_other_files(damage, array, tmp_path):
    path = tmp_path / "model.safetensors"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    else:
        run = innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
        path.write_bytes((run.folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        innerloop.load(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_run_cannot_be_used_on_a_device_that_is_not_there(array, tmp_path):
    innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
    with pytest.raises(UserError, match="device 'cuda' cannot be used here"):
        load_for(tmp_path / "run", device="cuda")
    with pytest.raises(UserError, match="device 'gpu' cannot be used here"):
        innerloop.train(out=tmp_path / "other", **settings(array, device="gpu"))


def test_weights_trained_in_another_precision_can_be_trained_on(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
    tensors, metadata = read_tensors(run.folder / "model.safetensors")
    metadata["config"] |= {"device": "cuda", "precision": "tf32"}
    write_tensors(run.folder / "model.safetensors", tensors, metadata)
    config = innerloop.load(run.folder).config
    assert (config.device, config.precision) == ("cpu", "float32")


def test_a_run_whose_data_is_gone_says_so_with_a_way_out(array, tmp_path):
    array = shutil.copy(array, tmp_path / "data.npy")
    run = innerloop.train(out=tmp_path / "a run", **settings(array, schedule="constant"))
    moved = array.rename(tmp_path / "moved.npy")
    with pytest.raises(UserError, match=rf"{array} as its data.*evaluate '.*a run' --data PATH"):
        load_for(run.folder)
    load_for(run.folder, data=str(moved))
    with pytest.raises(UserError, match=rf"{array} as its data.* data into .*config\.yaml"):
        innerloop.resume(run.folder, iterations=13)
    file = run.folder / "config.yaml"
    file.write_text(file.read_text("utf-8").replace(str(array), str(moved)), "utf-8")
    innerloop.resume(run.folder, iterations=13)
    load_for(run.folder)


def test_the_folder_of_omniglot_s_archives_may_be_gone_too(tmp_path):
    config = innerloop.TrainConfig(data="omniglot", omniglot_source=str(tmp_path / "archives"))
    with pytest.raises(UserError, match=r"archives as its omniglot_source.*: --omniglot_source"):
        config.check_data("runs/first", lambda name: f"so: --{name}")
    config.check_data("runs/first", str, {"omniglot_source"})


@pytest.mark.parametrize(
    ("trained", "found", "way"),
    [
        ((1, 28, 28), (3, 28, 28), "mine is of coloured pictures, so train .*, or turn these grey"),
        ((3, 84, 84), (1, 28, 28), "mine is of grey pictures, so train .* on such pictures$"),
        ((3, 84, 84), (4, 84, 84), "mine has other channels"),
        ((3, 84, 84), (3, 28, 28), "scale the pictures to 84 x 84"),
        ((7,), (8,), "train a network on such examples"),
    ],
)
def test_data_of_another_shape_is_refused_with_a_way_out(trained, found, way):
    with pytest.raises(UserError, match=way) as caught:
        check_shape(trained, found, "mine")
    assert f"{trained}, but those of mine have {found}" in str(caught.value)


def test_a_data_set_made_in_python_is_not_said_to_be_gone(array, tmp_path):
    data = innerloop.data.folder(array)
    data = dataclasses.replace(data, name="mine")
    run = innerloop.train(out=tmp_path / "run", **settings(array) | {"data": data})
    for use in (load_for, innerloop.resume):
        with pytest.raises(UserError, match=r"'mine', a data set that was made in Python"):
            use(run.folder)


def test_training_classes_under_another_name_are_a_warning(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array))
    copy = tmp_path / "copy.npy"
    copy.write_bytes(array.read_bytes())
    load_for(run.folder, data=str(copy))
    # As by another split.
    tensors, metadata = read_tensors(run.folder / "model.safetensors")
    metadata["train_classes"][0] = "class0000"
    write_tensors(run.folder / "model.safetensors", tensors, metadata)
    with pytest.warns(UserWarning, match=r"1 of the .* of copy have names .*, such as class0000"):
        load_for(run.folder, data=str(copy))
    with pytest.raises(UserError, match=r"1 of the .* were trained on"):
        load_for(run.folder)


@pytest.mark.parametrize("in_use", [False, True])
def test_a_network_of_colour_sees_grey_pictures_as_equal_channels(tmp_path, in_use):
    """As it does in `adapt`, and as if the file had been saved in colour."""
    grey = np.random.default_rng(0).integers(0, 255, (30, 8, 1, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "colour.npy", grey.repeat(3, axis=2))
    data = tmp_path / "colour.npy"
    run = innerloop.train(out=tmp_path / "run", **settings(data, iterations=2, test_tasks=2))
    found = []
    for name in ("grey", "colour"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* have names of classes that were trained on")
            loaded, sampler = load_for(run.folder, data=str(tmp_path / f"{name}.npy"))
        if in_use:
            result = innerloop.evaluate_in_use(loaded, sampler, tasks=2)
        else:
            result = innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=2)
        result["protocol"].pop("data")
        result.pop("data", None)
        found.append(result)
    assert found[0] == found[1]
