"""Data sets from those of PyTorch, torchvision and Hugging Face, here by stand-ins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from innerloop import EpisodeSampler, UserError
from innerloop.data import ImageClasses, from_arrays, from_dataset

X = torch.arange(60.0)[:, None].expand(60, 4).contiguous()
Y = torch.arange(60) % 6
PICTURES = np.random.default_rng(0).integers(0, 256, (60, 9, 9, 3), dtype=np.uint8)


class Folder(Dataset):
    """As torchvision's ImageFolder: pictures, `targets`, `classes`."""

    classes = tuple("abcdef")
    transform = None

    def __init__(self) -> None:
        self.targets = Y.tolist()
        self.read = 0

    def __len__(self):
        return 60

    def __getitem__(self, i):
        self.read += 1
        return Image.fromarray(PICTURES[i]), self.targets[i]


class Label:
    names = tuple("abcdef")


class HuggingFace:
    """As a Hugging Face data set: rows are dicts, columns lists."""

    def __init__(self):
        self.features = {"image": object(), "label": Label()}

    def __len__(self):
        return 60

    def __getitem__(self, key):
        if isinstance(key, str):
            return Y.tolist()
        return {"image": Image.fromarray(PICTURES[key]), "label": int(Y[key])}


class Rows(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def same(one, other) -> bool:
    batches = (EpisodeSampler(d, n_way=5, k_query=3, seed=3).batch(2, 3) for d in (one, other))
    return all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def test_pictures_whose_classes_a_table_names(tmp_path):
    """The way out of the error for a folder of pictures beside a table."""
    files = [str(tmp_path / f"{i}.png") for i in range(12)]
    for i, file in enumerate(files):
        Image.fromarray(PICTURES[i]).resize((9 + i, 9)).save(file)
    labels = ["cat", "dog", "owl"] * 4
    data = from_dataset(tuple(files), labels, transform=Image.open, image_size=9)
    assert isinstance(data, ImageClasses)
    assert data.names == ["cat", "dog", "owl"]
    np.testing.assert_array_equal(data.class_images(0)[0], PICTURES[0].transpose(2, 0, 1))


def test_labels_in_arrays_of_one_number():
    """As MedMNIST has them."""
    columns = [Y[:, None], np.asarray(Y)[:, None]]
    for labels in columns:
        dataset = Rows(*zip(X, labels, strict=True))
        assert same(from_dataset(dataset), from_arrays(X, Y))
        assert same(from_arrays(X, labels), from_arrays(X, Y))


def test_tensors_with_labels():
    expected = from_arrays(X, Y)
    halves = ConcatDataset([TensorDataset(X[:25], Y[:25]), TensorDataset(X[25:], Y[25:])])
    for dataset in (TensorDataset(X, Y), halves, Rows(*zip(X, Y, strict=True))):
        assert same(from_dataset(dataset), expected)
        assert same(from_dataset(dataset, in_memory=False), expected)
    assert same(from_dataset(Rows(*X), labels=Y), expected)
    assert same(from_dataset(Rows(*X), labels=Y, transform=lambda x: x + 0), expected)


@pytest.mark.parametrize("dataset", [Folder(), HuggingFace()])
def test_pictures_are_images(dataset):
    expected = from_arrays(PICTURES, Y)
    data = from_dataset(dataset)
    assert isinstance(data, ImageClasses)
    assert list(data.names) == list("abcdef")
    assert same(data, expected)
    lazy = from_dataset(dataset, in_memory=False)
    assert same(lazy, expected)
    assert lazy.example_shape == (3, 9, 9)
    assert from_dataset(dataset, image_size=5).example_shape == (3, 5, 5)


def test_labels_beside_the_items_are_read_without_the_items():
    dataset = Folder()
    from_dataset(dataset, in_memory=False)
    assert dataset.read < 60


def test_a_transform_of_labels_counts():
    class Other(Folder):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x, y // 2

    assert from_dataset(Other()).num_classes == 3


def test_part_of_a_data_set():
    keep = [i for i in range(60) if Y[i] in (1, 3, 4)]
    data = from_dataset(Subset(Folder(), keep))
    assert list(data.names) == ["b", "d", "e"]
    assert np.array_equal(np.sort(data.counts), [10, 10, 10])


class Random(Rows):
    def __getitem__(self, i):
        return torch.rand(4), i % 2


class Stream(IterableDataset):
    def __iter__(self):
        yield 0, 1


class Broken(Rows):
    def __getitem__(self, i):
        if i == 7:
            raise OSError("truncated")
        return torch.zeros(4), i % 2


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (Random(*range(20)), {}, "augment="),
        (Stream(), {}, "map-style"),
        ({"train": HuggingFace()}, {}, "several data sets by name"),
        (Rows(), {}, "empty"),
        (Broken(*range(20)), {}, r"dataset\[7\] fails: OSError: truncated"),
        (Rows(*X), {}, "no label beside its input|not one class"),
        (Rows(*X), {"labels": Y[:-1]}, "59 labels for 60"),
        (Rows((X[0], 0), (X[0, :2], 1)), {}, r"dataset\[1\] has shape \(2,\)"),
        (Rows((torch.tensor([1.0, float("nan")]), 0), (torch.zeros(2), 1)), {}, "NaN"),
        (Rows(*({"a": X[0], "b": X[0], "label": i} for i in range(4))), {}, "inputs="),
        (Rows(*({"a": X[0], "z": i} for i in range(4))), {"inputs": "a"}, "labels="),
        (TensorDataset(X, Y), {"inputs": "a"}, "no keys"),
        (TensorDataset(X, Y), {"image_size": 5}, "PIL pictures"),
        (Rows(("text", 0), ("more", 1)), {}, "not str"),
        (Folder(), {"transform": lambda x: x.nothing}, "transform fails"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(dataset, settings, message):
    with pytest.raises(UserError, match=message):
        from_dataset(dataset, **settings)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("grey", [True, False])
def test_bytes_are_pictures_in_any_layout_as_in_arrays(grey, in_memory):
    """OpenCV and others give [H, W, 3], and MNIST's tensors are [H, W]."""
    bytes_ = PICTURES[..., 0] if grey else PICTURES
    data = from_dataset(list(zip(bytes_, Y, strict=True)), in_memory=in_memory)
    expected = from_arrays(bytes_, Y)
    assert data.pixels
    assert data.example_shape == expected.example_shape
    for c in range(data.num_classes):
        np.testing.assert_array_equal(data.class_examples(c), expected.class_examples(c))


def test_bytes_that_could_have_their_channels_first_or_last_are_refused():
    items = [(x[:3], y) for x, y in zip(PICTURES, Y, strict=True)]
    with pytest.raises(UserError, match=r"shape \[3, 9, 3\], .* transform=PIL.Image.fromarray"):
        from_dataset(items)
    data = from_dataset(items, transform=Image.fromarray)
    assert data.example_shape == (3, 3, 9)


class Noisy(Folder):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x, (y + 1) % 6 if i == 5 else y


def test_labels_of_single_items_count_where_all_are_read():
    """Eight items are compared with `targets`; noise in a few labels lies between them."""
    data = from_dataset(Noisy())
    expected = np.where(np.arange(60) == 5, (Y.numpy() + 1) % 6, Y.numpy())
    assert data.counts.tolist() == np.bincount(expected).tolist()


def test_no_example_is_of_another_class_than_its_own_label_says():
    data = from_dataset(Noisy(), in_memory=False)
    with pytest.raises(UserError, match=r"dataset\[5\] has the label 0, where .* says 5 .*labels="):
        data.examples.read(np.arange(60))
    given = from_dataset(Noisy(), labels=Y, in_memory=False)
    assert len(given.examples.read(np.arange(60))) == 60


@pytest.mark.parametrize("kind", [dict, set])
def test_labels_groups_and_names_without_an_order_are_refused(kind):
    given = dict.fromkeys(range(60), "a") if kind is dict else set(range(60))
    x = np.zeros((60, 3))
    for call in (
        lambda: from_arrays(x, given),
        lambda: from_arrays(x, Y, groups=given),
        lambda: from_dataset(list(x), given),
    ):
        with pytest.raises(UserError, match=rf"not {kind.__name__}: give a list"):
            call()
    with pytest.raises(UserError, match="names is a set"):
        from_arrays(x, Y, names=set("abcdef"))
