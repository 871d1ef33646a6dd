"""Augmentations: what each does, and that they are functions of (seed, split, episode)."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from innerloop import EpisodeSampler, UserError
from innerloop.data import augment, from_arrays, random_images

ALL = [
    augment.RandomCrop(2),
    augment.RandomHorizontalFlip(),
    augment.ColorJitter(),
    augment.RandomErasing(),
    augment.RandomAffine(shear=5.0),
    augment.RandomWarp(),
    augment.Compose(augment.RandomCrop(3), augment.RandomHorizontalFlip()),
]
# Those of whole tasks, and for colour alone.
OF_COLOUR = [
    augment.RandomChannelPermutation(),
    augment.Compose(augment.RandomHorizontalFlip(), augment.RandomChannelPermutation(1.0)),
]


def images(channels=3, height=8, width=12, count=200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=generator)


def colourful():
    """20 classes of 8 colour pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 6, 6, 3), np.uint8)
    return from_arrays(pixels, np.repeat(np.arange(20), 8))


def noise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x + torch.randn(x.shape, generator=generator, device=x.device)


@pytest.mark.parametrize(
    "change", [*ALL, *OF_COLOUR, noise], ids=[*map(str, [*ALL, *OF_COLOUR]), "own"]
)
def test_episodes_depend_on_seed_split_and_number_alone(change):
    def sampler(**settings):
        return EpisodeSampler(colourful(), k_query=2, augment=change, **settings)

    whole = sampler().batch(3, 5)
    pieces = [sampler().batch(3, 2), sampler().batch(5, 3)]
    for a, *parts in zip(whole, *pieces, strict=True):
        assert torch.equal(a, torch.cat(parts))
    plain = EpisodeSampler(colourful(), k_query=2).batch(3, 5)
    assert torch.equal(plain.query_y, whole.query_y)
    assert not torch.equal(plain.support_x, whole.support_x)
    assert not torch.equal(plain.query_x, whole.query_x)
    assert not torch.equal(sampler(seed=1).batch(3, 5).query_x, whole.query_x)


@pytest.mark.parametrize("change", ALL, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_stay_and_nothing_is_written_to(change, channels):
    x = images(channels)
    before = x.clone()
    found = change(x, torch.Generator().manual_seed(1))
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.isfinite().all()
    assert torch.equal(x, before)
    assert not torch.equal(found, x)


@pytest.mark.parametrize("change", [*ALL, augment.RandomCrop(3, fill=None)], ids=str)
def test_each_image_is_changed_by_itself(change):
    # Large enough that sums over an image are split between vectors.
    x = images(count=9, height=45, width=67)
    u = torch.rand(len(x), change.numbers, generator=torch.Generator().manual_seed(3))
    whole = change.apply(x, u)
    for i in range(len(x)):
        assert torch.equal(change.apply(x[i : i + 1], u[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("change", ALL, ids=str)
def test_how_many_are_changed_at_a_time_does_not_matter(change, monkeypatch):
    tasks = EpisodeSampler(random_images(20, 8, 6), k_query=2, augment=change)
    whole = tasks.batch(0, 4)
    monkeypatch.setattr("innerloop.tasks.augmenting._CACHED", 7 * whole.support_x[0, 0].numel())
    for a, b in zip(whole, tasks.batch(0, 4), strict=True):
        assert torch.equal(a, b)


class Shrinking(augment.Augmentation):
    """Returns images of one row, which broadcasting would accept."""

    numbers = 1

    def apply(self, images, u):
        return images[:, :, :1]


def test_a_crop_is_a_shift_with_padding():
    x, change = images(count=30), augment.RandomCrop(2, fill=0.5)
    u = torch.rand(30, 2, generator=torch.Generator().manual_seed(1))
    found = change.apply(x, u)
    padded = torch.nn.functional.pad(x, [2] * 4, value=0.5)
    for i, (top, left) in enumerate((u * 5).long().tolist()):
        assert torch.equal(found[i], padded[i, :, top : top + 8, left : left + 12])


def test_flips_are_half_of_them():
    x = images()
    found = augment.RandomHorizontalFlip()(x, torch.Generator().manual_seed(0))
    flipped = (found == x.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(found[~flipped], x[~flipped])
    assert 70 < flipped.sum() < 130


def colours_of_one_task(change, seed):
    """How an augmentation orders the colours of each image of a task, and the images after it."""
    x = images(count=12)
    y = change(x, torch.Generator().manual_seed(seed))
    sums = x.sum((-2, -1)), y.sum((-2, -1))
    orders = (sums[1][:, :, None] - sums[0][:, None, :]).abs().argmin(-1)
    return orders, x, y


@pytest.mark.parametrize("change", OF_COLOUR, ids=str)
def test_all_images_of_a_task_get_the_same_colours(change):
    found = set()
    for seed in range(60):
        orders, x, y = colours_of_one_task(change, seed)
        assert (orders == orders[0]).all()
        found.add(tuple(orders[0].tolist()))
        moved = x[:, orders[0]]
        flipped = (moved.flip(-1) == y).flatten(1).all(1)
        assert ((moved == y).flatten(1).all(1) | flipped).all()
        # What is of each image by itself stays so beside what is of a task.
        assert isinstance(change, augment.Compose) == (0 < int(flipped.sum()) < len(x))
    first, second = sorted(found)[0], len(found)
    assert (first == (0, 1, 2), second) == (change == OF_COLOUR[0], 5 + (change == OF_COLOUR[0]))


def test_each_task_of_a_batch_gets_its_own_colours():
    data = colourful()
    settings = {"k_query": 2, "inputs": "raw"}
    plain = EpisodeSampler(data, **settings).batch(0, 40)
    change = augment.RandomChannelPermutation(0.5)
    other = EpisodeSampler(data, augment=change, **settings).batch(0, 40)
    kept = 0
    for task in range(40):
        before = torch.cat([plain.support_x[task], plain.query_x[task]])
        after = torch.cat([other.support_x[task], other.query_x[task]])
        orders = [p for p in itertools.permutations(range(3)) if after.equal(before[:, list(p)])]
        assert len(orders) == 1
        kept += orders[0] == (0, 1, 2)
    assert 10 < kept < 30


def test_colours_of_grey_pictures_cannot_be_swapped():
    with pytest.raises(UserError, match=r"for colour pictures \[M, 3, H, W\], not .* \[1, 8, 12\]"):
        augment.RandomChannelPermutation()(images(1), torch.Generator())
    with pytest.raises(UserError, match="augment channels: it is for colour pictures"):
        augment.named("flip,channels", (1, 28, 28))
    assert augment.named("channels=0.3", (3, 28, 28)).parts == (
        augment.RandomChannelPermutation(0.3),
    )


def test_erased_rectangles_have_the_area_asked_for():
    x = images(height=32, width=32) + 1
    change = augment.RandomErasing(p=1.0, scale=(0.1, 0.2), ratio=(0.5, 2.0))
    erased = change(x, torch.Generator().manual_seed(0)) == 0
    share = erased[:, 0].float().mean(dim=(-2, -1))
    assert share.min() > 0.08
    assert share.max() < 0.22
    for mask in erased[:, 0]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert mask.sum() == rows.sum() * columns.sum(), "it is one full rectangle"


def test_an_affine_map_is_what_it_says():
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 7] = 1
    half = torch.full((1, 5), 0.5)
    none = augment.RandomAffine(degrees=0, translate=(0, 0), scale=(1, 1))
    torch.testing.assert_close(none.apply(x, half), x)
    turn = augment.RandomAffine(degrees=90, translate=(0, 0), scale=(1, 1))
    quarter = half.clone()
    quarter[0, 0] = 1.0
    assert turn.apply(x, quarter).argmax() == 7 * 9 + 4
    shift = half.clone()
    shift[0, 3] = 1.0
    moved = augment.RandomAffine(degrees=0, translate=(1 / 9, 0), scale=(1, 1)).apply(x, shift)
    torch.testing.assert_close(moved, x.roll(1, dims=-1))
    larger = augment.RandomAffine(degrees=0, translate=(0, 0), scale=(2, 2)).apply(
        torch.ones(1, 1, 8, 12), half
    )
    torch.testing.assert_close(larger, torch.ones_like(larger))
    # Images that are not square are rotated without distortion.
    wide = torch.zeros(1, 1, 9, 21)
    wide[..., 4, 13] = 1
    assert turn.apply(wide, quarter).argmax() == 7 * 21 + 10


def test_jitter_stays_between_black_and_white():
    found = augment.ColorJitter(0.9, 0.9, 0.9)(images(), torch.Generator().manual_seed(0))
    assert found.min() >= 0
    assert found.max() <= 1
    same = augment.ColorJitter(0, 0, 0)(images(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, images())


def test_warp_changes_some_drawings_a_little():
    drawing = torch.zeros(40, 1, 28, 28)
    drawing[:, :, 8:20, 13:15] = 0.9
    generator = torch.Generator().manual_seed(0)
    changed = augment.RandomWarp(0.5)(drawing, generator)
    same = (changed == drawing).all(dim=(1, 2, 3))
    assert 10 < int(same.sum()) < 30, "about half"
    assert changed.min() >= 0
    assert changed.max() <= 0.9
    # Ink neither comes nor goes, but for what the stroke is stretched by, along and across.
    ink = changed.sum(dim=(1, 2, 3)) / drawing.sum(dim=(1, 2, 3))
    assert ink.min() > 0.5
    assert ink.max() < 2
    # All are different, and the middle of none moves by more than a fifth of the width.
    different = changed[~same]
    assert len(torch.unique(different.flatten(1), dim=0)) == len(different)
    columns = torch.arange(28.0)
    middle = (different.sum(dim=(1, 2)) * columns).sum(dim=1) / different.sum(dim=(1, 2, 3))
    assert (middle - 13.5).abs().max() < 5.6
    still = augment.RandomWarp(1.0, strength=0.0)(drawing, generator)
    torch.testing.assert_close(still, drawing, atol=1e-4, rtol=0)
    assert augment.named("warp=0.5,flip", (1, 28, 28)).parts[0] == augment.RandomWarp(0.5)
    assert augment.named("warp", (1, 28, 28)).parts == (augment.RandomWarp(),)


def test_results_name_the_augmentation():
    data = random_images(20, 8, 6)
    named = EpisodeSampler(data, k_query=2, augment=augment.RandomCrop(2)).protocol()["augment"]
    assert named == "RandomCrop(padding=2, fill=0.0)"
    assert EpisodeSampler(data, k_query=2, augment=noise).protocol()["augment"].endswith(".noise")
    assert "augment" not in EpisodeSampler(data, k_query=2).protocol()


def test_a_function_changes_any_examples():
    data = from_arrays(np.arange(40.0)[:, None] * np.ones((1, 3)), np.arange(40) % 8)
    plain = EpisodeSampler(data, k_query=2).batch(0, 2)
    minus = EpisodeSampler(data, k_query=2, augment=lambda x, generator: -x).batch(0, 2)
    assert torch.equal(plain.support_x, -minus.support_x)
    with pytest.raises(UserError, match="for images"):
        EpisodeSampler(data, k_query=2, augment=augment.RandomCrop(1)).batch(0, 2)
    with pytest.raises(UserError, match="same shape and dtype"):
        EpisodeSampler(data, k_query=2, augment=lambda x, generator: x[:, :1]).batch(0, 2)
    with pytest.raises(UserError, match="same shape and dtype"):
        EpisodeSampler(random_images(20, 8, 6), k_query=2, augment=Shrinking()).batch(0, 2)


class OfTasks(augment.Augmentation):
    """One of a user's own, which writes to what it is given."""

    by_task = True
    numbers = 2

    def __init__(self, strength=0.5):
        self.strength = strength

    def apply(self, images, u):
        u *= 2
        images += self.strength * u[:, :1, None, None]
        return images


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: augment.Compose(a, a)])
def test_numbers_of_a_task_are_those_of_all_its_images(wrap, monkeypatch):
    """However many tasks and images are changed at a time, and whatever is written to."""
    settings = {"k_query": 2, "inputs": "raw"}
    plain = EpisodeSampler(colourful(), **settings).batch(0, 4)
    tasks = EpisodeSampler(colourful(), augment=wrap(OfTasks()), **settings)
    together = tasks.batch(0, 4)
    added = torch.cat([together[0] - plain[0], together[2] - plain[2]], dim=1).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-3, rtol=0)
    assert len(added[:, 0].unique()) == 4
    monkeypatch.setattr("innerloop.tasks.augmenting._CACHED", 1)
    for i in range(4):
        for whole, single in zip(together, tasks.batch(i, 1), strict=True):
            assert torch.equal(whole[i : i + 1], single)


def test_an_augmentation_of_ones_own_is_described_alike_in_every_process():
    """A run that goes on compares it."""
    mine = augment.Compose(OfTasks(0.25), augment.RandomChannelPermutation(np.float64(0.5)))
    described = EpisodeSampler(colourful(), k_query=2, augment=mine).protocol()["augment"]
    assert described == ("Compose(parts=(OfTasks(strength=0.25), RandomChannelPermutation(p=0.5)))")
    assert repr(OfTasks(0.25)) != repr(OfTasks(0.5))
    kept = OfTasks()
    kept.other = object()  # has no text that is the same elsewhere
    assert repr(kept) == repr(OfTasks())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("channels", "'channels': innerloop.data.augment.named"),
        ([augment.RandomCrop()], "a list: .*Compose"),
        (augment.RandomCrop, r"the class RandomCrop: make one of it, RandomCrop\(\)"),
        (3, "not int"),
    ],
)
def test_what_is_no_augmentation_is_refused_at_once(wrong, message):
    with pytest.raises(UserError, match=f"augment must be one of .*{message}"):
        EpisodeSampler(random_images(20, 8, 6), k_query=2, augment=wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.RandomCrop(0), "padding must be at least 1"),
        (lambda: augment.RandomHorizontalFlip(2), "between 0 and 1"),
        (lambda: augment.ColorJitter(-1), "must not be negative"),
        (lambda: augment.RandomErasing(scale=(0.5, 0.1)), "smaller to a greater"),
        (lambda: augment.RandomAffine(scale=(0, 1)), "above 0"),
        (lambda: augment.RandomChannelPermutation(-0.1), "p must be between 0 and 1"),
        (lambda: augment.RandomWarp(1.5), "probability must be 0 to 1"),
        (lambda: augment.RandomWarp(strength=4), "strength must be 0 to 3"),
        (lambda: augment.Compose(noise), "in a function of"),
        (
            lambda: augment.Compose(augment.Conditions()),
            r"Conditions\(.* is none: call it and these",
        ),
        (lambda: augment.Compose(), "at least one augmentation"),
        (lambda: augment.named("channels=2", (3, 8, 8)), "augment channels=2: .* between 0 and 1"),
        (lambda: augment.named("flip,crop=1.5", (3, 8, 8)), "augment crop=1.5: .* whole number"),
        (lambda: augment.RandomErasing(scale=0.3), "RandomErasing: scale must be a pair"),
        (lambda: augment.RandomCrop(2.5), "padding must be a whole number, not 2.5"),
        (lambda: augment.RandomHorizontalFlip(None), "p must be a number, not None"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


FIELDS = [
    (kind, field.name)
    for kind in vars(augment).values()
    if isinstance(kind, type) and kind is not augment.Compose and dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind)
]


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("value", ["x", float("nan"), [1], (0.1, "y"), True, object()])
def test_every_setting_of_every_kind_is_checked(kind, name, value):
    with pytest.raises(UserError, match=f"{kind.__name__}: {name} must be"):
        kind(**{name: value})


class Odd(augment.Augmentation):
    """One of a user's own that says and gives something else than it should."""

    def __init__(self, numbers=1, given=None):
        self.count_of, self.given = numbers, given

    @property
    def numbers(self):
        return self.count_of

    def apply(self, images, u):
        return self.given


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: augment.Compose(a, OfTasks())])
def test_what_an_augmentation_of_ones_own_does_wrong_is_named(wrap):
    for numbers in ("two", None, 1.5, -1, True, torch.ones(1)):
        with pytest.raises(UserError, match=r"Odd\.numbers must be a whole number of at least 0"):
            EpisodeSampler(colourful(), k_query=2, augment=wrap(Odd(numbers))).batch(0, 2)
        with pytest.raises(UserError, match=r"Odd\.numbers must be a whole number of at least 0"):
            wrap(Odd(numbers))(torch.zeros(2, 3, 8, 8), torch.Generator())
    for given in (None, [1], torch.zeros(1, 3, 8, 8, dtype=torch.float64)):
        with pytest.raises(UserError, match=r"Odd.*must give examples of the same shape and dtype"):
            EpisodeSampler(colourful(), k_query=2, augment=wrap(Odd(1, given))).batch(0, 2)
