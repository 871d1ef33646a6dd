"""The benchmark of threads: processes that take turns, and the summary of their times."""

from __future__ import annotations

import json

import pytest
from benchmarks import reports, threads


class Fake:
    """Answers by rule instead of computing."""

    def __init__(self, count, way, asked, seconds):
        self.threads, self.way, self.asked, self.seconds = str(count), way, asked, seconds

    def ask(self, case):
        self.asked.append((case, self.way, self.threads))
        return [self.seconds]


def fakes(asked, seconds):
    return [
        Fake(count, way, asked, seconds[way, count])
        for count in (1, 2)
        for way in ("kernels", "operators")
    ]


SECONDS = {
    ("kernels", 1): 0.010,
    ("kernels", 2): 0.012,
    ("operators", 1): 0.020,
    ("operators", 2): 0.011,
}


def test_processes_take_turns_case_by_case():
    asked = []
    cases = [("maml", 1), ("maml", 2)]
    found = threads.measure(cases, fakes(asked, SECONDS), 2)
    assert [case for case, *_ in asked] == [c for _ in range(2) for c in cases for _ in range(4)]
    everybody = [way for _, *way in asked[:4]]
    assert len({tuple(way) for way in everybody}) == 4
    assert [way for _, *way in asked[8:12]] == everybody[1:] + everybody[:1]
    assert found["maml", 1]["kernels"] == {"1": [0.010] * 2, "2": [0.012] * 2}


def test_what_takes_long_has_one_turn():
    asked = []
    threads.measure([("imaml", 8)], fakes(asked, dict.fromkeys(SECONDS, threads.TURN)), 3)
    assert len(asked) == 4


def test_calls_end_with_the_turn():
    assert len(threads.timed(lambda: None)) == threads.CALLS


def test_ratios_and_what_is_slower_are_said():
    found = threads.measure([("maml", 1)], fakes([], SECONDS), 1)
    runs = {"maml, 1 task": threads.summary(found["maml", 1])}
    run = runs["maml, 1 task"]
    assert run["ms"]["kernels"] == {"1": 10.0, "2": 12.0}
    assert run["two_threads_by_one"] == 1.2
    assert run["kernels_by_operators"] == {"1": 0.5, "2": pytest.approx(12 / 11, abs=1e-3)}
    text = threads.printed(runs).splitlines()
    assert "two threads slower than one: maml, 1 task" in text
    assert "kernels slower than PyTorch's operators (threads): maml, 1 task (2)" in text
    fast = {**SECONDS, ("kernels", 2): 0.006}
    found = threads.measure([("maml", 1)], fakes([], fast), 1)
    assert threads.slow({"m": threads.summary(found["maml", 1])}) == [
        "two threads slower than one: nowhere",
        "kernels slower than PyTorch's operators (threads): nowhere",
    ]


def test_the_command_measures_every_case_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threads, "Worker", lambda count, kernels: Closable(count, kernels))
    monkeypatch.setattr(threads, "RESULTS", tmp_path)
    monkeypatch.setattr(reports, "machine", lambda: {"processor": "Some CPU"})
    threads.main(["--threads", "1", "2", "--tasks", "1", "8"])
    report = json.loads((tmp_path / "threads.json").read_text())
    assert {"maml, 1 task", "imaml, 8 tasks", threads.FIT, threads.STEP} <= report["runs"].keys()
    assert len(report["runs"]) == 2 * len(threads.OURS) + 2
    assert report["busy_processes"] == 0
    assert "fit of five drawings" in capsys.readouterr().out
    threads.main(["maml", "--threads", "1", "--tasks", "1"])
    again = json.loads((tmp_path / "threads.json").read_text())["runs"]
    assert again.keys() == report["runs"].keys()
    assert {name for name in again if again[name] != report["runs"][name]} == {"maml, 1 task"}
    threads.main(["maml", "--threads", "1", "--tasks", "1", "--out", str(tmp_path / "a.json")])
    (run,) = json.loads((tmp_path / "a.json").read_text())["runs"].values()
    assert "two_threads_by_one" not in run
    threads.main(["maml", "--threads", "2", "--quick", "--out", str(tmp_path / "b.json")])
    assert not (tmp_path / "b.json").exists()
    for wrong in (["sgd"], ["--threads", "0"], ["--load", "-1"]):
        with pytest.raises(SystemExit):
            threads.main(wrong)


class Closable(Fake):
    def __init__(self, count, with_kernels):
        super().__init__(count, "kernels" if with_kernels else "operators", [], 0.01)

    def close(self):
        pass


@pytest.mark.parametrize("case", [("maml++", 1), ("fine-tune", 2), (threads.STEP, 0)])
def test_cases_are_ready_to_be_timed(case):
    call = threads.prepared(*case)
    call()
    call()


def test_fit_is_that_of_the_classifier():
    assert threads.prepared(threads.FIT, 0)().classes_.tolist() == list("abcde")


def test_a_process_answers_and_ends():
    worker = threads.Worker(1, False)
    try:
        seconds = worker.ask((threads.FIT, 0))
        assert 1 <= len(seconds) <= threads.CALLS
        assert min(seconds) > 0
    finally:
        worker.close()
    assert worker.process.returncode == 0


def test_a_process_that_fails_ends_the_measurement():
    worker = threads.Worker(1, False)
    with pytest.raises(SystemExit, match="a process has failed \\(threads: 1, operators\\)"):
        worker.ask(("no such recipe", 1))
    worker.close()


def test_without_kernels_there_is_nothing_to_compare(monkeypatch):
    monkeypatch.setattr(threads.Worker, "_answer", lambda self: {"kernels": False})
    with pytest.raises(SystemExit, match="there are no compiled kernels"):
        threads.Worker(1, True)


def test_load_ends_with_the_context():
    with threads.loaded(2) as busy:
        assert [process.poll() for process in busy] == [None, None]
    assert None not in [process.returncode for process in busy]
