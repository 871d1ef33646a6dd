"""The command line as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from innerloop.cli import COMMANDS, main
from innerloop.runs.loading import pretrained_names

SMALL = """
--split random --n-way 3 --train-n-way 4 --k-query 2 --eval-k-query 3 --width 4
--iterations 4 --val-every 2 --val-tasks 4 --test-tasks 6 --threads 1
""".split()


@pytest.fixture(scope="module")
def run(noise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--data", str(noise), "--out", str(folder), *SMALL]) == 0
    return folder


def test_train_prints_json_alone_on_standard_output(noise, tmp_path, capsys):
    arguments = ["train", "--data", str(noise), "--out", str(tmp_path / "r"), "--json", *SMALL]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["run"] == str(tmp_path / "r")
    assert {"accuracy", "ci95", "accuracy_per_step", "loss_per_step", "bn"} <= result.keys()
    assert "innerloop evaluate" in captured.err


def test_default_folders_are_numbered(noise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", "--data", str(noise), *SMALL]) == 0
    names = sorted(f.name for f in (tmp_path / "runs").iterdir())
    assert names == ["noise-maml-3way1shot-001", "noise-maml-3way1shot-002"]


def test_evaluate_prints_what_is_promised(run, capsys):
    assert main(["evaluate", str(run), "--tasks", "10", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert {"accuracy", "ci95", "accuracy_per_step", "loss_per_step", "bn", "protocol"} <= set(
        first
    )
    assert first["protocol"]["tasks"] == 10
    assert first["bn"] == "transductive"
    assert "accuracies" not in first
    assert main(["evaluate", str(run), "--tasks", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first, "the same command, the same result"


def test_evaluate_otherwise(run, capsys):
    command = (
        "--tasks 5 --json --per-task --bn support --inner-steps 5 --n-way 4 --k-shot 2 --part val"
    )
    assert main(["evaluate", str(run / "model.safetensors"), *command.split()]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bn"] == "support"
    assert len(result["accuracy_per_step"]) == 6
    assert len(result["accuracies"]) == 5
    assert result["protocol"]["n_way"] == 4
    assert result["protocol"]["k_shot"] == 2
    assert result["protocol"]["part"] == "val"
    assert result["protocol"]["split"] == "random"


def test_a_full_disk_is_one_line(run, monkeypatch, capsys):
    import innerloop.evaluation

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(innerloop.evaluation, "evaluate", full)
    assert main(["evaluate", str(run)]) == 2
    assert capsys.readouterr().err.strip().endswith("No space left on device")


def test_several_data_sets_make_a_table(run, noise, tmp_path, capsys):
    """Pictures of another size are scaled to what the network takes."""
    from PIL import Image

    pictures = np.random.default_rng(3).integers(0, 255, (6, 6, 20, 20), dtype=np.uint8)
    for label, images in enumerate(pictures):
        (tmp_path / f"mine/c{label}").mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"mine/c{label}/{i}.png")
    sets = [str(noise), str(tmp_path / "mine")]
    common = ["--tasks", "4", "--part", "train", "--k-query", "2", "--n-way", "3"]
    assert main(["evaluate", str(run), "--data", *sets, *common]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["data", "tasks", "of", "classes", "result"]
    assert first.startswith("noise")
    assert second.startswith("mine")
    assert "3-way 1-shot" in second
    assert main(["evaluate", str(run), "--data", *sets, *common, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["protocol"]["data"] for result in found] == ["noise", "mine"]
    assert f"accuracy {100 * found[1]['accuracy']:.2f}" in second
    # What was measured is not lost where later data are refused.
    sets[1] = str(tmp_path / "nowhere")
    assert main(["evaluate", str(run), "--data", *sets, *common, "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out) == found[:1]
    assert "nowhere" in shown.err


@pytest.mark.parametrize(
    ("option", "message"),
    [(["--per-task"], "--per-task is for --json"), (["--views", "flips"], "--views is for --in-")],
)
def test_options_that_would_do_nothing_are_refused(run, option, message, capsys):
    assert main(["evaluate", str(run), *option]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out


def test_another_seed_keeps_the_split(run, tmp_path):
    from innerloop.runs.loading import load_for

    (_, one), (_, two) = load_for(run), load_for(run, episode_seed=7)
    assert np.array_equal(one.classes, two.classes)
    assert not np.array_equal(one.indices(0, 5)[0], two.indices(0, 5)[0])


def test_testing_on_training_classes_is_refused(run, noise, capsys, monkeypatch):
    import innerloop.runs.loading as loading

    # The run's own data named again keeps the run's split.
    assert main(["evaluate", str(run), "--data", str(noise), "--tasks", "4"]) == 0
    capsys.readouterr()
    real = loading.split_classes
    monkeypatch.setattr(
        loading, "split_classes", lambda data, name: {"test": real(data, name)["train"]}
    )
    assert main(["evaluate", str(run), "--tasks", "4"]) == 2
    assert "test classes of split random were trained on" in capsys.readouterr().err


def test_all_classes_of_other_data_can_be_told(run, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(1)
    for number in range(4):
        folder = tmp_path / "own" / f"thing {number}"
        folder.mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(folder / f"{i}.png")
    words = ["evaluate", "omniglot-conv4", "--data", str(tmp_path / "own"), "--tasks", "3"]
    words += ["--n-way", "4", "--rotate-test", "False", "--k-query", "2"]
    assert main([*words, "--part", "all", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"]["classes"] == 4
    assert result["protocol"]["part"] == "all"
    # Of one's own data nothing that was trained on.
    assert main(["evaluate", str(run), "--part", "all", "--tasks", "3"]) == 2
    assert "classes were trained on" in capsys.readouterr().err
    # Said before data is asked for.
    monkeypatch.setattr("innerloop.data.omniglot", None)
    assert main(["evaluate", "omniglot-conv4", "--lake", "--part", "all"]) == 2
    assert "--part all is not for --lake" in capsys.readouterr().err


def test_config_file_and_single_options(run, tmp_path, capsys):
    folder = tmp_path / "again"
    arguments = ["train", "--config", str(run / "config.yaml"), "--iterations", "2"]
    assert main([*arguments, "--out", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no command 'trian': choose from train"),
        (["train", "--data", "nothing"], "'nothing' is neither a data set"),
        (["train", "--preset", "slow"], "no preset 'slow'"),
        (["train", "--preset", "quick", "--config", "x"], "--preset or --config, not both"),
        (["train", "--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["train", "--n-way", "1"], "n_way must be at least 2"),
        (["train", "--threads", "-1"], "threads must be at least 1"),
        (["train", "--train-n-way", "1"], "train_n_way must be at least 2"),
        (["train", "--algorithm", "mamel"], "algorithm must be one of maml, anil"),
        (["train", "--resume", "nowhere"], "there is no folder nowhere"),
        (["train", "--resume", "nowhere", "--seed", "3"], "leave out other settings"),
        (["train", "--resume", "nowhere", "--out", "there"], "leave out other settings"),
        (["train", "--resume", "nowhere", "--preset", "quick"], "leave out other settings"),
        (["train", "--resume", "nowhere", "--print-config"], "leave out other settings"),
        (["train", "--data", "random", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["evaluate", "nowhere"], "neither a run folder nor a weights file"),
        (["data", "info", "nothing"], "'nothing' is neither a data set"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind by a mistake"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-way", "40"], "40-way tasks need 40 classes"),
        (["--k-shot", "9"], "need 12 images a class"),
        (["--data", "glyphs"], "examples of shape (1, 16, 16)"),
        (["--inner-steps", "0"], "at least 1"),
        (["--tasks", "1"], "error: --tasks must be at least 2"),
        (["--split", "thirds"], "thirds"),
    ],
)
def test_evaluate_refuses_what_cannot_be(run, arguments, message, capsys):
    assert main(["evaluate", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_too_few_classes_leave_no_folder(noise, tmp_path, capsys):
    arguments = ["--data", str(noise), "--out", str(tmp_path / "r"), *SMALL]
    assert main(["train", *arguments, "--train-n-way", "100", "--no-rotate"]) == 2
    assert "train_n_way is 100, but noise has 19 classes in part train" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-wya", "5"], "--n-way"),
        (["--n-way", "five"], "--n-way"),
        (["--inner-lr", "head.*"], "inner_lr must be a number, or rates by pattern"),
    ],
)
def test_wrong_options_have_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches_by_examples_without_loading_pytorch(command):
    # The names of data sets are defined in the modules that read them, which need NumPy.
    slow = {"torch"} if command == "data" else {"torch", "numpy"}
    code = (
        "import sys, innerloop.cli\n"
        "try:\n    innerloop.cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"assert not {slow} & set(sys.modules), 'help must not wait for these'"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *([command] if command else []), "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout
    # What is given without an option is named for what it is, not for its type in Python.
    assert not {"STR", "PATH", "[PATH]"} & set(
        result.stdout.split("[-h]")[-1].split("\n\n")[0].split()
    )
    assert "innerloop " + (command or "train") in result.stdout
    said = " ".join(result.stdout.replace("│", " ").split())
    listed = "weights that come with the package: " in said
    assert listed == (command in ("adapt", "export"))
    if listed:
        assert [name for name in pretrained_names() if name not in said] == []


def test_module_and_version():
    result = subprocess.run(
        [sys.executable, "-m", "innerloop", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("innerloop 0.")
