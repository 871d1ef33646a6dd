"""Episodes: what is in them, and that they are pure functions of (seed, split, i)."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from innerloop import Episodes, EpisodeSampler, UserError
from innerloop.data.base import ImageClasses
from innerloop.ops import kernels


def numbered(classes=12, per_class=8, size=2) -> ImageClasses:
    """Every image is filled with its own number, so that it can be recognised."""
    number = np.arange(classes * per_class, dtype=np.uint8)
    images = np.broadcast_to(
        number.reshape(classes, per_class, 1, 1, 1), (classes, per_class, 1, size, size)
    )
    return ImageClasses.from_square(np.ascontiguousarray(images))


def ragged() -> ImageClasses:
    counts = np.array([4, 9, 5, 7])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    images = np.arange(counts.sum(), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ImageClasses(images, starts, counts, list("abcd"))


def equal(a: Episodes, b: Episodes) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def sampler(**changes) -> EpisodeSampler:
    settings = {"n_way": 5, "k_shot": 2, "k_query": 3, "inputs": "raw"} | changes
    return EpisodeSampler(numbered(), **settings)


def test_labels_can_number_all_classes():
    """Turned ones counted, in the order of the classes given, whatever the group."""
    groups = ["a", "b"] * 6
    data = dataclasses.replace(numbered(), groups=groups)
    classes = np.array([7, 1, 3, 8, 0, 9])
    for within_group in (False, True):
        s = EpisodeSampler(
            data,
            classes,
            n_way=3,
            k_shot=1,
            k_query=1,
            inputs="raw",
            rotate=True,
            within_group=within_group,
            labels="class",
        )
        assert s.num_classes == 24
        assert s.class_names == [data.names[c] for c in classes]
        _, turns, _ = s.indices(0, 30)
        for i in range(30):
            task = s.batch(i, 1).task(0)
            drawn = task.support_x[:, 0, 0, 0].long() // 8
            position = [classes.tolist().index(c) for c in drawn.tolist()]
            assert (task.support_y // 4).tolist() == position
            assert sorted((task.support_y % 4).tolist()) == sorted(turns[i].tolist())
            assert set(task.query_y.tolist()) == set(task.support_y.tolist())
    with pytest.raises(UserError, match="labels must be"):
        sampler(labels="global")


def test_shapes_and_types():
    episodes = sampler().batch(0, 4)
    assert episodes.support_x.shape == (4, 10, 1, 2, 2)
    assert episodes.query_x.shape == (4, 15, 1, 2, 2)
    assert episodes.support_y.shape == (4, 10)
    assert episodes.query_y.shape == (4, 15)
    assert episodes.support_x.dtype == torch.float32
    assert episodes.query_y.dtype == torch.int64
    assert episodes.num_tasks == 4


def test_images_are_distinct_and_labels_follow_classes():
    episodes = sampler().batch(0, 200)
    for i in range(200):
        task = episodes.task(i)
        images = torch.cat([task.support_x, task.query_x])[:, 0, 0, 0].long()
        labels = torch.cat([task.support_y, task.query_y])
        assert len(images.unique()) == 25, "an image occurs twice"
        classes = images // 8
        pairs = {(c.item(), y.item()) for c, y in zip(classes, labels, strict=True)}
        assert len(pairs) == 5, "a class must have one label, and a label one class"
        assert task.support_y.bincount().tolist() == [2] * 5
        assert task.query_y.bincount().tolist() == [3] * 5


@pytest.mark.parametrize("rotate", [False, True])
def test_episode_is_a_function_of_its_number_alone(rotate):
    s = sampler(rotate=rotate)
    whole = s.batch(0, 12)
    for pieces in ([(0, 12)], [(0, 5), (5, 7)], [(i, 1) for i in range(12)]):
        parts = [s.batch(*piece) for piece in reversed(pieces)][::-1]
        together = Episodes(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        assert equal(together, whole)
    assert equal(sampler(rotate=rotate).batch(0, 12), whole)


def test_changing_an_episode_changes_no_other():
    s = sampler()
    before = s.batch(0, 4)
    for tensor in s.batch(0, 4):
        tensor.zero_()
    assert equal(s.batch(0, 4), before)


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = sampler().batch(0, 3)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
    torch.manual_seed(1)
    assert equal(first, sampler().batch(0, 3))


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "test"}])
def test_seed_and_split_give_other_episodes(change):
    assert not equal(sampler().batch(0, 4), sampler(**change).batch(0, 4))


def test_values_stay_the_same_from_release_to_release():
    """Results name a seed, which must always mean the same episodes."""
    images, rotations, _ = sampler(rotate=True, n_way=3, k_shot=1, k_query=1).indices(7, 2)
    assert images.tolist() == GOLDEN_IMAGES
    assert rotations.tolist() == GOLDEN_ROTATIONS


GOLDEN_IMAGES = [[[90, 91], [14, 11], [9, 14]], [[47, 46], [80, 83], [84, 85]]]
GOLDEN_ROTATIONS = [[3, 3, 2], [3, 2, 3]]


def patterned(size=7, channels=1, **attributes) -> ImageClasses:
    """Ragged classes of images without symmetry, the same on every machine."""
    counts = 9 + np.arange(30) % 5
    starts = np.cumsum(counts) - counts
    pixels = np.arange(counts.sum() * channels * size**2, dtype=np.uint64)
    images = (pixels * np.uint64(2654435761) >> np.uint64(13)).astype(np.uint8)
    return ImageClasses(
        images.reshape(-1, channels, size, size),
        starts,
        counts,
        [f"class {i}" for i in range(30)],
        [f"group {i % 4}" for i in range(30)],
        **attributes,
    )


GOLDEN_SETTINGS = {
    "plain": {},
    "ink": {"dark_ink": True},
    "turned": {"dark_ink": True, "rotate": True},
    "unit, turned, colours": {"inputs": "unit", "rotate": True, "channels": 3, "size": 8},
    "raw, some classes": {"inputs": "raw", "classes": np.array([3, 20, 1, 17, 4, 29, 8])},
    "within a group": {"within_group": True, "rotate": True, "n_way": 7, "k_query": 2},
    "all labels": {"labels": "class", "rotate": True, "n_way": 12, "k_shot": 1, "k_query": 1},
    "another seed": {"seed": -5, "split": "test", "k_shot": 3, "k_query": 6},
}
GOLDEN_DIGESTS = {
    "plain": "a4d7d1b57c2311d7",
    "ink": "0d49efbeb852734c",
    "turned": "eac2fc18ffab7919",
    "unit, turned, colours": "e26fd3750e251afd",
    "raw, some classes": "1d8cc6910152aab6",
    "within a group": "9aee3c94af933c71",
    "all labels": "095d639c1bdb9708",
    "another seed": "8c75d009a57a8d78",
}


@pytest.mark.parametrize("name", GOLDEN_SETTINGS)
def test_every_bit_of_an_episode_stays_the_same(name):
    settings = {"k_shot": 2, "k_query": 4} | GOLDEN_SETTINGS[name]
    of_data = {k: settings.pop(k) for k in ("size", "channels", "dark_ink") if k in settings}
    s = EpisodeSampler(patterned(**of_data), **settings)
    digest = hashlib.sha256()
    for start, count in ((0, 8), (8, 8), (250, 20), (10**6, 1), (3, 2)):
        for tensor in s.batch(start, count):
            assert tensor.is_contiguous()
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == GOLDEN_DIGESTS[name]


def test_every_class_image_label_and_rotation_is_equally_likely():
    tasks = 20_000
    s = sampler(n_way=3, k_shot=1, k_query=1, rotate=True)
    images, rotations, _ = s.indices(0, tasks)

    def check(values, bins):
        counts = np.bincount(np.ravel(values), minlength=bins)
        expected = np.size(values) / bins
        # Chi-squared has mean bins - 1 and variance 2 (bins - 1): five sigmas.
        assert ((counts - expected) ** 2 / expected).sum() < bins + 5 * np.sqrt(2 * bins)

    for way in range(3):
        check(images[:, way, 0] // 8, 12)
        check(rotations[:, way], 4)
    for slot in range(2):
        check(images[:, :, slot] % 8, 8)
    # Pairs of classes: no order is preferred.
    virtual = images[:, :, 0] // 8 * 4 + rotations
    check((virtual[:, 0] > virtual[:, 1]).astype(int), 2)


def test_order_within_a_set_is_random():
    labels = sampler().batch(0, 2000).support_y
    share = (labels == torch.arange(5).repeat_interleave(2)).float().mean().item()
    assert share == pytest.approx(0.2, abs=0.02)


def test_ragged_classes_use_all_their_images():
    data = ragged()
    s = EpisodeSampler(data, n_way=2, k_shot=1, k_query=3, inputs="raw")
    images, _, _ = s.indices(0, 2000)
    assert np.array_equal(np.unique(images), np.arange(25))
    for c in range(4):
        inside = (images >= data.starts[c]) & (images < data.starts[c] + data.counts[c])
        assert (inside.all(-1) | ~inside.any(-1)).all()


def test_only_the_given_classes_are_drawn():
    s = sampler(classes=np.array([1, 3, 5, 7, 9]))
    images, _, _ = s.indices(0, 100)
    assert set(np.unique(images // 8)) == {1, 3, 5, 7, 9}


def test_rotation_turns_the_whole_class():
    image = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    data = ImageClasses.from_square(np.broadcast_to(image, (6, 4, 1, 2, 2)).copy())
    s = EpisodeSampler(data, n_way=5, k_shot=1, k_query=3, rotate=True, inputs="raw")
    episodes = s.batch(0, 50)
    _, rotations, _ = s.indices(0, 50)
    for i in range(50):
        task = episodes.task(i)
        for x, y in ((task.support_x, task.support_y), (task.query_x, task.query_y)):
            for picture, label in zip(x, y, strict=True):
                expected = np.rot90(image, rotations[i, label])
                assert np.array_equal(picture[0].numpy(), expected)
    assert np.array_equal(data.images[0, 0], image), "the data set itself must not be turned"


def test_inputs():
    data = ImageClasses.from_square(np.full((5, 2, 1, 2, 2), 51, np.uint8), dark_ink=True)
    light = ImageClasses.from_square(np.full((5, 2, 1, 2, 2), 51, np.uint8))

    def value(data, inputs):
        s = EpisodeSampler(data, k_query=1, inputs=inputs)
        return s.batch(0, 1).support_x.unique().item()

    assert value(data, "ink") == pytest.approx(0.8)
    assert value(light, "ink") == pytest.approx(0.2)
    assert value(data, "unit") == pytest.approx(0.2)
    assert value(data, "raw") == 51


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 13}, "13-way tasks need 13 classes.*has 12"),
        ({"k_shot": 6}, "need 9 images a class.*has 8"),
        ({"n_way": 1}, "n_way must be at least 2"),
        ({"k_shot": 0}, "k_shot must be at least 1"),
        ({"k_query": 0}, "k_query must be at least 1"),
        ({"inputs": "float"}, "inputs must be one of"),
    ],
)
def test_impossible_tasks_are_refused_with_the_reason(changes, message):
    with pytest.raises(UserError, match=message):
        sampler(**changes)


def test_only_the_choice_of_images_is_compiled_for_another_device(monkeypatch):
    """There PyTorch's operators make numbers of them; here the processor stands for the device."""
    if not kernels.ready():
        pytest.skip("there are no kernels for this processor")
    one = sampler(rotate=True, inputs="ink")
    expected = one.batch(3, 2)
    monkeypatch.setattr(one, "device", torch.device("meta"))
    monkeypatch.setattr(one._fetch, "send", lambda tensor: tensor)
    monkeypatch.setattr(one._source(5, 2).plan, "batch", None)
    assert equal(one.batch(3, 2), expected)


@pytest.mark.parametrize("changes", [{}, {"rotate": True, "inputs": "ink"}])
def test_without_kernels_episodes_are_the_same(changes):
    with kernels.without():
        found = sampler(**changes).batch(3, 2)
    assert equal(found, sampler(**changes).batch(3, 2))


def test_the_protocol_says_all_that_tasks_depend_on():
    expected = {
        "data": "images",
        "split": "",
        "part": "train",
        "classes": 12,
        "n_way": 5,
        "k_shot": 2,
        "k_query": 3,
        "rotated_classes": False,
        "within_group": False,
        "inputs": "raw",
        "seed": 0,
    }
    assert sampler().protocol() == expected
    uneven = {"imbalanced": False, "block": 4, "n_way": [3, 5]}
    assert sampler(n_way=(3, 5), block=4).protocol() == expected | uneven
    most = {"k_shot": [1, 3], "max_support": 8}
    assert (
        sampler(n_way=(3, 5), k_shot=(1, 3), block=4, max_support=8).protocol()
        == expected | uneven | most
    )


def test_classes_that_there_are_not_are_refused():
    """Compiled code would read outside the array."""
    with pytest.raises(UserError, match=r"no class 12: .* has the classes 0 to 11"):
        EpisodeSampler(numbered(), [0, 1, 2, 3, 12], k_query=3)
    last = EpisodeSampler(numbered(), [0, 1, 2, 3, -1], k_query=3)
    assert last.class_names[-1] == numbered().names[11]


@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, -1), (-1, 2)])
def test_a_batch_has_episodes(start, count):
    with pytest.raises(UserError, match=r"(start|count) must be at least"):
        sampler().batch(start, count)


def test_rotation_needs_square_images():
    data = ImageClasses.from_square(np.zeros((5, 2, 1, 2, 3), np.uint8))
    with pytest.raises(UserError, match="square"):
        EpisodeSampler(data, k_query=1, rotate=True)


def test_tasks_within_a_group_have_classes_of_one_group():
    data = numbered()
    groups = ["small"] * 2 + ["one"] * 5 + ["two"] * 5
    data = dataclasses.replace(data, groups=groups)
    settings = {"n_way": 4, "k_query": 1, "within_group": True}
    images, _, _ = EpisodeSampler(data, **settings).indices(0, 400)
    names = np.array(groups)[images[:, :, 0] // 8]
    assert (names == names[:, :1]).all()
    assert set(names[:, 0]) == {"one", "two"}
    assert 150 < (names[:, 0] == "one").sum() < 250
    with pytest.raises(UserError, match="largest group in the train part of images has 5"):
        EpisodeSampler(data, **settings | {"n_way": 6})


def test_rotations_count_as_classes():
    s = sampler(n_way=40, rotate=True)
    images, rotations, _ = s.indices(0, 20)
    virtual = images[:, :, 0] // 8 * 4 + rotations
    assert all(len(set(row)) == 40 for row in virtual)


def test_a_class_that_is_given_twice_is_refused():
    """A task could contain the class under two labels."""
    with pytest.raises(UserError, match="class 3 is 2 times"):
        EpisodeSampler(numbered(), np.array([1, 2, 3, 3, 4, 5]), n_way=3)


def test_episodes_say_their_ways_where_labels_are_those_of_a_task():
    sampler = EpisodeSampler(numbered(), n_way=3, k_query=2)
    assert sampler.batch(0, 2).n_way == 3
    assert sampler.batch(0, 2).task(1).n_way == 3
    by_class = EpisodeSampler(numbered(), n_way=3, k_query=2, labels="class")
    assert by_class.batch(0, 2).n_way is None


def test_tasks_within_a_group_need_groups():
    with pytest.raises(UserError, match="has no groups: leave it out"):
        sampler(within_group=True)
