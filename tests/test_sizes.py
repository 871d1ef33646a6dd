"""Tasks that a data set is too small for: lowered where nobody asked for them, else refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml
from PIL import Image

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.build import build_samplers
from innerloop.cli import main
from innerloop.data import ImageClasses, split_classes
from innerloop.registry import OURS
from innerloop.sizes import SIZES, fit_sizes, given_sizes

QUICK = ["--iterations", "1", "--val-every", "1", "--val-tasks", "2", "--test-tasks", "2"]
QUICK += ["--width", "8", "--meta-batch-size", "1"]


def folder_of(path, classes, each):
    """Colour pictures of 20 x 20 pixels; `each` a class."""
    generator = np.random.default_rng(0)
    for c in range(classes):
        (path / f"part{c:02d}").mkdir(parents=True)
        for i in range(each):
            pixels = generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / f"part{c:02d}" / f"{i}.png")
    return path


def train(tmp_path, folder, *words):
    return main(["train", "--data", str(folder), "--out", str(tmp_path / "run"), *QUICK, *words])


def test_the_first_command_on_a_small_folder_works_and_says_what_it_changed(tmp_path, capsys):
    folder = folder_of(tmp_path / "photos", 12, 3)
    assert train(tmp_path, folder) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: photos is too small for the usual tasks")
    assert "n_way 2 instead of 5" in said[0]
    assert "eval_k_query 2 instead of 15" in said[0]
    # The folder records what the run did, so that it can be tested and resumed.
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["tasks"]
    assert (config["n_way"], config["k_query"], config["eval_k_query"]) == (2, 2, 2)
    assert main(["evaluate", str(tmp_path / "run"), "--tasks", "2"]) == 0


@pytest.mark.parametrize("form", [["--eval-k-query", "15"], ["--eval_k_query=15"]])
def test_what_was_typed_is_refused_by_its_name(form, tmp_path, capsys):
    folder = folder_of(tmp_path / "photos", 12, 3)
    assert train(tmp_path, folder, *form) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: eval_k_query is 15, but photos has 3 images in class 'part")
    assert "k_shot 1 leaves 2 at most" in error
    assert not (tmp_path / "run").exists()


def test_few_classes_are_told_that_nothing_has_to_be_trained(tmp_path, capsys):
    for classes in (2, 3, 6):
        folder = folder_of(tmp_path / str(classes), classes, 4)
        assert train(tmp_path, folder) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {classes} has {classes} classes")
        assert "10 classes or more" in error
        assert "innerloop adapt" in error


def test_from_python_a_warning_and_an_object(tmp_path):
    data = ImageClasses.from_square(
        np.random.default_rng(0).integers(0, 255, (12, 3, 1, 16, 16), dtype=np.uint8)
    )
    small = {"iterations": 1, "val_every": 1, "val_tasks": 2, "test_tasks": 2, "width": 8}
    with pytest.warns(UserWarning, match="images is too small for the usual tasks"):
        run = innerloop.train(data=data, out=tmp_path / "a", **small)
    assert run.results["protocol"]["k_query"] == 2
    with pytest.raises(UserError, match="n_way is 5, but images has 2 classes in part"):
        innerloop.train(data=data, out=tmp_path / "b", n_way=5, **small)
    # A value in a config that differs from the recipe counts as asked for, too.
    with pytest.raises(UserError, match="eval_k_query is 7"):
        innerloop.train(TrainConfig(eval_k_query=7), data=data, out=tmp_path / "c", **small)


def data_of(classes, counts, groups=()):
    counts = np.resize(counts, classes)
    return ImageClasses(
        images=np.zeros((counts.sum(), 1, 4, 4), np.uint8),
        starts=np.cumsum(counts) - counts,
        counts=counts,
        names=[f"c{i}" for i in range(classes)],
        groups=groups,
    )


@pytest.mark.parametrize("algorithm", list(OURS))
@pytest.mark.parametrize("rotate_test", [False, True])
@pytest.mark.parametrize("within_group", [False, True])
def test_whatever_is_lowered_can_be_drawn(algorithm, rotate_test, within_group):
    """The result makes samplers, as large as they can be, or is an error."""
    generator = np.random.default_rng(0)
    for _ in range(12):
        classes = int(generator.integers(10, 60))
        counts = generator.integers(2, 30, classes)
        groups = [f"g{i % 4}" for i in range(classes)] if within_group else ()
        data = data_of(classes, counts, groups)
        config = dataclasses.replace(
            TrainConfig.recipe(algorithm),
            split="random",
            rotate_test=rotate_test,
            within_group=within_group,
        )
        if within_group and min(map(len, split_classes(data, "random").values())) < 5:
            continue  # There may be no two classes of one group in a part.
        fitted, line = fit_sizes(config, data, ())
        for name in SIZES:
            assert (getattr(fitted, name) or 0) <= (getattr(config, name) or 0)
        assert (line is None) == (fitted == config)
        _, samplers = build_samplers(fitted, data)
        for sampler in samplers.values():
            sampler.batch(0, 1)
        assert fit_sizes(fitted, data, SIZES) == (fitted, None)


def test_shots_give_way_to_queries_that_were_given():
    data = data_of(20, [6])
    config = TrainConfig(k_shot=5, split="random")
    fitted, _ = fit_sizes(config, data, {"k_shot"})
    assert (fitted.k_shot, fitted.k_query, fitted.eval_k_query) == (5, 1, 1)
    config = dataclasses.replace(config, eval_k_query=4)
    fitted, _ = fit_sizes(config, data, {"eval_k_query"})
    assert (fitted.k_shot, fitted.k_query, fitted.eval_k_query) == (2, 2, 4)
    with pytest.raises(UserError, match=r"k_shot is 5.*lower k_shot, or leave it out"):
        fit_sizes(config, data, {"eval_k_query", "k_shot"})
    with pytest.raises(UserError, match="class 'c0' of images has 1 of the images"):
        fit_sizes(TrainConfig(split="random"), data_of(20, [1]), ())


def test_what_was_given():
    assert given_sizes(None, {"n_way", "width"}) == {"n_way"}
    assert given_sizes(TrainConfig(k_shot=5), ()) == {"k_shot"}
    assert given_sizes(TrainConfig.recipe("reptile"), ()) == set()
