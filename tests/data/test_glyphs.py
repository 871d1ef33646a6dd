"""Invented characters: pure, endless, and as hard to tell apart as real ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from innerloop.data.glyphs import draw_glyph, glyphs, split_alphabets
from innerloop.errors import UserError
from tests.helpers import in_threads


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def drawn():
    return glyphs(100, 12, seed=1, cache=False)


def square(data):
    return data.images.reshape(data.num_classes, -1, *data.images.shape[-2:])


def test_shape_names_and_polarity(drawn):
    assert drawn.images.shape == (100 * 12, 1, 28, 28)
    assert drawn.images.dtype == np.uint8
    assert drawn.name == "glyphs"
    assert drawn.dark_ink
    assert drawn.names[0] == "alphabet000/character01"
    assert len(set(drawn.names)) == 100
    assert [name.partition("/")[0] for name in drawn.names] == list(drawn.groups)
    # The paper is white, so the median of every picture is white.
    assert (np.median(drawn.images, axis=(1, 2, 3)) > 250).all()


def test_ink_is_never_missing_and_never_too_much(drawn):
    ink = 1 - drawn.images.astype(float).mean(axis=(1, 2, 3)) / 255
    assert ink.min() > 0.004
    assert ink.max() < 0.35
    assert 0.05 < ink.mean() < 0.12
    assert drawn.images.min(axis=(1, 2, 3)).max() < 128


def test_the_same_glyphs_whatever_the_number_asked_for(drawn):
    few = square(glyphs(20, 3, seed=1, cache=False))
    assert np.array_equal(few, square(drawn)[:20, :3])
    one = square(glyphs(1, 1, seed=1, cache=False))
    assert np.array_equal(one, few[:1, :1])


def test_one_glyph_is_the_same_as_among_others(drawn):
    for index, drawing in ((93, 3), (0, 0), (77, 11)):
        group, _, character = drawn.names[index].partition("/")
        numbers = int(group.removeprefix("alphabet")), int(character.removeprefix("character")) - 1
        alone = draw_glyph(1, *numbers, drawing)
        assert np.array_equal(alone, square(drawn)[index, drawing])


def test_global_random_state_is_neither_read_nor_changed():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = glyphs(3, 2, cache=False).images
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert np.array_equal(first, glyphs(3, 2, cache=False).images)


def test_other_seeds_and_sizes():
    first, other = (glyphs(5, 2, seed=seed, cache=False).images for seed in (0, 1))
    assert not np.array_equal(first, other)
    large = glyphs(5, 2, size=56, cache=False).images
    assert large.shape == (10, 1, 56, 56)
    # The same drawings, with more pixels.
    halved = large.reshape(10, 28, 2, 28, 2).mean(axis=(2, 4))
    assert np.abs(halved - first[:, 0]).mean() < 6


def test_drawings_and_characters_differ(drawn):
    flat = square(drawn).reshape(len(drawn.images), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_drawings_of_a_class_are_alike_but_not_the_same(drawn):
    ink = 1 - square(drawn) / 255.0
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(300):
        classes = rng.choice(len(ink), 5, replace=False)
        a, b = rng.choice(ink.shape[1], 2, replace=False)
        apart = ((ink[classes, a][:, None] - ink[classes, b][None]) ** 2).sum(axis=(2, 3))
        hits.append((apart.argmin(axis=1) == np.arange(5)).mean())
    # Chance is 0.2; raw pixels of Omniglot give 0.45.
    assert 0.35 < np.mean(hits) < 0.65


def test_alphabets_have_as_many_characters_as_real_ones():
    data = glyphs(60, 1, seed=3, cache=False)
    assert len(set(data.groups)) >= 2
    counts = [data.groups.count(group) for group in list(dict.fromkeys(data.groups))[:-1]]
    assert all(14 <= count <= 55 for count in counts)


def test_split_by_alphabets():
    data = glyphs(200, 1, cache=False)
    parts = data.splits["glyphs"]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(200))
    groups = {name: {data.groups[c] for c in part} for name, part in parts.items()}
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["test"]
    assert not groups["val"] & groups["test"]
    assert 20 <= len(parts["test"]) <= 60


def test_split_sizes_for_the_usual_number():
    rng = np.random.default_rng(0)
    sizes = rng.integers(14, 56, size=200)
    groups = [f"a{i}" for i, size in enumerate(sizes) for _ in range(size)][:1500]
    parts = {name: len(part) for name, part in split_alphabets(groups).items()}
    assert 70 <= parts["val"] <= 130
    assert 270 <= parts["test"] <= 330


@pytest.mark.parametrize("groups", ["abc", "aab", "aaabbbb", "aaa", "abbbbbbbc", "aaaaaabc"])
def test_no_part_of_a_small_split_is_empty(groups):
    parts = split_alphabets(list(groups))
    assert all(len(part) for part in parts.values())
    assert sum(map(len, parts.values())) == len(groups)


def test_of_several_at_once_one_draws_and_the_others_wait(monkeypatch):
    module, drawn = sys.modules["innerloop.data.glyphs"], []
    draw = module._draw_all
    monkeypatch.setattr(module, "_draw_all", lambda *given: drawn.append(1) or draw(*given))
    first, *others = in_threads(lambda _: glyphs(30, 4).images)
    assert len(drawn) == 1
    assert all(np.array_equal(first, other) for other in others)


def test_cache_is_used_and_mapped(tmp_path, monkeypatch):
    first = glyphs(4, 2)
    files = list((tmp_path / "glyphs").glob("*.npy"))
    assert len(files) == 1
    monkeypatch.setattr(sys.modules["innerloop.data.glyphs"], "_draw_all", None)
    again = glyphs(4, 2)
    assert np.array_equal(first.images, again.images)
    assert isinstance(again.images.base, np.memmap) or isinstance(again.images, np.memmap)


def test_cache_keys_hold_all_arguments(tmp_path):
    for arguments in ({}, {"seed": 1}, {"size": 20}, {"per_class": 3}, {"classes": 5}):
        glyphs(**{"classes": 4, "per_class": 2, **arguments})
    assert len(list((tmp_path / "glyphs").glob("*.npy"))) == 5


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_cache_is_drawn_anew(tmp_path, damage):
    first = np.array(glyphs(4, 2).images)
    (path,) = (tmp_path / "glyphs").glob("*.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if damage is None else damage)
    assert np.array_equal(glyphs(4, 2).images, first)
    assert path.read_bytes() == whole


def test_cache_of_another_shape_is_drawn_anew(tmp_path):
    first = np.array(glyphs(4, 2).images)
    (path,) = (tmp_path / "glyphs").glob("*.npy")
    np.save(path, np.zeros((1, 2), dtype=np.uint8))
    assert np.array_equal(glyphs(4, 2).images, first)


def test_no_cache_writes_nothing(tmp_path):
    glyphs(2, 1, cache=False)
    assert not (tmp_path / "glyphs").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"classes": 0},
        {"classes": -3},
        {"classes": 2.5},
        {"classes": True},
        {"per_class": 0},
        {"seed": -1},
        {"seed": "x"},
        {"size": 4},
        {"size": 1000},
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        glyphs(**bad)
