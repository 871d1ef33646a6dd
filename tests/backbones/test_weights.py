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


class Classifier(nn.Module):
    """A body with what stands for its last layers."""

    def __init__(self, last=None):
        super().__init__()
        self.body, self.norm = pretrained(), nn.BatchNorm1d(8)
        if last is not None:
            self.fc = last


HEADS = {
    "linear": lambda: nn.Linear(8, 3),
    "two": lambda: nn.Sequential(nn.Dropout(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("nothing", [nn.Identity, nn.Sequential])
def test_a_checkpoint_with_the_last_layer_that_was_taken_off(head, nothing, tmp_path):
    whole = Classifier(HEADS[head]())
    nn.init.normal_(whole.body.conv.weight)
    torch.save({f"module.{n}": t for n, t in whole.state_dict().items()}, tmp_path / "w.pt")
    network = Classifier(nothing())
    load_weights(network, tmp_path / "w.pt")
    assert torch.equal(network.body.conv.weight, whole.body.conv.weight)


def test_what_else_is_not_there_is_an_error(tmp_path):
    save_file(Classifier(nn.Linear(8, 3)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"fc.bias and 1 more.*leave torch.nn.Identity\(\) in its"):
        load_weights(Classifier(), tmp_path / "w.safetensors")
    network = Classifier(nn.Identity())
    network.norm = nn.Identity()
    for file in ("w.safetensors", "norm.safetensors"):
        # The norm that the network lacks, with the last layer and by itself.
        save_file(Classifier(nn.Linear(8, 3)).state_dict(), tmp_path / "w.safetensors")
        save_file(Classifier().state_dict(), tmp_path / "norm.safetensors")
        with pytest.raises(UserError, match=r"another network$"):
            load_weights(network, tmp_path / file)


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
