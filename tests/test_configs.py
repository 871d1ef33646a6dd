"""The configs of the reproduced figures, and the results that name them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import reproduce
from benchmarks.reproduce import CONFIGS, FOUND, PRESETS, ROWS, TURNED, config_of, main, so_far
from tools import reproduction_tables

import innerloop
from innerloop.config import TrainConfig

FILES = sorted(CONFIGS.glob("*.yaml"))


def test_every_row_has_its_config_and_every_config_its_row():
    assert {file.stem for file in FILES} == set(ROWS) - set(PRESETS)
    assert set(PRESETS) < set(ROWS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_first_line_is_the_command(file):
    TrainConfig.from_file(file)
    first = file.read_text("utf-8").splitlines()[0]
    assert first.startswith(f"# python -m benchmarks.reproduce {file.stem}")


@pytest.mark.parametrize("file", sorted(FOUND.glob("*.json")), ids=lambda file: file.stem)
def test_results_are_those_of_the_config(file: Path):
    report = json.loads(file.read_text("utf-8"))
    row = file.stem.rsplit("-", 1)[0]
    config = config_of(row).to_dict()
    # The result records on which device it was computed, in which precision, and how many glyphs
    # there would have been.
    free = {name: config[name] for name in ("seed", "device", "precision")}
    if config["data"] != "glyphs":
        free["glyph_classes"] = config["glyph_classes"]
    used = {**report["settings"], **free}
    assert {k: v for k, v in used.items() if v != config[k]} == {}
    assert set(report["tests"]) == set(ROWS[row].tests)
    for tests in report["tests"].values():
        for test in tests.values():
            assert len(test["accuracies"]) == ROWS[row].tasks


@pytest.mark.parametrize("setting", ["5way-1shot", "5way-5shot", "20way-1shot", "20way-5shot"])
def test_the_papers_own_settings_are_those_of_the_presets(setting):
    preset = TrainConfig.preset(f"finn2017-{setting}")
    assert config_of(f"maml-{setting}") == preset
    first_order = TrainConfig.from_file(CONFIGS / f"fomaml-{setting}.yaml")
    papers_start = {"init": "xavier", "head": "normal", "adapted": "convs.*,head.*"}
    assert first_order == dataclasses.replace(preset, first_order=True, **papers_start)


@pytest.mark.parametrize("setting", ["5way-1shot", "20way-1shot"])
def test_first_order_with_norms_differs_in_the_order_alone(setting):
    preset = TrainConfig.preset(f"finn2017-{setting}")
    norms = TrainConfig.from_file(CONFIGS / f"fomaml-norms-{setting}.yaml")
    assert norms == dataclasses.replace(preset, first_order=True)


def test_a_row_takes_no_results_of_rows_whose_names_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction_tables, "FOUND", tmp_path)
    for name in ("ours-0", "ours-12", "ours-first-order-0"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}), "utf-8")
    names = [report["name"] for report in reproduction_tables._seeds("ours")]
    assert names == ["ours-0", "ours-12"]
    assert len(reproduction_tables._seeds("ours-first-order")) == 1


def _report(iterations: int, accuracies: list[float], setting: str, gpu: bool) -> str:
    test = {"accuracy": sum(accuracies) / len(accuracies), "accuracies": accuracies}
    machine = {"processor": "Z80", "matrix_product_gflops": 1, "torch": "2", "threads": 1}
    report = {
        "machine": {**machine, "gpu": "a GPU"} if gpu else machine,
        "iterations": iterations,
        "planned_iterations": 60_000,
        "seconds": 720.0,
        "settings": {"precision": "tf32"},
        "tests": {setting: {"transductive": test, "support": test}},
    }
    return json.dumps(report)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_says_how_far_each_training_came(language, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction_tables, "FOUND", tmp_path)
    for name, *of_report in (
        ("maml-5way-1shot-0", 60_000, [1.0, 0.8], "5-way 1-shot", True),
        ("maml-5way-1shot-1", 2_500, [0.6, 0.8], "5-way 1-shot", False),
        ("maml-20way-5shot-0", 60_000, [0.5, 0.7], "20-way 5-shot", True),
    ):
        (tmp_path / f"{name}.json").write_text(_report(*of_report), "utf-8")
    words = reproduction_tables.WORDS[language]
    lines = reproduction_tables.reproduce(words).splitlines()
    own = words["transductive"].format(words["rows"]["maml"])
    half = 1.96 * 100 * (0.08 / 3) ** 0.5 / 2  # of 1.0, 0.8, 0.6 and 0.8
    pooled = f"80.00 ± {half:.2f} (70.00–90.00)"
    assert lines[2].startswith(f"| {own} | {pooled} |  |  | 60.00 ± ")
    steps, seeds = words["of"].format("2,500–60,000", 60_000), words["seeds"].format(2)
    assert lines[4] == f"| {words['of_each']} | {steps}, {seeds} |  |  | 60,000 |  |  |"
    assert "| 0.2 (a GPU, tf32), 0.2 |  |  | 0.2 (a GPU, tf32) |" in lines[5]
    # The paper said more than was measured.
    assert "*98.7 ± 0.4* | *99.9 ± 0.1* | *95.8 ± 0.3* |" in lines[6]
    # The short table marks trainings that were stopped.
    short = reproduction_tables.reproduce_short(words).splitlines()
    assert short[2].startswith(f"| {words['rows']['maml']} | {pooled}† |  |  | 60.00 ± ")
    assert "†" not in short[2].split("60.00 ± ")[1]


def test_a_row_in_all_quarter_turns_names_its_seeds_unless_it_has_all(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction_tables, "FOUND", tmp_path)
    words, way = reproduction_tables.WORDS["en"], TURNED["support"]
    for seed in range(2):
        report = json.loads(_report(60_000, [0.5, 0.7], "5-way 1-shot", False))
        tests = report["tests"]["5-way 1-shot"]
        tests[way] = {"accuracy": 0.9, "accuracies": [0.8, 1.0]}
        report["tests"] = dict.fromkeys(ROWS["ours"].tests, tests)
        (tmp_path / f"ours-{seed}.json").write_text(json.dumps({**report, "seed": seed}), "utf-8")
    lines = reproduction_tables.reproduce(words).splitlines()
    assert lines[4].startswith(f"| {words[way]} | 90.00 ± ")
    assert "(90.00–90.00)" in lines[4]
    del tests[way]
    (tmp_path / "ours-1.json").write_text(json.dumps({**report, "seed": 1}), "utf-8")
    lines = reproduction_tables.reproduce(words).splitlines()
    assert lines[4].startswith(f"| {words[way]} (of seed 0) | 90.00 ± ")
    assert "(90.00" not in lines[4]


def test_a_device_that_is_not_there_is_named_without_a_traceback(tmp_path, monkeypatch, capsys):
    words = ["reproduce", "ours", "--device", "abacus", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "device 'abacus' cannot be used here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_stopped_says_how_far_it_came(tmp_path):
    lines = [
        {"iteration": 10, "seconds": 1.0, "val_accuracy": 0.5},
        {"iteration": 20, "seconds": 2.0, "val_accuracy": 0.7},
        {"iteration": 30, "seconds": 3.0, "val_accuracy": 0.7},
        {"iteration": 40, "seconds": 4.0, "val_accuracy": 0.6},
    ]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert so_far(metrics) == {"iterations": 40, "best_iteration": 30, "seconds": 4.0}


def test_in_turns_the_steps_are_chosen_as_in_use(omniglot_source, monkeypatch):
    """And not once more of the small steps that the test of five shots takes."""
    rates = []
    report = {"accuracy": 1.0, "ci95": 0.0, "accuracies": []}
    monkeypatch.setattr(
        innerloop,
        "evaluate",
        lambda algorithm, *_, **settings: rates.append(algorithm.inner_lr) or dict(report),
    )
    monkeypatch.setattr(
        reproduce,
        "evaluate_in_use",
        lambda run, sampler, **settings: rates.append(run.algorithm.inner_lr) or dict(report),
    )
    row = ROWS["ours"]._replace(tests={"5-way 5-shot": ROWS["ours"].tests["5-way 5-shot"]})
    tests = reproduce.tested(row, "omniglot-conv4", str(omniglot_source), "cpu")
    assert set(tests["5-way 5-shot"]) == {*TURNED, *TURNED.values()}
    own = innerloop.load("omniglot-conv4").algorithm.inner_lr
    small = reproduce.SMALL_STEPS["inner_lr"]
    assert rates == [small, own, small, own]
    assert small < own


def test_stopped_after_some_minutes_a_row_is_tested_all_the_same(tmp_path):
    """In a process of its own: it is stopped by a signal to the whole process."""
    code = """
import sys
from benchmarks import reproduce
from innerloop.config import TrainConfig
small = {"data": "glyphs", "split": "auto", "glyph_classes": 300, "width": 16, "n_way": 5,
         "val_every": 5, "val_tasks": 4, "iterations": 10**6, "meta_batch_size": 1}
TrainConfig.from_file = classmethod(
    lambda cls, path, real=TrainConfig.from_file.__func__: TrainConfig.from_dict(
        {**real(cls, path).to_dict(), **small} if path.name == "ours.yaml" else
        real(cls, path).to_dict()))
from pathlib import Path
reproduce.FOUND = Path(sys.argv[1]) / "found"
row = reproduce.ROWS["ours"]
reproduce.ROWS["ours"] = row._replace(tests={"5-way 1-shot": row.tests["5-way 1-shot"]}, tasks=4)
reproduce.reproduce("ours", 0, Path(sys.argv[1]), None, minutes=0.0)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found" / "ours-0.json").read_text("utf-8"))
    # No sooner than at the first validation, which there has to be for a test.
    assert report["best_iteration"] == report["iterations"] == 5 < report["planned_iterations"]
    assert report["validation"]["iteration"] == [5]
    assert 0 <= report["validation"]["accuracy"][0] <= 1
    for way in ("support", *TURNED.values()):
        assert len(report["tests"]["5-way 1-shot"][way]["accuracies"]) == 4
