"""What holds for any input, tested on inputs that hypothesis generates."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innerloop import cli
from innerloop.config import TrainConfig
from innerloop.data import ImageClasses
from innerloop.data.splits import available_splits, split_classes
from innerloop.errors import UserError
from innerloop.files import append_line, write_whole
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.folder import METRICS, cut_metrics, new_state
from innerloop.tasks.sampler import EpisodeSampler
from tests.algorithms.networks import Small

# The same examples each time; files are written anew for each.
fixed = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
names = st.text(string.ascii_letters + "/._", min_size=1, max_size=12)


@fixed
@given(
    st.dictionaries(st.sampled_from(sorted(TrainConfig().to_dict())), plain, max_size=3)
    | st.dictionaries(st.text(), plain, max_size=2)
    | plain
)
def test_settings_are_taken_whole_or_refused(tmp_path, values):
    try:
        config = TrainConfig.from_dict(values)
    except UserError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 3000
    if message:
        return
    assert TrainConfig.from_dict(config.to_dict()) == config
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), "utf-8")
    assert TrainConfig.from_file(path) == config


@fixed
@given(
    st.dictionaries(names, st.lists(st.integers(0, 3), max_size=3), max_size=4),
    st.dictionaries(st.text(), plain, max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16]),
)
def test_tensors_come_back_as_they_were(tmp_path, shapes, metadata, dtype):
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}
    write_tensors(tmp_path / "a", tensors, metadata)
    write_tensors(tmp_path / "b", tensors, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, description = read_tensors(tmp_path / "a")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor)
    # As text, because not a number is not equal to itself.
    assert json.dumps(description) == json.dumps(metadata)


@fixed
@given(st.data())
def test_any_change_of_a_byte_is_noticed(tmp_path, data):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(())}
    write_tensors(tmp_path / "a", tensors, {"width": 3, "name": "x"})
    content = bytearray((tmp_path / "a").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "a").write_bytes(content)
    try:
        found, metadata = read_tensors(tmp_path / "a")
    except UserError:
        return
    # A space of the header, say: what it means has not changed.
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert metadata == {"width": 3, "name": "x"}


@fixed
@given(st.lists(st.tuples(names, st.sampled_from("ABCDEFGHIJKL")), unique_by=lambda c: c[0]))
def test_splits_are_disjoint_and_leave_no_class_out(classes):
    if not classes:
        return
    data = ImageClasses(
        images=np.zeros((len(classes), 1, 2, 2), np.uint8),
        starts=np.arange(len(classes)),
        counts=np.ones(len(classes), np.int64),
        names=[name for name, _ in classes],
        groups=[group for _, group in classes],
    )
    for name in available_splits(data):
        parts = split_classes(data, name)
        together = np.concatenate(list(parts.values()))
        assert sorted(together) == list(range(len(classes)))
        assert len(parts["train"])
        assert len(parts["test"])


@fixed
@given(
    st.integers(2, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31), st.booleans()
)
def test_episodes_never_show_a_query_image_in_the_support_set(ways, shots, queries, seed, rotate):
    # Every image has a brightness of its own, which turning leaves.
    images = np.arange(1, 8 * 6 + 1, dtype=np.uint8).repeat(4).reshape(8, 6, 1, 2, 2)
    data = ImageClasses.from_square(images)
    sampler = EpisodeSampler(
        data,
        np.arange(8),
        n_way=ways,
        k_shot=shots,
        k_query=queries,
        seed=seed,
        rotate=rotate,
        inputs="raw",
    )
    episodes = sampler.batch(seed % 1000, 3)
    again = sampler.batch(seed % 1000 + 1, 1)
    assert torch.equal(again.support_x[0], episodes.support_x[1])
    for task in range(3):
        for y, each in ((episodes.support_y[task], shots), (episodes.query_y[task], queries)):
            assert torch.bincount(y, minlength=ways).tolist() == [each] * ways
        support = set(episodes.support_x[task].flatten().tolist())
        query = set(episodes.query_x[task].flatten().tolist())
        if not rotate:  # else two turns of one class may be two classes
            assert not support & query
            assert len(support) == ways * shots


@fixed
@given(st.lists(st.integers(1, 50), max_size=5), st.integers(0, 60), st.binary(max_size=60))
def test_metrics_up_to_the_checkpoint_are_never_lost(tmp_path, iterations, reached, rubbish):
    path = tmp_path / METRICS
    path.unlink(missing_ok=True)
    for iteration in sorted(iterations):
        append_line(path, json.dumps({"iteration": iteration, "loss": 0.5}))
    whole = path.read_bytes() if path.exists() else b""
    # A killed process may leave a part of a line at the end.
    with open(path, "ab") as file:
        file.write(rubbish.replace(b"\n", b"") if rubbish else b"")
    state = new_state(TrainConfig(), _algorithm())
    state.iteration = reached
    cut_metrics(tmp_path, state)
    kept = [json.loads(line)["iteration"] for line in path.read_bytes().splitlines()]
    assert kept == [n for n in sorted(iterations) if n <= reached]
    assert whole.startswith(path.read_bytes())


def _algorithm():
    from innerloop import MAML

    return MAML(Small())


@fixed
@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, old, new, breaks):
    path = tmp_path / "file"
    path.write_bytes(old)

    def write():
        with write_whole(path) as file:
            file.write(new)
            if breaks:
                raise KeyError

    if breaks:
        with pytest.raises(KeyError):
            write()
    else:
        write()
    assert path.read_bytes() == (old if breaks else new)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@settings(fixed, max_examples=60)
@given(st.lists(st.text(max_size=10) | st.sampled_from(["train", "data", "--out"]), max_size=4))
def test_any_words_get_an_answer(tmp_path, capsys, words):
    if words == ["train"]:
        return  # That is a command.
    try:
        status = cli.main(words)
    except SystemExit as end:
        status = end.code
    assert status in (0, 2)
    assert "Traceback" not in "".join(capsys.readouterr())
