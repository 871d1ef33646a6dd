"""Runs on objects of a user's own: begun, killed, resumed, refused, loaded."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import innerloop
from innerloop import OuterLoop, UserError
from innerloop.runs.loading import load_for
from tests.small_runs import StopAt, assert_same_runs
from tests.training import own
from tests.training.test_distributed import torchrun

SMALL = {"iterations": 12, "val_every": 4, "val_tasks": 4, "test_tasks": 6, "threads": 1}
PLACE = own.__name__
ROOT = Path(__file__).parents[2]


def objects(**changes):
    parts = {"algorithm": own.algorithm(), "train": own.train(), "val": own.val()}
    return {**parts, "test": own.val(), **changes}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "whole"
    return innerloop.fit(**objects(), out=folder, **SMALL)


def stopped(folder, **changes):
    run = innerloop.fit(**objects(), out=folder, report=StopAt(6), **{**SMALL, **changes})
    assert run.interrupted
    return folder


def test_a_run_learns_and_leaves_the_users_objects_alone(tmp_path):
    network = own.Net()
    before = {n: p.clone() for n, p in network.state_dict().items()}
    run = innerloop.fit(
        own.Damped(network, 0.2, 2),
        own.train(),
        test=own.val(),
        out=tmp_path / "run",
        iterations=60,
        test_tasks=100,
        threads=1,
    )
    start = innerloop.evaluate(own.algorithm(), before, own.val(), tasks=100)
    assert run.results["accuracy"] > start["accuracy"] + 0.1
    assert all(torch.equal(p, before[n]) for n, p in network.state_dict().items())
    assert (run.folder / "run.png").exists()


def test_interrupted_and_resumed_with_the_objects_equals_uninterrupted(whole, tmp_path):
    folder = stopped(tmp_path / "run")
    run = innerloop.fit(**objects(), out=folder, resume=True, **SMALL)
    assert_same_runs(whole.folder, run.folder)


def test_resume_takes_the_objects_too(whole, tmp_path):
    folder = stopped(tmp_path / "run")
    with pytest.raises(UserError, match="pass algorithm=, train=, val=, test= to resume"):
        innerloop.resume(folder)
    assert_same_runs(whole.folder, innerloop.resume(folder, **objects()).folder)


def test_what_can_be_imported_is_found_again(whole, tmp_path):
    functions = {"algorithm": own.algorithm, "train": own.train, "val": f"{PLACE}:val"}
    folder = tmp_path / "run"
    innerloop.fit(**functions, test=own.val, out=folder, report=StopAt(6), **SMALL)
    assert_same_runs(whole.folder, innerloop.resume(folder).folder)
    loaded = innerloop.load(folder)
    assert type(loaded.algorithm) is own.Damped
    assert all(torch.equal(p, whole.params[n]) for n, p in loaded.params.items())


def test_a_class_of_tasks_is_called_as_a_function_is(tmp_path):
    """A class with a method `batch` looks like tasks, but is none yet."""
    parts = {"algorithm": own.algorithm, "train": own.Series, "test": own.Series}
    with pytest.warns(UserWarning, match="test begins with the first episode of training"):
        whole = innerloop.fit(**parts, out=tmp_path / "whole", **SMALL)
    with pytest.warns(UserWarning, match="test begins with the first episode of training"):
        innerloop.fit(**parts, out=tmp_path / "run", report=StopAt(6), **SMALL)
    assert_same_runs(whole.folder, innerloop.resume(tmp_path / "run").folder)
    assert type(load_for(tmp_path / "run")[1]) is own.Series


def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path):
    """Without a chance to write anything, in the middle of an iteration."""
    code = f"""
import os, signal, sys
import innerloop
from innerloop.training.report import Report
from tests.training import own
class Kill(Report):
    def step(self, iteration, loss, share):
        if iteration == 6:
            os.kill(os.getpid(), signal.SIGKILL)
innerloop.fit(own.algorithm, own.train, val=own.val, test=own.val, out=sys.argv[1], report=Kill(),
              **{SMALL!r})
"""
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert subprocess.run(words, cwd=ROOT).returncode == -signal.SIGKILL
    assert_same_runs(whole.folder, innerloop.resume(tmp_path / "run").folder)


@pytest.mark.long
def test_two_processes_learn_what_one_learns(tmp_path):
    settings = {**SMALL, "meta_batch_size": 5, "meta_optimizer": "sgd", "schedule": "constant"}
    (tmp_path / "program.py").write_text(
        "import sys, innerloop\nfrom tests.training import own\n"
        "innerloop.fit(own.algorithm(), own.train(), val=own.val(), test=own.val(),\n"
        f"              out=sys.argv[1], **{settings!r})\n"
    )
    launched = torchrun(tmp_path / "program.py", tmp_path / "two")
    launched["env"]["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    process = subprocess.Popen(cwd=ROOT, **launched)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    one = innerloop.fit(**objects(), out=tmp_path / "one", **settings)
    two = innerloop.load(tmp_path / "two", algorithm=own.algorithm())
    for name, p in one.params.items():
        torch.testing.assert_close(two.params[name], p)


class OddlyNamed(torch.nn.Module):
    """Parameters with a slash in their names, and one of complex numbers."""

    def __init__(self, dtype):
        super().__init__()
        self.branches = torch.nn.ModuleDict({"3x3/a": torch.nn.Linear(4, 5)})
        self.wave = torch.nn.Parameter(torch.randn(5, 3, dtype=dtype))

    def forward(self, x):
        return (self.branches["3x3/a"](x).to(self.wave.dtype) @ self.wave).abs()


@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        (innerloop.MAML, torch.complex64),
        (innerloop.IMAML, torch.complex64),
        (innerloop.MetaSGD, torch.complex64),
        (innerloop.MAML, torch.complex128),
    ],
)
def test_names_with_slashes_and_complex_weights_come_back(algorithm, dtype, tmp_path):
    def made():
        torch.manual_seed(0)
        return {"algorithm": algorithm(OddlyNamed(dtype), 0.1, 2), "train": own.train(), **SMALL}

    expected = innerloop.fit(**made(), val=own.val(), out=tmp_path / "whole")
    folder = tmp_path / "run"
    innerloop.fit(**made(), val=own.val(), out=folder, report=StopAt(6))
    again = innerloop.fit(**made(), val=own.val(), out=folder, resume=True)
    assert_same_runs(expected.folder, again.folder)
    loaded = innerloop.load(folder, algorithm=made()["algorithm"])
    assert all(torch.equal(p, expected.params[n]) for n, p in loaded.params.items())


def test_a_network_without_values_is_refused_with_a_way_out(tmp_path):
    with torch.device("meta"):
        network = own.Net()
    with pytest.raises(UserError, match=r"on the meta device and has no values: .*to_empty"):
        innerloop.fit(innerloop.MAML(network), own.train(), out=tmp_path / "run", **SMALL)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    network = innerloop.MAML(own.Net())
    with pytest.raises(UserError, match=r"'gpu:0' cannot be used here.*; this machine has cpu"):
        innerloop.fit(network, own.train(), out=tmp_path / "run", **SMALL | {"device": "gpu:0"})
    assert not (tmp_path / "run").exists()


def test_stopped_before_the_first_validation_the_first_weights_are_kept(tmp_path):
    """A network with other initial weights each time: the checkpoint has the first ones."""
    torch.manual_seed(0)
    kwargs = {"train": own.train(), "out": tmp_path / "run", **SMALL}
    first = innerloop.MAML(torch.nn.Linear(4, 3), 0.1)
    innerloop.fit(first, report=StopAt(1), **kwargs)
    again = innerloop.fit(innerloop.MAML(torch.nn.Linear(4, 3), 0.1), resume=True, **kwargs)
    expected = innerloop.fit(first, **{**kwargs, "out": tmp_path / "other"})
    assert all(torch.equal(p, expected.params[n]) for n, p in again.params.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": own.Damped(own.Net(), 0.3, 2)}, "inner_lr of algorithm was 0.2 and is 0.3"),
        ({"algorithm": own.Damped(own.Net(width=9), 0.2, 2)}, r"body.weight of parameters of netw"),
        ({"algorithm": innerloop.MAML(own.Net(), 0.2, 2)}, "class of algorithm was"),
        ({"train": own.Series(shift=1.0)}, "first episode of train has other values"),
        ({"val": own.Series(5)}, "first episode of val has other values"),
        ({"val": None}, "val is missing"),
        ({"meta_lr": 0.5}, "meta_lr of settings was 0.01 and is 0.5"),
        ({"meta_optimizer": torch.optim.AdamW}, "meta_optimizer of settings"),
    ],
)
def test_what_is_not_the_same_is_refused_by_name(changes, message, tmp_path):
    folder = stopped(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        innerloop.fit(**{**objects(), **SMALL, **changes}, out=folder, resume=True)
    innerloop.fit(**objects(), out=folder, resume=True, **SMALL)


@pytest.mark.parametrize(
    "optimizer", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.SGD]
)
def test_an_optimiser_and_a_schedule_of_ones_own_resume(optimizer, tmp_path):
    changes = {"meta_optimizer": optimizer, "schedule": own.rate}
    a = innerloop.fit(**objects(), out=tmp_path / "a", **SMALL, **changes)
    folder = stopped(tmp_path / "b", **changes)
    b = innerloop.fit(**objects(), out=folder, resume=True, **SMALL, **changes)
    assert_same_runs(a.folder, b.folder)


def test_another_layer_without_weights_is_another_network(tmp_path):
    def made(*between):
        torch.manual_seed(0)
        first, last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)
        return innerloop.MAML(torch.nn.Sequential(first, *between, last), 0.1)

    kwargs = {"train": own.train(), "out": tmp_path / "run", **SMALL}
    innerloop.fit(made(torch.nn.LeakyReLU(0.1)), report=StopAt(1), **kwargs)
    for other in (torch.nn.Tanh(), torch.nn.LeakyReLU(0.2)):
        with pytest.raises(UserError, match=r"1 of modules of network was .*LeakyReLU"):
            innerloop.fit(made(other), resume=True, **kwargs)
    innerloop.fit(made(torch.nn.LeakyReLU(0.1)), resume=True, **kwargs)


def test_episodes_that_differ_each_time_are_refused(tmp_path):
    class Random(own.Series):
        def batch(self, start, count):
            return super().batch(start + int(torch.randint(10**6, ())), count)

    with pytest.raises(UserError, match="a different episode 0 each time"):
        innerloop.fit(own.algorithm(), Random(), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_source_that_does_not_count_from_start_is_refused(tmp_path):
    class Same(own.Series):
        def batch(self, start, count):
            return super().batch(0, count)

    with pytest.raises(UserError, match="a different episode 1 alone than after episode 0"):
        innerloop.fit(own.algorithm(), Same(), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_labels_from_one_are_refused(tmp_path):
    class FromOne(own.Series):
        def batch(self, start, count):
            x, y, query_x, query_y = super().batch(start, count)
            return innerloop.Episodes(x, y + 1, query_x, query_y + 1)

    # A network with a fourth output takes them without an error.
    algorithm = innerloop.MAML(own.Net(4), 0.2, 2)
    with pytest.raises(UserError, match=r"n_way=3 and the label 3: .* 0 to 2"):
        innerloop.fit(algorithm, FromOne(), out=tmp_path / "run", **SMALL)


def test_probabilities_in_place_of_logits_are_a_warning(tmp_path):
    network = torch.nn.Sequential(own.Net(), torch.nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="the network gives probabilities"):
        innerloop.fit(innerloop.MAML(network, 0.2, 2), own.train(), out=tmp_path / "a", **SMALL)
    # A loss of one's own takes what it takes.
    maml = innerloop.MAML(network, 0.2, 2, loss=torch.nn.NLLLoss())
    innerloop.fit(maml, own.train(), out=tmp_path / "b", **SMALL)


@pytest.mark.parametrize(
    ("algorithm", "train", "message"),
    [
        (own.Net(), own.train(), "must be an innerloop.Algorithm, not"),
        (own.algorithm(), [1], "must have a method batch"),
        ("nowhere.py:make", own.train(), "there is no file"),
        ("nowhere_at_all:make", own.train(), "there is no module nowhere_at_all"),
        (f"{PLACE}:mak", own.train(), "has no mak; it has"),
    ],
)
def test_what_does_not_fit_is_said(algorithm, train, message, tmp_path):
    with pytest.raises(UserError, match=message):
        innerloop.fit(algorithm, train, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_code_that_a_file_names_is_not_run_unasked(tmp_path, monkeypatch):
    functions = {"algorithm": own.algorithm, "train": own.train}
    folder = innerloop.fit(**functions, out=tmp_path / "run", **SMALL).folder
    # On another machine, nobody has used it yet.
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"names code to run.*trust=True"):
        innerloop.load(folder)
    with pytest.raises(UserError, match="names code to run"):
        innerloop.resume(folder)
    assert type(innerloop.load(folder, algorithm=own.algorithm()).algorithm) is own.Damped
    assert type(innerloop.load(folder, trust=True).algorithm) is own.Damped


def test_without_a_test_there_are_no_test_results(tmp_path):
    run = innerloop.fit(own.algorithm(), own.train(), out=tmp_path / "run", **SMALL)
    assert "accuracy" not in run.results
    assert run.results["best_iteration"] == 12


def test_the_keywords_are_the_settings_of_the_outer_loop():
    """Names, types and defaults are those of `OuterLoop`."""
    keywords = inspect.signature(innerloop.fit).parameters
    for name, default in OuterLoop().to_dict().items():
        assert keywords[name].default == default, name
    others = {"algorithm", "train", "val", "test", "out", "resume", "report"}
    assert set(keywords) == others | set(OuterLoop().to_dict())


@pytest.mark.parametrize("inputs", ["ink", "unit", "raw"])
def test_what_training_did_to_pixels_stands_with_the_weights(inputs, tmp_path):
    """So that a classifier can repeat it; every value was once read as `unit`."""
    pictures = np.random.default_rng(0).integers(0, 255, (160, 8, 8), dtype=np.uint8)
    data = innerloop.data.from_arrays(pictures, np.repeat(np.arange(20), 8), dark_ink=True)
    train = innerloop.split_tasks(data, n_way=3, k_query=2, inputs=inputs).train
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    algorithm = innerloop.MAML(network, 0.01)
    run = innerloop.fit(algorithm, train, out=tmp_path / "run", iterations=1, meta_batch_size=1)
    assert innerloop.load(run.folder, algorithm=algorithm).config.inputs == inputs


@pytest.mark.parametrize("there", [False, True], ids=["a new folder", "an empty folder"])
def test_a_mistake_in_the_first_iteration_leaves_the_folder_as_it_was(there, tmp_path):
    folder, works = tmp_path / "run", False

    def loss(outputs, targets):
        if not works:
            raise UserError("a mistake in the loss")
        return torch.nn.functional.cross_entropy(outputs, targets)

    def parts():
        return objects(algorithm=innerloop.MAML(own.Net(), 0.2, 1, loss=loss))

    if there:
        folder.mkdir()
    with pytest.raises(UserError, match="a mistake in the loss"):
        innerloop.fit(**parts(), out=folder, **SMALL)
    assert folder.exists() == there
    assert not list(tmp_path.rglob("*.*"))
    works = True
    assert innerloop.fit(**parts(), out=folder, **SMALL).results


@pytest.mark.parametrize(
    "schedule",
    [
        torch.optim.lr_scheduler.OneCycleLR,
        functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1),
    ],
)
def test_a_class_is_no_schedule(schedule, tmp_path):
    with pytest.raises(UserError, match=r"schedule must be a name .* not the class OneCycleLR"):
        innerloop.fit(**objects(), out=tmp_path / "run", schedule=schedule, **SMALL)


def test_an_own_optimiser_gets_the_parameters_in_their_order(tmp_path):
    """So that it can tell which is which."""
    parts = objects()
    names, seen = list(parts["algorithm"].init_params()), []

    def optimizer(params, lr):
        seen.extend(params)
        return torch.optim.SGD(params, lr)

    run = innerloop.fit(**parts, out=tmp_path / "run", meta_optimizer=optimizer, **SMALL)
    assert list(run.params) == names
    assert [p.shape for p in seen] == [run.params[name].shape for name in names]
