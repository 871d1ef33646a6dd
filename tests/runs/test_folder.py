"""The run folder: how it is locked, and what is cut off before a run goes on."""

from __future__ import annotations

import pytest

import innerloop
from innerloop import TrainConfig, UserError
from tests.small_runs import StopAt, assert_same_runs, settings


def test_resume_drops_metrics_written_after_the_checkpoint(array, tmp_path):
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    stopped = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 8, "seconds": 0, "loss": 9}\n{"iteration": 12')
    innerloop.resume(stopped)
    assert_same_runs(whole, stopped)


def test_a_folder_in_use_is_refused_and_untouched(array, tmp_path):
    folder = innerloop.train(out=tmp_path / "run", **settings(array, iterations=2)).folder
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    with pytest.raises(UserError, match=r"already holds a run.*innerloop resume"):
        innerloop.train(out=folder, **settings(array))
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def test_default_folders_are_taken_at_once(tmp_path, monkeypatch):
    from innerloop.runs.folder import new_folder

    monkeypatch.chdir(tmp_path)
    names = [new_folder(None, TrainConfig()).name for _ in range(3)]
    assert names == [f"glyphs-maml-5way1shot-00{i}" for i in (1, 2, 3)]
    assert (
        new_folder(None, TrainConfig.recipe("maml", "sinusoid")).name == "sinusoid-maml-10shot-001"
    )
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file has that name"):
        new_folder("file", TrainConfig())


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.png", "checkpoints"])
def test_what_a_run_would_write_over_is_refused_and_untouched(name, array, tmp_path):
    (tmp_path / name).write_text("of something else")
    with pytest.raises(UserError, match=rf"holds {name} of something else.*another folder"):
        innerloop.train(out=tmp_path, **settings(array))
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [(name, "of something else")]


def test_a_run_beside_other_files_says_so(array, tmp_path):
    (tmp_path / "report.txt").write_text("mine")
    (tmp_path / ".hidden").touch()
    with pytest.warns(UserWarning, match=r"is not empty \(report.txt\): the files of the run go"):
        innerloop.train(out=tmp_path, **settings(array, iterations=2))
    assert (tmp_path / "report.txt").read_text() == "mine"
