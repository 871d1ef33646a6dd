"""The benchmarks compare equal work, count the arithmetic correctly, and show their results."""

import json
import warnings

import pytest
import torch
from benchmarks import adapters, exported, memory, peers, pictures, reports, scaling, speed
from PIL import Image
from tools import speed_tables, table_parts, tables
from torch import nn

import innerloop
from innerloop.models import Conv4, TutorialConv

WORKS = {
    "tutorial": speed.Workload(lambda: TutorialConv(3, width=16), 2, 3, 1, 2, 2, 0.04),
    "strided": speed.Workload(
        lambda: Conv4(3, width=16, image_size=16, head="random"), 2, 3, 1, 2, 2, 0.1, (1, 16, 16)
    ),
}


@pytest.mark.parametrize("order", speed.ORDERS)
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_all_contestants_compute_the_same_gradient(work, order):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = speed.contestants(work, order, torch.float64)
        gradients = {name: meta_gradient() for name, meta_gradient in made.items()}
    assert {"innerloop", "higher", "torch.func vmap"} <= gradients.keys()
    assert ("tutorial" in gradients) == (order == "first" and work is WORKS["tutorial"])
    exact = peers.exact_vmap(peers.Plain(work.make()), order == "first")
    for name, gradient in gradients.items():
        if name != "torch.func vmap" or exact:
            assert speed.difference(gradients["innerloop"], gradient) < 1e-9, name


def test_an_exported_network_is_compared_on_pictures_as_they_are(monkeypatch):
    """No exported network prepares pictures."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    assert exported.classifier("omniglot-protonet").prepare == "none"


def test_another_gradient_is_not_timed():
    ours = {"w": torch.ones(3, dtype=torch.float64)}
    assert speed.agreed("other", ours, ours) == 0
    for factor in (1 + 1e-7, float("nan")):
        with pytest.raises(SystemExit, match="other computes another gradient"):
            speed.agreed("other", ours, {"w": factor * ours["w"]})


def test_difference_is_relative():
    a, b = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 4.5])}
    assert speed.difference(a, b) == pytest.approx(0.1)


def test_multiply_adds_by_hand():
    work = WORKS["strided"]
    # 16 -> 8 -> 4 -> 2 -> 1 pixels a side, 9 x 1 or 9 x 16 inputs, 16 filters; then 16 x 3.
    first = 8 * 8 * 16 * 9
    others = (4 * 4 + 2 * 2 + 1) * 16 * 9 * 16 + 16 * 3
    step, images = 2 * first + 3 * others, 2 * 3 + 3 * 2
    assert speed.multiply_adds(work, "first") == 2 * step * images
    more = 2 * 2 * 3 * (2 * first + 6 * others)
    assert speed.multiply_adds(work, "second") == 2 * step * images + more


def test_a_measurement_becomes_a_report_a_table_and_a_picture(tmp_path, monkeypatch):
    work = WORKS["strided"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {order: speed.measure(work, order, 2) for order in speed.ORDERS}
    for row in (row for rows in found.values() for row in rows.values()):
        assert len(row["seconds"]) == row["rounds"] == 2
        assert row["median"] == pytest.approx(sum(row["seconds"]) / 2, abs=1e-5)
        # Half precision is compared in single precision.
        assert row.get("difference", 0.0) < 1e-8
        assert len(row.keys() & {"difference", "single_precision_difference"}) == 1
    # The sentence on the page is about these times.
    for row, seconds in zip(found["first"].values(), (0.01, 0.025, 0.02), strict=False):
        row["median"] = seconds
    found["second"]["TorchOpt"] = {"left_out": "it takes 18 GB of memory"}
    runs = {"B": {order: speed.summary(work, order, found[order], 100.0) for order in found}}
    runs["B"]["first"]["gflops"] = 50.0
    speed.add_floors(runs)
    first = runs["B"]["first"]
    assert first["faster_than_the_best_task_by_task"] == pytest.approx(2.5)
    # At the better of the two rates.
    floor = 2 * speed.multiply_adds(work, "first") / 100e9
    assert first["times_the_floor"] == pytest.approx(0.01 / floor)

    for module in (reports, table_parts):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    machine = {"processor": "Some CPU", "matrix_product_gflops": 100, "torch": "2.99"}
    monkeypatch.setattr(reports, "machine", lambda: machine)
    reports.write_report("speed", runs, "python -m benchmarks.speed", seconds=3)
    report = json.loads((tmp_path / "speed.json").read_text())
    assert list(report) == ["command", "seconds", "machine", "runs"]
    assert report["runs"] == runs
    for language in ("en", "zh"):
        tables = speed_tables.tables(language)
        for name in ("speed", "speed_short"):
            head, line, *rows = tables[name](None).splitlines()
            assert {row.count("|") for row in rows if row.startswith("|")} == {head.count("|")}
            assert line.count("|") == head.count("|")
            assert any("2.5x" in row for row in rows)
            assert any("Some CPU" in row and "2.99" in row for row in rows)
    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    speed.draw(runs)
    assert "一次元梯度的时间" in (tmp_path / "speed.svg").read_text("utf-8")
    with Image.open(tmp_path / "speed.png") as picture:
        assert picture.width > 500


def test_a_measurement_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "echo.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert reports.in_own_process("echo", "A", "5") == ["--one", "A", "5"]


def test_plain_network_is_the_same_function():
    for work in WORKS.values():
        ours = work.make()
        assert not any(type(m) is not nn.Conv2d for m in peers.Plain(ours).convs)
        x = torch.rand(6, *work.shape)
        torch.testing.assert_close(peers.Plain(ours)(x), ours(x), rtol=1e-4, atol=1e-5)


def test_efficiency_of_a_ring():
    # Two processes: each sends the gradient once, in two messages.
    assert scaling.efficiency(1.0, 100.0, 2, 100.0, 0.5) == pytest.approx(1 / 3)
    assert scaling.efficiency(1.0, 100.0, 1, 100.0, 0.5) == 1


@pytest.mark.parametrize("name", memory.NETWORKS)
def test_memory_is_measured_of_the_same_gradient(name):
    network, found = memory.NETWORKS[name], {}
    episodes = memory.random_tasks(2, network.shape).to(torch.float64)
    torch.manual_seed(0)
    model = network.tiny().double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way in memory.WAYS:
            found[way] = memory.prepare(way, model, episodes, 3)()
    for way in memory.WAYS:
        assert speed.difference(found["reverse"], found[way]) < 1e-9, way


def test_adapters_are_a_small_part_of_the_network_whose_memory_is_measured():
    learnt = {}
    for what in adapters.WHAT:
        maml = innerloop.MAML(adapters.network(what, 16, 1), 0.01)
        grads, _ = maml.meta_gradient(maml.init_params(), adapters.random_tasks())
        learnt[what] = sum(g.numel() for g in grads.values())
    whole = sum(p.numel() for p in adapters.network("everything", 16, 1).parameters())
    assert learnt["everything"] == whole
    assert learnt["adapters"] < whole / 4


def test_what_does_not_fit_into_memory_is_left_out(tmp_path, monkeypatch):
    def peak(module, name, way, steps):
        return {"bytes": 2**20 * int(steps), "seconds": 1.0}

    monkeypatch.setattr(memory, "in_own_process", peak)
    monkeypatch.setattr(memory, "available", lambda: 2**20 * 70)
    runs = {way: memory.measured("plain", way) for way in memory.WAYS}
    assert [s for s, r in runs["mixed"].items() if "left_out" in r] == ["100", "200"]
    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    memory.draw("plain", runs)
    assert "内循环步数" in (tmp_path / "memory_plain.svg").read_text("utf-8")
    with Image.open(tmp_path / "memory_plain.png") as picture:
        assert picture.width > 500
    report = {"runs": runs, "machine": {"processor": "X", "matrix_product_gflops": 1, "torch": "2"}}
    monkeypatch.setattr(tables, "read", lambda name: report)
    assert "| 200 |  |" in tables.memory_table(tables.WORDS["en"])
