"""Data sets from arrays: what they become, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop import EpisodeSampler, UserError
from innerloop.data import ExampleClasses, ImageClasses, folder, from_arrays


def series(classes=6, each=8) -> tuple[np.ndarray, np.ndarray]:
    """Every example holds its own number, in an order that mixes the classes."""
    number = np.arange(classes * each)
    order = np.random.default_rng(0).permutation(len(number))
    x = np.broadcast_to(number[:, None, None], (len(number), 3, 5)).astype(np.float64)
    return x[order], number[order] // each


def classes_of(sampler: EpisodeSampler, each: int, tasks: int = 20) -> None:
    """Labels of a task are 0..N-1, one a class, and no example occurs twice."""
    episodes = sampler.batch(0, tasks)
    for task in episodes.tasks():
        x = torch.cat([task.support_x, task.query_x]).flatten(1)[:, 0].long()
        y = torch.cat([task.support_y, task.query_y])
        assert len(x.unique()) == len(x)
        pairs = set(zip((x // each).tolist(), y.tolist(), strict=True))
        assert sorted(label for _, label in pairs) == list(range(sampler.n_way))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float64, torch.float32),
        (np.float16, torch.float32),
        (np.int32, torch.int64),
        (np.uint8, torch.int64),
    ],
)
def test_any_numbers_become_episodes(dtype, expected):
    x, y = series()
    data = from_arrays(x.astype(dtype), y, images=False)
    assert isinstance(data, ExampleClasses)
    sampler = EpisodeSampler(data, n_way=4, k_shot=2, k_query=3)
    batch = sampler.batch(0, 2)
    assert batch.support_x.shape == (2, 8, 3, 5)
    assert batch.support_x.dtype == expected
    assert sampler.input_shape == (3, 5)
    assert sampler.protocol()["inputs"] == "raw"
    classes_of(sampler, 8)


@pytest.mark.parametrize(
    "make", [list, torch.from_numpy, lambda x: [torch.from_numpy(r) for r in x]]
)
def test_lists_and_tensors_are_the_same_as_arrays(make):
    x, y = series()
    expected = EpisodeSampler(from_arrays(x, y), k_query=2).batch(0, 4)
    found = EpisodeSampler(from_arrays(make(x), y.tolist()), k_query=2).batch(0, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kept", ["channels first", "channels last", "grey"])
def test_images_are_those_of_the_fast_path_to_the_last_bit(kept):
    images = np.random.default_rng(1).integers(0, 256, (60, 3, 7, 7), dtype=np.uint8)
    if kept == "grey":
        images = images[:, :1]
    y = np.arange(60) % 6
    order = np.argsort(y, kind="stable")
    expected = EpisodeSampler(
        ImageClasses.from_square(images[order].reshape(6, 10, *images.shape[1:])),
        k_query=3, rotate=True, inputs="unit",
    ).batch(3, 5)  # fmt: skip
    given = {"channels last": images.transpose(0, 2, 3, 1), "grey": images[:, 0]}.get(kept, images)
    data = from_arrays(given, y)
    assert isinstance(data, ImageClasses)
    found = EpisodeSampler(data, k_query=3, rotate=True, inputs="unit").batch(3, 5)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_file_gives_the_episodes_that_memory_gives(tmp_path, kind):
    x = np.random.default_rng(1).integers(0, 256, (60, 3, 7, 7)) / (1 if kind is np.uint8 else 255)
    x = x.astype(kind)
    y = np.arange(60) % 6
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = {"k_query": 3, "rotate": True, "seed": 4}
    one = EpisodeSampler(from_arrays(x, y), **settings).batch(2, 3)
    other = EpisodeSampler(from_arrays(mapped, y), **settings).batch(2, 3)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_stored_array_is_read_by_rows():
    class Stored:
        chunks, dtype, shape = (1, 4), np.dtype(np.float32), (30, 4)
        read = 0

        def __getitem__(self, row):
            Stored.read += 1
            return np.full(4, row, np.float32)

        def __len__(self):
            return 30

    data = from_arrays(Stored(), np.arange(30) // 5)
    assert Stored.read == 0
    classes_of(EpisodeSampler(data, k_query=3), 5, tasks=3)
    assert Stored.read == 3 * 5 * 4


def test_labels_names_groups_and_splits():
    x, y = series()
    letters = np.array(list("fedcba"))[y]
    data = from_arrays(
        x,
        letters,
        names={letter: letter.upper() for letter in "abcdef"},
        groups=np.where(y < 3, "late", "early"),
        split={"train": "abc", "test": ["d", "e", "f"]},
    )
    assert list(data.names) == list("ABCDEF")
    assert list(data.groups) == ["early"] * 3 + ["late"] * 3
    assert data.splits["given"]["test"].tolist() == [3, 4, 5]
    assert (data.class_examples(0)[:, 0, 0] // 8 == 5).all()
    with pytest.raises(UserError, match="no entry for the label 'd'"):
        from_arrays(x, letters, names={"a": "A", "b": "B", "c": "C"})
    with pytest.raises(UserError, match="two groups"):
        from_arrays(x, y, groups=np.arange(48))
    with pytest.raises(UserError, match="in train and in test"):
        from_arrays(x, y, split={"train": [0, 1], "test": [1, 2]})


X, Y = series()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:-1], "47 labels for 48 examples"),
        (X, np.zeros(48), "at least two classes, but all 48"),
        (X, np.eye(6)[Y], "labels must be one for each example"),
        (X, Y + 0.5, "labels must name classes"),
        (X, [None, *Y[1:].tolist()], "1 of the 48 labels are missing"),
        (X, ["a", *Y[1:].tolist()], "several types"),
        (X, [True, *Y[1:].tolist()], "several types"),
        ([np.zeros(3), np.zeros(4)], [0, 1], r"X\[1\] has shape \(4,\), but X\[0\] \(3,\)"),
        (["a text", "another"], [0, 1], "token ids"),
        (np.zeros(4), [0, 0, 1, 1], "X\\[:, None\\]"),
        (np.zeros((0, 4)), [], "at least one value"),
        (np.where(X == 5, np.nan, X), Y, r"example \d+ holds NaN"),
        (np.where(X == 5, np.inf, X), Y, "infinite"),
        (X.astype(complex), Y, "two channels"),
        (np.ma.masked_array(X, X == 5), Y, r"X has masked values.*filled\(0\)"),
        (X, np.ma.masked_array(Y, Y == 0), "labels has masked values"),
        (np.where(X == 5, 2**63 + 5, 1).astype(np.uint64), Y, r"example \d+ holds a number above"),
        (torch.eye(48).to_sparse(), Y, r"sparse tensor: give X.to_dense\(\)"),
        (
            torch.nested.nested_tensor([torch.ones(3)] * 48, layout=torch.jagged),
            Y,
            "nested tensor.*cut or pad",
        ),
        (torch.ones(48, 3, device="meta"), Y, "on the device meta"),
        (torch.ones(48, 3), torch.ones(48, device="meta"), "labels is a tensor on the device meta"),
        (X.astype(object), Y, "not numbers"),
        (np.zeros((48, 7, 9, 11), np.uint8), Y, "images=True"),
        (np.zeros((48, 3, 9, 3), np.uint8), Y, "could be"),
        ("a name", Y, "not str"),
        (X, None, "labels must be one for each example, .* not NoneType"),
        (X, "labels", "not str"),
        (X, [7] * 48, "all 48 have the label 7$"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(x, y, message):
    with pytest.raises(UserError, match=message):
        from_arrays(x, y)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.bfloat16(),
        lambda x: x.to(torch.float8_e4m3fn),
        lambda x: torch.complex(x, -x).conj().imag,
    ],
    ids=["bfloat16", "float8", "negative bit"],
)
def test_tensors_of_types_that_numpy_lacks_hold_the_same_numbers(change):
    x, y = torch.arange(48.0)[:, None] // 8, torch.arange(48) // 8
    found, plain = (from_arrays(*pair) for pair in ((change(x), change(y.float())), (x, y)))
    for a, b in zip(
        *(EpisodeSampler(d, k_query=2).batch(0, 2) for d in (found, plain)), strict=True
    ):
        assert torch.equal(a, b)


def test_masked_arrays_without_masked_values_are_as_others():
    masked = from_arrays(np.ma.masked_array(X, np.zeros(X.shape, bool)), np.ma.masked_array(Y))
    found, plain = (EpisodeSampler(d, k_query=2).batch(0, 2) for d in (masked, from_arrays(X, Y)))
    for a, b in zip(found, plain, strict=True):
        assert torch.equal(a, b)


def test_values_of_a_file_that_are_not_finite_are_refused_when_they_are_read(tmp_path):
    np.save(tmp_path / "x.npy", np.where(X == 5, np.nan, X))
    data = from_arrays(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)
    with pytest.raises(UserError, match="NaN"):
        EpisodeSampler(data, k_query=7).batch(0, 10)


def test_images_that_would_be_black_are_a_warning():
    with pytest.warns(UserWarning, match="255 is white"):
        from_arrays(np.ones((10, 4, 4), np.uint8), np.arange(10) % 2)


def test_nothing_of_the_users_is_written_to():
    x, y = np.ones((20, 1, 4, 4), np.float32), np.arange(20) % 4
    x.flags.writeable = y.flags.writeable = False
    sampler = EpisodeSampler(from_arrays(x, y, images=True), n_way=3, k_query=2, rotate=True)
    sampler.batch(0, 3).support_x.zero_()
    assert (x == 1).all()


def test_rotation_and_scaling_only_where_they_apply():
    data = from_arrays(X, Y)
    with pytest.raises(UserError, match="square images"):
        EpisodeSampler(data, k_query=3, rotate=True)
    with pytest.raises(UserError, match="leave inputs out"):
        EpisodeSampler(data, k_query=3, inputs="unit")


def test_a_npy_file_is_the_array_that_it_holds(tmp_path):
    images = np.random.default_rng(2).integers(0, 256, (5, 6, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "data.npy", images)
    one = EpisodeSampler(folder(tmp_path / "data.npy"), k_query=3).batch(0, 4)
    data = from_arrays(images.reshape(30, 1, 8, 8), np.arange(30) // 6)
    other = EpisodeSampler(data, k_query=3).batch(0, 4)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
