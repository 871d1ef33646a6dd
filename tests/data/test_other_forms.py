"""Data sets of the field as people have them: recognised by their look."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from PIL import Image

from innerloop.data import folder, load
from innerloop.errors import UserError

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("given", ["the folder", "the folder above"])
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar-fs", "meta train test"),
        ("cifar-fs", "fine_label_names.txt coarse_label_names.txt train.bin test.bin"),
        ("cifar-fs", "cifar-100-python.tar.gz"),
        ("cifar-fs", "CIFAR_FS_train.pickle CIFAR_FS_val.pickle CIFAR_FS_test.pickle"),
        ("fc100", "FC100_train.pickle FC100_val.pickle FC100_test.pickle"),
        ("cub", "CUB_200_2011.tgz"),
        ("tiered-imagenet", "train_images_png.pkl train_labels.pkl class_names.txt"),
        ("tiered-imagenet", "train_images.npz train_labels.pkl"),
        ("mini-imagenet", "mini-imagenet-cache-train.pkl mini-imagenet-cache-val.pkl"),
        ("mini-imagenet", "miniImageNet_category_split_train_phase_train.pickle"),
        ("mini-imagenet", "mini_imagenet_train.npz"),
    ],
)
def test_archives_and_pickles_are_named_with_what_to_type(tmp_path, name, files, given):
    root = tmp_path / "my data" / "set"
    root.mkdir(parents=True)
    for file in files.split():
        (root / file).write_bytes(b"\x80\x04 whatever")
    path = root if given == "the folder" else root.parent
    for read in (folder, load):
        with pytest.raises(UserError, match="bring it into a form that is read") as caught:
            read(path)
        words = shlex.split(str(caught.value).partition(" with ")[2].partition(", or ")[0])
        assert words == ["innerloop", "data", "prepare", name, "--source", str(root)]


def test_a_file_of_several_names_its_folder(tmp_path):
    for file in ("mini-imagenet-cache-train.pkl", "cifar-100-python.tar.gz"):
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(UserError, match=f"mini-imagenet --source {tmp_path}$"):
        load(tmp_path / "mini-imagenet-cache-train.pkl")
    with pytest.raises(UserError, match=f"--source {tmp_path}/cifar-100-python.tar.gz"):
        load(tmp_path / "cifar-100-python.tar.gz")


def test_cub_is_read_as_a_folder_and_its_split_named(tmp_path):
    root = tmp_path / "CUB_200_2011"
    for number, name in enumerate(("001.Albatross", "002.Auklet", "003.Bunting")):
        (root / "images" / name).mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(root / "images" / name / "1.jpg")
    for file in ("images.txt", "classes.txt", "image_class_labels.txt"):
        (root / file).write_text("1 x\n")
    with pytest.warns(UserWarning, match=r"CUB-200-2011.*data prepare cub --source"):
        assert folder(root).num_classes == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my pictures.zip", r"is an archive.*unzip '.*my pictures\.zip'"),
        ("x.tar.gz", r"tar -xf .*x\.tar\.gz"),
        ("x.rar", r"is an archive.*unpack"),
        ("x.pkl", r"pickles could run code.*from_arrays"),
        ("x.h5", r"from_arrays"),
        ("labels.csv", r"is a table.*from_arrays.*from_dataset\(files, labels.*FILE\.py:FUNCTION"),
        ("cat.png", r"is one picture, not a folder"),
        ("notes.txt", r"not a folder of pictures and not a \.npy file"),
    ],
)
def test_other_files_get_a_way_out(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)


def test_pictures_beside_a_pickle_are_read(tmp_path):
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name / "1.png")
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(b"x")
    assert folder(tmp_path).num_classes == 2


@pytest.mark.parametrize("above", ["", "unpacked/", "a/b/"])
def test_a_split_may_lie_in_a_folder_of_its_own(tmp_path, above):
    for number, name in enumerate(("train/Greek/x", "train/Latin/x", "val/Runes/x", "test/Nko/x")):
        (tmp_path / above / name).mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(noise).save(tmp_path / above / name / "1.png")
    data = folder(tmp_path)
    assert list(data.names) == ["Greek/x", "Latin/x", "Nko/x", "Runes/x"]
    assert list(data.groups) == ["Greek", "Latin", "Nko", "Runes"]
    assert data.splits["folders"]["train"].tolist() == [0, 1]
