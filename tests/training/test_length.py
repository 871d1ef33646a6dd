"""A run of changed length equals one of that length from the start, or is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import innerloop
from innerloop import UserError
from innerloop.cli import main
from innerloop.runs.listing import summary
from tests.small_runs import StopAt, assert_same_runs, settings
from tests.training import own

OBJECTS = {"algorithm": own.algorithm, "train": own.train, "val": own.val, "test": own.val}
LOOP = {"meta_batch_size": 2, "val_every": 4, "val_tasks": 4, "test_tasks": 4, "threads": 1}


def short(array, **changes):
    return {**settings(array, iterations=8, schedule="constant"), **changes}


@pytest.fixture(scope="module")
def finished(array, tmp_path_factory):
    """A run of 8 iterations, to be copied; and one of 12."""
    folder = tmp_path_factory.mktemp("length")
    innerloop.train(out=folder / "8", **short(array))
    innerloop.train(out=folder / "12", **short(array, iterations=12))
    return folder


def assert_same_folders(a, b):
    assert_same_runs(a, b)
    assert {f.name for f in a.iterdir()} == {f.name for f in b.iterdir()}
    for name in ("config.yaml", "model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_a_finished_run_goes_on_to_the_bytes_of_a_longer_one(finished, tmp_path, capsys):
    folder = shutil.copytree(finished / "8", tmp_path / "run")
    assert main(["resume", str(folder), "--iterations", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 12
    assert_same_folders(finished / "12", folder)
    assert yaml.safe_load((folder / "config.yaml").read_text())["outer_loop"]["iterations"] == 12


def test_stopped_on_the_way_it_is_a_stopped_run_of_that_length(finished, tmp_path):
    folder = shutil.copytree(finished / "8", tmp_path / "run")
    assert innerloop.resume(folder, iterations=12, report=StopAt(10)).interrupted
    assert summary(folder)["state"] == "stopped"
    innerloop.resume(folder)
    assert_same_folders(finished / "12", folder)


def test_an_interrupted_run_can_be_made_longer_and_shorter(finished, array, tmp_path):
    folder = tmp_path / "run"
    innerloop.train(out=folder, report=StopAt(5), **short(array))
    innerloop.resume(shutil.copytree(folder, tmp_path / "longer"), iterations=12)
    assert_same_folders(finished / "12", tmp_path / "longer")
    folder = tmp_path / "other"
    innerloop.train(out=folder, report=StopAt(5), **short(array, iterations=100))
    innerloop.resume(folder, iterations=12)
    assert_same_folders(finished / "12", folder)


def test_with_a_budget_in_seconds_it_goes_on_too(finished, tmp_path):
    folder = shutil.copytree(finished / "8", tmp_path / "run")
    run = innerloop.resume(folder, iterations=12, max_seconds=10_000)
    assert run.results["iterations"] == 12
    with pytest.raises(UserError, match=r"has trained for \d+ seconds: max_seconds must be more"):
        innerloop.resume(folder, iterations=16, max_seconds=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "schedule, cosine, goes by the share .* first 8 iterations"),
        ({"schedule": "linear"}, "schedule, linear"),
        ({"second_order_from": 0.5}, "what MAML computes goes by the share of the run"),
        ({"algorithm": "maml++"}, "what MAMLPlusPlus computes goes by the share of the run"),
    ],
)
def test_what_depends_on_the_length_is_refused(changes, message, array, tmp_path):
    folder = innerloop.train(out=tmp_path / "run", **short(array, **changes)).folder
    before = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}
    for length in ({"iterations": 12}, {"iterations": 12, "max_seconds": 10_000}):
        with pytest.raises(UserError, match=message):
            innerloop.resume(folder, **length)
    assert {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} == before


def test_no_more_iterations_than_there_were(finished, tmp_path, capsys):
    folder = shutil.copytree(finished / "8", tmp_path / "run")
    assert main(["resume", str(folder), "--iterations", "7"]) == 2
    assert "has done 8 iterations, and 7 are asked for" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--iterations", "9"]) == 2
    assert f"innerloop resume {folder} --iterations N" in capsys.readouterr().err


def test_a_run_of_ones_own_objects_goes_on_by_resume_and_by_fit(tmp_path):
    loop = {**LOOP, "schedule": "constant"}
    innerloop.fit(**OBJECTS, out=tmp_path / "whole", iterations=12, **loop)
    innerloop.fit(**OBJECTS, out=tmp_path / "a", iterations=8, **loop)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    innerloop.resume(tmp_path / "a", iterations=12)
    innerloop.fit(**OBJECTS, out=tmp_path / "b", iterations=12, resume=True, **loop)
    for name in ("a", "b"):
        assert_same_folders(tmp_path / "whole", tmp_path / name)


def test_an_algorithm_of_ones_own_says_what_of_the_share_matters(tmp_path):
    class Ignorant(innerloop.Algorithm):
        inner_steps = 1

        def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
            yield params
            yield {name: 0.9 * p for name, p in params.items()}

    class Constant(Ignorant):
        def phase(self, progress):
            return None

    loop = {**LOOP, "iterations": 4, "schedule": "constant"}
    for kind in (Ignorant, Constant):
        made = kind(own.Net())
        folder = innerloop.fit(made, own.train(), out=tmp_path / kind.__name__, **loop).folder
        if kind is Ignorant:
            with pytest.raises(UserError, match=r"override phase\(progress\)"):
                innerloop.resume(folder, algorithm=made, train=own.train(), iterations=8)
        else:
            run = innerloop.resume(folder, algorithm=made, train=own.train(), iterations=8)
            assert run.results["iterations"] == 8


def test_a_schedule_of_ones_own_counts_by_what_it_gave(tmp_path):
    loop = {**LOOP, "iterations": 8}
    innerloop.fit(**OBJECTS, out=tmp_path / "a", schedule=own.rate, **loop)
    with pytest.raises(UserError, match="its schedule, own:function, goes by the share"):
        innerloop.resume(tmp_path / "a", iterations=12)
    innerloop.fit(**OBJECTS, out=tmp_path / "b", schedule=own.same_rate, **loop)
    assert innerloop.resume(tmp_path / "b", iterations=12).results["iterations"] == 12
