"""Full disks, closed folders, signals and too little memory: a clear end, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trials.kills import Trial, differences

import innerloop
from innerloop.cli import main
from innerloop.errors import UserError
from innerloop.files import append_line
from innerloop.runs.folder import checkpoints
from innerloop.training.report import SilentReport

# They are compared, byte by byte, with runs in processes of their own.
pytestmark = pytest.mark.usefixtures("rendered")


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A small run, and the same without interruption."""
    return Trial(tmp_path_factory.mktemp("failures") / "trial", "maml")


def limited(run, arguments, kind, limit):
    """In a process of its own: the command line with a limit of the system; says how it ended."""
    log = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if kind == resource.RLIMIT_AS:  # beside what the process has already
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit += used
    resource.setrlimit(kind, (limit, limit))
    status = main(arguments)
    sys.stderr.flush()
    os._exit(status)


def under_limit(trial, run, kind, limit, *more):
    resumed = (run / "config.yaml").exists()
    where = ["--resume", run] if resumed else ["--config", trial.config, "--out", run]
    arguments = ["train", *(str(word) for word in [*where, *more])]
    process = trial.processes.Process(target=limited, args=(run, arguments, kind, limit))
    process.start()
    process.join()
    return process.exitcode, run.with_suffix(".log").read_text()


def file_sizes(trial):
    whole = trial.whole
    return {
        "config.yaml": (whole / "config.yaml").stat().st_size - 1,
        "model.safetensors": (whole / "model.safetensors").stat().st_size - 1,
        # Its times have more digits in one run than in another.
        "checkpoints": checkpoints(whole)[0].stat().st_size * 3 // 4,
        "run.png": (whole / "run.png").stat().st_size - 1,
    }


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "checkpoints", "run.png"])
def test_a_disk_that_is_full_when_a_file_is_written(trial, name):
    """A limit of the system on the size of files: a real write fails half way."""
    run = trial.new_run()
    status, said = under_limit(trial, run, resource.RLIMIT_FSIZE, file_sizes(trial)[name])
    assert status == 2
    # One line, without a traceback, which names the file.
    assert f"cannot write {run}" in said
    assert name in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not any(path.name.startswith(".") for path in run.rglob("*"))
    trial._finish(run)
    assert list(differences(trial.whole, run)) == []


def test_metrics_on_a_full_disk(trial, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
        append_line("/dev/full", "x")

    def full(*args):
        raise UserError("cannot write metrics.jsonl: No space left on device")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("innerloop.training.loop.append_line", full)
        with pytest.raises(UserError, match="No space left"):
            innerloop.train(innerloop.TrainConfig.from_file(trial.config), out=run)
    innerloop.resume(run)
    assert list(differences(trial.whole, run)) == []


def test_output_that_cannot_be_written(trial):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "innerloop", "data", "info", trial.folder / "blobs.npy"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2
    assert ended.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("where", ["/proc/run", "/dev/null/run"])
def test_a_place_where_nobody_may_write(trial, where, capsys):
    assert main(["train", "--config", str(trial.config), "--out", where]) == 2
    assert f"error: cannot make the run folder {where}" in capsys.readouterr().err


def test_a_folder_that_becomes_unwritable_while_a_run_goes_on(trial, tmp_path):
    class Spoil(SilentReport):
        def validated(self, line):
            if line["iteration"] == 12:
                shutil.move(run / "checkpoints", tmp_path / "elsewhere")
                (run / "checkpoints").write_text("in the way")

    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"cannot write .*checkpoints.*what was there before"):
        innerloop.train(innerloop.TrainConfig.from_file(trial.config), out=run, report=Spoil())
    (run / "checkpoints").unlink()
    shutil.move(tmp_path / "elsewhere", run / "checkpoints")
    innerloop.resume(run)
    assert list(differences(trial.whole, run)) == []


def test_too_little_memory_names_what_to_lower_and_loses_nothing(trial):
    run = trial.new_run()
    config = trial.config.read_text()
    trial.config.write_text(config.replace("width: 8", "width: 4096"))
    try:
        status, said = under_limit(trial, run, resource.RLIMIT_AS, 500_000_000)
    finally:
        trial.config.write_text(config)
    assert status == 2
    assert said.splitlines()[-1] == (
        "error: out of memory. Lower --chunk-size (tasks computed at a time), "
        "--meta-batch-size or --width"
    )
    assert "Traceback" not in said


def test_memory_that_runs_out_later_leaves_the_last_checkpoint(trial, tmp_path, monkeypatch):
    from innerloop import MAML

    real, calls = MAML.meta_gradient, []

    def greedy(self, params, episodes, progress):
        calls.append(1)
        if len(calls) == 9:
            innerloop.functional.torch.empty(2**60)  # the allocator's own error
        return real(self, params, episodes, progress)

    monkeypatch.setattr(MAML, "meta_gradient", greedy)
    run = tmp_path / "run"
    assert main(["train", "--config", str(trial.config), "--out", str(run)]) == 2
    assert [path.name for path in checkpoints(run)] == ["iteration-000006.safetensors"]
    innerloop.resume(run)
    assert list(differences(trial.whole, run)) == []


class Press(SilentReport):
    """Sends this process signals after an iteration."""

    def __init__(self, iteration, *numbers):
        self.iteration, self.numbers = iteration, numbers

    def step(self, iteration, loss, share):
        if iteration == self.iteration:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize("at", [3, 6, 9])
def test_ctrl_c_twice_ends_at_once_and_loses_nothing(trial, tmp_path, at):
    run = tmp_path / "run"
    config = innerloop.TrainConfig.from_file(trial.config)
    with pytest.raises(KeyboardInterrupt):
        innerloop.train(config, out=run, report=Press(at, signal.SIGINT, signal.SIGINT))
    # It ends at once: the checkpoint that the first signal would have saved is missing.
    assert len(checkpoints(run)) == (at > 6)
    innerloop.resume(run)
    assert list(differences(trial.whole, run)) == []


def test_a_terminal_that_goes_away_is_a_request_to_stop(trial, tmp_path):
    config = innerloop.TrainConfig.from_file(trial.config)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even if the tests run under nohup
    try:
        run = innerloop.train(config, out=tmp_path / "run", report=Press(3, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.interrupted
    innerloop.resume(run.folder)
    assert list(differences(trial.whole, run.folder)) == []


def test_under_nohup_a_terminal_that_goes_away_is_ignored(trial, tmp_path):
    config = innerloop.TrainConfig.from_file(trial.config)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = innerloop.train(config, out=tmp_path / "run", report=Press(3, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not run.interrupted
    assert list(differences(trial.whole, run.folder)) == []


def test_sigterm_to_the_command_line_saves_and_says_how_to_go_on(trial, tmp_path):
    """As a cluster sends it."""
    run = tmp_path / "run"
    words = ["train", "--config", trial.config, "--out", run, "--iterations", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-m", "innerloop", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if line.startswith("iteration"):
                process.terminate()
                break
        said = process.stderr.read()
    assert process.returncode == 130
    assert "nothing is lost" in said
    assert f"innerloop resume {run}" in said
    assert innerloop.load(run).params
