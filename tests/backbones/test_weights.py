"""Weights from files: all of them or none, and nothing unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from innerloop import UserError
from innerloop.backbones.weights import load_weights
from tests.backbones.test_in_use import Tied, pretrained


def test_every_way_that_weights_are_saved_in(tmp_path):
    network = pretrained()
    state = network.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    for name, content in {
        "b.pt": state,
        "c.pth": {"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3},
        "d.bin": {"model": {f"_orig_mod.{n}": t for n, t in state.items()}},
    }.items():
        torch.save(content, tmp_path / name)
    for file in sorted(tmp_path.iterdir()):
        other = pretrained()
        for tensor in other.state_dict().values():
            tensor.zero_()
        load_weights(other, file)
        assert all(torch.equal(t, state[n]) for n, t in other.state_dict().items()), file


def test_tied_weights(tmp_path):
    network, other = Tied(), Tied()
    nn.init.normal_(network.conv.weight)
    save_model(network, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other.again.weight, network.conv.weight)
    assert other.again is other.conv


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.pop("conv.weight"), "lacks conv.weight: it belongs to another network"),
        (lambda s: s.update(extra=torch.zeros(1)), "holds .* extra: it belongs to another network"),
        (lambda s: s.update({"conv.weight": torch.zeros(1)}), "size mismatch for conv.weight"),
        (lambda s: s.update(note="text"), "holds no weights by name"),
        (lambda s: s.update(trap=Trap()), "holds more than weights"),
    ],
)
def test_what_is_no_set_of_these_weights(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = dict(pretrained().state_dict())
    make(state)
    torch.save(state, "w.pt")
    with pytest.raises(UserError, match=message):
        load_weights(pretrained(), "w.pt")
    assert not Path("ran").exists()


def test_damaged_and_missing_files(tmp_path):
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(UserError, match="there is no file"):
            load_weights(pretrained(), tmp_path / name)
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(UserError):
            load_weights(pretrained(), tmp_path / name)
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(UserError):
        load_weights(pretrained(), tmp_path / "b.pt")
