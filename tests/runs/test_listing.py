"""`innerloop runs`, on small real runs."""

from __future__ import annotations

import json
import shutil

import pytest

from innerloop.cli import main
from innerloop.files import held
from innerloop.runs.folder import checkpoints
from innerloop.runs.listing import find_runs, summary


def test_all_runs_are_listed_with_their_result(inside, capsys):
    assert main(["runs", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if "-shot" in line}
    assert list(rows) == ["deep/two", "one", "stopped", "wave"]
    assert "one [a]" in rows["one"]
    results = json.loads((inside / "one [a]/results.json").read_text())
    assert f"{100 * results['accuracy']:.2f} ± {100 * results['ci95']:.2f} %" in rows["one"]
    assert rows["one"].split()[-1] == "test"
    assert "protonet" in rows["deep/two"]
    assert "stopped" in rows["stopped"]
    assert rows["stopped"].split()[-1] == "validation"
    assert "10-shot" in rows["wave"]


@pytest.mark.parametrize("columns", [60, 300])
def test_no_name_is_cut_on_a_terminal_of_any_width(columns, inside, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # to Rich a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["runs", "."]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    for row in (summary(inside / name) for name in ("one [a]", "stopped", "deep/two", "wave")):
        for name in ("data", "setting", "state"):
            assert row[name] in out
        assert f"{row['iterations']:,}" in out
    assert {"one [a]", "deep/two"} <= {*out.splitlines()} or columns == 300


def test_as_json_with_the_protocol(inside, capsys):
    assert main(["runs", ".", "--json", "--sort", "value"]) == 0
    rows = json.loads(capsys.readouterr().out)
    accuracies = [row["value"] for row in rows if row["metric"] == "accuracy"]
    assert accuracies == sorted(accuracies, reverse=True)
    finished = next(row for row in rows if row["run"] == "one [a]")
    assert finished["protocol"]["tasks"] == 6
    assert finished["iterations"] == 4


def test_a_run_at_work_is_running(runs):
    assert summary(runs / "stopped")["state"] == "stopped"
    with held(runs / "stopped"):
        assert summary(runs / "stopped")["state"] == "running"
    with (runs / "stopped/metrics.jsonl").open("a") as file:
        file.write('{"iteration": 99')  # not written to its end yet
    assert summary(runs / "stopped")["iterations"] == 4


def test_a_run_that_stopped_between_validations_is_as_far_as_its_checkpoint(runs, tmp_path):
    folder = shutil.copytree(runs / "stopped", tmp_path / "later")
    newest = checkpoints(folder)[0]
    newest.rename(newest.with_name("iteration-000007.safetensors"))
    assert summary(folder)["iterations"] == 7
    (folder / "metrics.jsonl").unlink()
    assert summary(folder)["iterations"] == 7


def test_no_runs_and_no_folder(tmp_path, capsys, monkeypatch):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json"])
@pytest.mark.parametrize("content", ["{\n", "[]\n", '{"a": 1}\n', "[" * 100_000 + "\n"])
def test_damaged_files_are_named(runs, tmp_path, capsys, name, content):
    shutil.copytree(runs / "one [a]", tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    for command in (["runs", str(tmp_path)], ["plot", str(tmp_path / "run")]):
        assert main(command) == 2
        assert name in capsys.readouterr().err


@pytest.mark.filterwarnings("always:.*it is left out")
def test_a_damaged_run_is_named_and_the_others_are_listed(runs, tmp_path, capsys):
    shutil.copytree(runs / "one [a]", tmp_path / "good")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("database: postgres\n")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert [row["run"] for row in json.loads(captured.out)] == [str(tmp_path / "good")]
    assert captured.err.startswith(f"warning: {tmp_path / 'other' / 'config.yaml'}")
    assert captured.err.endswith("; it is left out\n")
