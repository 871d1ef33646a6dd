"""Damaged and hostile input is read or refused; `trials.fuzz` tries far more of it."""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib

import pytest
import yaml
from trials import fuzz, mutations, readers

from innerloop.config import TrainConfig
from innerloop.data import folder, pictures
from innerloop.errors import UserError
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.loading import load


@pytest.mark.parametrize("name", fuzz.READERS)
def test_every_reader_reads_or_refuses(name):
    result = fuzz.try_reader(name, 40 if name == "commands" else 300, seed=0)
    assert result["defects"] == []
    # Otherwise the changes would be too gentle, or too coarse to get past the first check.
    mended = name in ("cached_folders", "commands")
    assert mended or 0 < result["refused"] < result["inputs"]


def test_what_goes_wrong_is_seen(monkeypatch, tmp_path):
    """A reader that leaves a traceback, hangs, or takes the machine's memory."""
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    sent = []

    class Pipe:
        send = sent.append

    def careless(home):
        def read(draw):
            kind = draw.randrange(3)
            if kind == 0:
                raise KeyError("x")
            while kind == 1:
                pass
            raise UserError("refused")

        return read

    monkeypatch.setitem(fuzz.READERS, "careless", careless)
    monkeypatch.setattr(fuzz.resource, "setrlimit", lambda *limits: None)
    monkeypatch.setenv("INNERLOOP_HOME", "")
    monkeypatch.chdir(tmp_path)
    before = fuzz.signal.getsignal(fuzz.signal.SIGALRM)
    fuzz._feed("careless", 12, 0, tmp_path, Pipe)
    fuzz.signal.signal(fuzz.signal.SIGALRM, before)
    (result,) = sent
    assert any("KeyError" in defect for defect in result["defects"])
    assert any("hangs" in defect for defect in result["defects"])
    assert result["refused"]


def test_changes_are_a_function_of_the_seed():
    seeds = [b"some valid input 123", b"another"]
    assert mutations.mutated(random.Random(3), seeds) == mutations.mutated(random.Random(3), seeds)
    assert len({mutations.mutated(random.Random(i), seeds) for i in range(100)}) > 60


def test_archives_are_the_same_on_any_day(monkeypatch):
    """Their entries once had the day's date: on some days every changed archive was refused."""
    first = readers._zip([("a", b"1")])
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert readers._zip([("a", b"1")]) == first


def test_a_picture_that_would_fill_the_memory_is_refused_unread(tmp_path):
    """Ten thousand by ten thousand pixels in a hundred kilobytes."""
    side = 10_000
    body = zlib.compress(bytes(side // 8 + 1) * side, 9)
    chunks = [(b"IHDR", side.to_bytes(4, "big") * 2 + b"\x01\0\0\0\0"), (b"IDAT", body)]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in [*chunks, (b"IEND", b"")]:
        data += len(content).to_bytes(4, "big") + kind + content
        data += zlib.crc32(kind + content).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    assert len(data) < 150_000
    tracemalloc.start()
    try:
        for read in (pictures.picture_size, pictures.is_grey):
            with pytest.raises(UserError, match=r"bomb\.png .*pixels"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_small_weights_file_cannot_ask_for_a_huge_network(tmp_path):
    run = readers._small_run(tmp_path)
    tensors, metadata = read_tensors(run / "model.safetensors")
    for changes in ({"width": 100_000}, {"n_way": 2**30, "head": "linear"}, {"width": 2**30}):
        path = tmp_path / "forged.safetensors"
        write_tensors(path, tensors, metadata | {"config": metadata["config"] | changes})
        with pytest.raises(UserError, match="describes a network of"):
            load(path)


def test_references_in_yaml_cannot_make_an_endless_message(tmp_path):
    """A billion laughs: each line holds nine of the line above."""
    lines = ["a: &a [x]"] + [
        f"{chr(b)}: &{chr(b)} [{', '.join([f'*{chr(b - 1)}'] * 9)}]" for b in range(98, 110)
    ]
    path = tmp_path / "config.yaml"
    for last in ("", "\nwidth: *m", "\nmodel: *m"):
        path.write_text("\n".join(lines) + last)
        with pytest.raises(UserError) as error:
            TrainConfig.from_file(path)
        assert len(str(error.value)) < 2000
    path.write_text(yaml.safe_dump({"network": {"width": 8}}) + "#" * 200_000)
    with pytest.raises(UserError, match="too large"):
        TrainConfig.from_file(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 10**30}, "width must be less than"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"inner_lr": float("inf")}, "inner_lr must be a finite number"),
        ({"inner_lr": 10**400}, "inner_lr must be a number"),
        ({"threads": 10**6}, "threads must be at most 10,000"),
        ({"inner_steps": 10**6}, "inner_steps must be at most 10,000"),
    ],
)
def test_absurd_numbers_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        TrainConfig.from_dict(settings)


def test_a_header_of_an_array_that_numpy_stumbles_over(tmp_path):
    for shape in ((2**62, 2**62, 1, 8, 8), (2**63, 1, 1, 8, 8), (-4, 3, 1, 8, 8)):
        path = tmp_path / "x.npy"
        text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + b"\0" * 99)
        with pytest.raises(UserError, match=r"not a usable \.npy|need a uint8 array"):
            folder(path)


def test_csv_names_that_no_file_can_have(tmp_path):
    (tmp_path / "images").mkdir()
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.csv").write_text("filename,label\n" + "x" * 5000 + ".png,a\n")
    (tmp_path / "val.csv").write_text("filename,label\n")
    (tmp_path / "test.csv").write_text("filename,label\n")
    with pytest.raises(UserError, match="is not there"):
        folder(tmp_path)
