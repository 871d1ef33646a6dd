"""Networks that users bring: all contestants compute the same, and failures are reported."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch
from benchmarks import own, peers, pictures, reports, speed
from benchmarks.own_networks import OWN, conv4, resnet12
from PIL import Image
from tools import speed_tables, table_parts

from innerloop.models import ResNet12

# The same networks, as narrow as they can be, on a task or two.
SMALL = {
    "E": {"network": lambda: conv4(1, 4, 16), "shape": (1, 16, 16)},
    "F": {"network": lambda: conv4(3, 4, 16), "shape": (3, 16, 16), "k_shot": 1},
    "G": {"network": lambda: resnet12((2, 3, 4, 5)), "shape": (3, 16, 16)},
}


def small(name: str):
    work = replace(OWN[name], tasks=2, steps=2, k_query=1)
    return replace(work, **SMALL.get(name, {}))


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("order", own.ORDERS)
@pytest.mark.parametrize("name", OWN)
def test_all_contestants_compute_the_same_gradient(name, order):
    found = own.compare(small(name), order, "cpu")
    assert found["innerloop"]["difference"] < own.TOLERANCE
    fused = OWN[name].attention and order == "second"
    assert ("loop, unfused" in found) == fused
    for other in ("loop", "higher", "loop, unfused" if fused else "loop"):
        row = found[other]
        if fused and other != "loop, unfused":
            assert "attention" in row["fails"]
        else:
            assert row["difference"] < own.TOLERANCE
    if order == "first":
        assert found["TorchOpt"]["left_out"].startswith(("it has no first order", "not installed"))


@pytest.mark.parametrize("name", OWN)
def test_networks_are_plain_pytorch_without_running_statistics(name):
    work = OWN[name]
    model = work.make()
    for module in model.modules():
        assert type(module).__module__.startswith(("torch.nn.", "benchmarks.own_networks"))
        assert getattr(module, "running_mean", None) is None
    x, y = work.smaller(1).episodes(torch.float32)[:2]
    with torch.no_grad():
        outputs = model(x[0][:2])
    assert outputs.shape == ((2, 2, *work.shape[1:]) if work.pixels else (2, work.n_way))
    assert y.shape == (x.shape[:2] + work.shape[1:] if work.pixels else x.shape[:2])
    again = work.make().state_dict()
    assert all(torch.equal(p, again[n]) for n, p in model.state_dict().items())


def test_the_residual_network_is_ours_written_by_hand():
    theirs, ours = resnet12(), ResNet12(5, widths=(16, 32, 64, 128))
    with torch.no_grad():
        for block, to in zip(list(theirs)[:4], ours.blocks, strict=True):
            for i in range(3):
                to.convs[i].weight.copy_(getattr(block, f"conv{i + 1}").weight)
            to.shortcut.weight.copy_(block.downsample[0].weight)
        ours.head.load_state_dict(theirs[-1].state_dict())
        x = torch.rand(3, 3, 20, 20)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def failing(*_):
    def meta_gradient():
        raise NotImplementedError("this network is not supported\nand more")

    return meta_gradient


def wrong(*arguments):
    right = peers.loop(*arguments)
    return lambda: {name: 1.001 * g for name, g in right().items()}


def test_what_fails_is_written_down_and_not_timed(monkeypatch):
    made = {**own.CONTESTANTS, "higher": failing, "TorchOpt": wrong}
    monkeypatch.setattr(own, "CONTESTANTS", made)
    monkeypatch.setattr(own, "left_out", lambda name, order: None)
    found = own.measure(replace(small("H"), tasks=1), "second", 2)
    assert found["higher"] == {"fails": "NotImplementedError: this network is not supported"}
    assert found["TorchOpt"]["fails"].startswith("it computes another gradient")
    assert len(found["loop"]["seconds"]) == 2
    result = own.summary(found, ["vmap: together"])
    assert result["best_other"] == "loop"
    assert "fails: NotImplementedError" in own.shown("H", "second", result)


def test_a_gradient_of_ours_that_differs_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(own, "CONTESTANTS", {**own.CONTESTANTS, "innerloop": wrong})
    with pytest.raises(SystemExit, match="innerloop computes another gradient"):
        own.compare(small("H"), "first", "cpu")


def test_everybody_takes_turns_in_being_first(monkeypatch):
    turns = []

    def named(name):
        return lambda *arguments: lambda: turns.append(name)

    names = ["innerloop", "loop", "higher"]
    monkeypatch.setattr(own, "CONTESTANTS", {name: named(name) for name in names})
    monkeypatch.setattr(own, "compare", lambda *_: {name: {"difference": 0.0} for name in names})
    own.measure(small("H"), "first", 3)
    assert turns[3:] == [names[i % 3] for i in (0, 1, 2, 1, 2, 3, 2, 3, 4)]


def test_the_command_writes_a_report_a_table_and_a_picture(tmp_path, monkeypatch, capsys):
    for module in (own, reports, table_parts):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    machine = {"processor": "Some CPU", "matrix_product_gflops": 100, "torch": "2.99"}
    monkeypatch.setattr(reports, "machine", lambda: machine)
    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    monkeypatch.setattr(own, "OWN", {name: small(name) for name in "HIJ"})
    monkeypatch.setattr(speed.sys, "argv", ["speed", "own", "H", "I", "--rounds", "1"])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    speed.main()
    report = json.loads((tmp_path / "own.json").read_text())
    assert report["command"] == "python -m benchmarks.speed own"
    assert {name: list(orders) for name, orders in report["runs"].items()} == {
        name: ["first", "second"] for name in "HI"
    }
    assert report["runs"]["H"]["first"]["way"][0].split(":")[0] in ("vmap", "loop", "stacked")
    assert "times as fast as the best other" in capsys.readouterr().out
    for language in ("en", "zh"):
        head, line, *rows = speed_tables.tables(language)["own"](None).splitlines()
        assert "learn2learn" not in head or peers.installed("learn2learn")
        assert {row.count("|") for row in rows if row.startswith("|")} == {head.count("|")}
        assert line.count("|") == head.count("|")
        assert any("Some CPU" in row for row in rows)
    with Image.open(tmp_path / "own.png") as picture:
        assert picture.width > 300

    # Another workload is added, in the order of the alphabet; the rest stays.
    before = report["runs"]["H"]
    own.main(["J", "--orders", "first", "--rounds", "1"])
    report = json.loads((tmp_path / "own.json").read_text())
    assert list(report["runs"]) == ["H", "I", "J"]
    assert report["runs"]["H"] == before
    assert list(report["runs"]["J"]) == ["first"]

    own.main(["H", "--out", str(tmp_path / "other.json"), "--rounds", "1", "--orders", "first"])
    assert list(json.loads((tmp_path / "other.json").read_text())["runs"]) == ["H"]
    own.main(["H", "--quick", "--out", str(tmp_path / "third.json"), "--orders", "first"])
    assert not (tmp_path / "third.json").exists()
    for wrong_arguments in (["Z"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            own.main(wrong_arguments)
