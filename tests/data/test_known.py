"""Data sets of the papers, from made archives of the form of the real ones."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from innerloop import UserError
from innerloop.cli import main
from innerloop.data import folder, known, split_classes
from innerloop.data.known import facts, sources

FINE = sorted(facts.parts_of("cifar-fs"))
COARSE = sorted(facts.parts_of("fc100"))
# Five classes a superclass, as in CIFAR-100; it does not matter which.
SUPER = {fine: i // 5 for i, fine in enumerate(FINE)}
GENERATOR = np.random.default_rng(0)


def halves():
    found = {}
    for half, each in (("train", 2), ("test", 1)):
        fine = np.repeat(np.arange(100), each)
        pixels = GENERATOR.integers(0, 255, (len(fine), 3072), dtype=np.uint8)
        found[half] = (pixels, fine.tolist(), [SUPER[FINE[i]] for i in fine])
    return found


class Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 did, as in CIFAR-100's own archive."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        value = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    dispatch[bytes] = dispatch[str] = save_text


def python2(value):
    file = io.BytesIO()
    Python2(file, 2).dump(value)
    return file.getvalue()


def cifar_files(form, dumps=python2):
    files = {}
    for half, (pixels, fine, coarse) in halves().items():
        if form == "python":
            content = {b"data": pixels, b"fine_labels": fine, b"coarse_labels": coarse}
            files[half] = dumps(content)
        else:
            labels = np.stack([coarse, fine], axis=1).astype(np.uint8)
            files[f"{half}.bin"] = np.concatenate([labels, pixels], axis=1).tobytes()
    if form == "python":
        meta = {b"fine_label_names": FINE, b"coarse_label_names": COARSE}
        files["meta"] = dumps(meta)
    else:
        files["fine_label_names.txt"] = "\n".join(FINE).encode()
        files["coarse_label_names.txt"] = "\n".join(COARSE).encode() + b"\n"
    return {f"cifar-100-{form}/{name}": content for name, content in files.items()}


def tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def picture(ending="PNG", size=(20, 16)):
    file = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 255, (*size, 3), dtype=np.uint8)).save(file, ending)
    return file.getvalue()


def ignore(message):
    pass


def parts(out):
    data = folder(out)
    assert list(data.splits) == ["folders"]
    return data, {part: len(c) for part, c in split_classes(data).items()}


@pytest.mark.parametrize("name", facts.COUNTS)
def test_the_lists_have_as_many_classes_as_the_papers_say(name):
    if name == "cub":
        found = [facts.cub_part(i) for i in range(200)]
    else:
        found = list(facts.parts_of(name).values())
    each = 5 if name == "fc100" else 1
    counts = tuple(each * found.count(part) for part in ("train", "val", "test"))
    assert counts == facts.COUNTS[name]


@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar-fs", "fc100"])
def test_cifar_from_either_archive(tmp_path, form, name):
    archive = tar(tmp_path / f"cifar-100-{form}.tar.gz", cifar_files(form))
    messages = []
    found = known.prepare(name, archive, tmp_path / "out", warn=messages.append)
    assert "official checksum" in messages[0]
    assert found.images == 300
    data, counts = parts(tmp_path / "out")
    assert tuple(counts.values()) == facts.COUNTS[name]
    assert set(data.counts) == {3}
    assert data.image_shape == (3, 32, 32)
    assert len(set(data.groups)) == 20
    with pytest.raises(UserError, match="is there already"):
        known.prepare(name, archive, tmp_path / "out", warn=ignore)


@pytest.mark.parametrize(("name", "stem"), [("cifar-fs", "CIFAR_FS"), ("fc100", "FC100")])
def test_cifar_in_pickles_a_part(tmp_path, name, stem):
    source = tmp_path / "source"
    source.mkdir()
    for part, count in zip(("train", "val", "test"), facts.COUNTS[name], strict=True):
        names = [f"{part}_{i}" for i in range(count)]
        images = GENERATOR.integers(0, 255, (2 * count, 32, 32, 3), dtype=np.uint8)
        content = {"data": images, "labels": np.repeat(np.arange(count), 2).tolist()}
        content["catname2label"] = {c: i for i, c in enumerate(names)}
        (source / f"{stem}_{part}.pickle").write_bytes(pickle.dumps(content))
    known.prepare(name, source, tmp_path / "out", warn=ignore)
    data, counts = parts(tmp_path / "out")
    assert tuple(counts.values()) == facts.COUNTS[name]
    assert set(data.counts) == {2}


def test_pixels_are_those_of_the_archive(tmp_path):
    files = cifar_files("python", pickle.dumps)
    write(tmp_path, files)
    known.prepare("cifar-fs", tmp_path, tmp_path / "out", warn=ignore)
    pixels = pickle.loads(files["cifar-100-python/train"])[b"data"][0].reshape(3, 32, 32)
    (file,) = (tmp_path / "out").rglob("train-00000.png")
    assert file.parent.name == FINE[0]
    assert (np.asarray(Image.open(file)).transpose(2, 0, 1) == pixels).all()


SYNSETS = facts.parts_of("mini-imagenet")


def test_mini_imagenet_from_folders_and_from_flat_names(tmp_path):
    flat = {f"images/{c}{i:08d}.jpg": picture("JPEG") for c in SYNSETS for i in (1, 2)}
    flat["train.csv"] = b"filename,label\n"
    nested = {f"data/{c}/{i}.JPEG".lower(): picture("JPEG") for c in SYNSETS for i in (1, 2)}
    nested["data/n99999999/1.jpeg"] = picture("JPEG")
    archive = tmp_path / "mini.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in nested.items():
            file.writestr(name, content)
    messages = []
    known.prepare("mini-imagenet", write(tmp_path / "flat", flat), tmp_path / "a", warn=ignore)
    known.prepare("mini-imagenet", archive, tmp_path / "b", warn=messages.append)
    assert "1 folders that are not classes" in messages[0]
    for out in ("a", "b"):
        data, counts = parts(tmp_path / out)
        assert tuple(counts.values()) == (64, 16, 20)
        assert set(data.counts) == {2}


def by_part():
    for part in ("train", "val", "test"):
        yield part, [c for c, p in SYNSETS.items() if p == part]


@pytest.mark.parametrize("form", ["cache", "labels", "npz"])
def test_mini_imagenet_from_arrays(tmp_path, form):
    source = tmp_path / "source"
    source.mkdir()
    for part, names in by_part():
        images = GENERATOR.integers(0, 255, (2 * len(names), 8, 8, 3), dtype=np.uint8)
        labels = np.repeat(np.arange(len(names)), 2)
        if form == "cache":
            members = {c: [2 * i, 2 * i + 1] for i, c in enumerate(names)}
            content = {"image_data": images, "class_dict": members}
            (source / f"mini-imagenet-cache-{part}.pkl").write_bytes(pickle.dumps(content))
        elif form == "labels":
            content = {"data": images, "labels": labels.tolist()}
            content["catname2label"] = {c: i for i, c in enumerate(names)}
            stem = "train_phase_train" if part == "train" else part
            path = source / f"miniImageNet_category_split_{stem}.pickle"
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            np.savez(
                source / f"mini-{part}.npz", features=images.astype(np.float32), targets=labels
            )
    (source / "miniImageNet_category_split_train_phase_val.pickle").write_bytes(b"never read")
    known.prepare("mini-imagenet", source, tmp_path / "out", warn=ignore)
    data, counts = parts(tmp_path / "out")
    assert tuple(counts.values()) == (64, 16, 20)
    assert set(data.counts) == {2}
    if form != "npz":
        assert set(data.names) == set(SYNSETS)


@pytest.mark.filterwarnings("ignore:out. 607 pictures that another class has")
def test_tiered_imagenet_from_pickles_of_png(tmp_path):
    tiered, png = facts.parts_of("tiered-imagenet"), picture(size=(8, 8))
    files = {}
    for part in ("train", "val", "test"):
        names = [c for c, p in tiered.items() if p == part]
        labels = {"label_specific": np.arange(len(names)), "label_specific_str": names}
        files[f"tiered/{part}_labels.pkl"] = pickle.dumps(labels, protocol=2)
        images = [np.frombuffer(png, np.uint8)] * len(names)
        files[f"tiered/{part}_images_png.pkl"] = pickle.dumps(images, protocol=2)
    archive = tar(tmp_path / "tiered.tar", files, "w")
    known.prepare("tiered-imagenet", archive, tmp_path / "out", warn=ignore)
    assert tuple(parts(tmp_path / "out")[1].values()) == (351, 97, 160)


def birds():
    names = [f"{i + 1:03d}.Bird_{i}" for i in range(200)]
    files = {f"CUB_200_2011/images/{c}/{c[4:]}_1.jpg": picture("JPEG") for c in names}
    return {**files, "CUB_200_2011/images.txt": b"1 x\n", "attributes.txt": b""}


def test_cub(tmp_path):
    archive = tar(tmp_path / "CUB_200_2011.tgz", birds())
    known.prepare("cub", tmp_path, tmp_path / "out", warn=ignore)
    counts = parts(tmp_path / "out")[1]
    assert tuple(counts.values()) == (100, 50, 50)
    assert (tmp_path / "out/val/002.Bird_1").is_dir()
    assert (tmp_path / "out/test/004.Bird_3").is_dir()
    assert archive.exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["INNERLOOP_TEST_EVIL"],)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_calls_anything_else_is_not_read(tmp_path, monkeypatch, protocol):
    trace = tmp_path / "trace"
    monkeypatch.setenv("INNERLOOP_TEST_EVIL", str(trace))
    files = cifar_files("python")
    files["cifar-100-python/meta"] = pickle.dumps({"fine_label_names": Evil()}, protocol=protocol)
    with pytest.raises(UserError, match=r"mkdir, which is not part of arrays"):
        known.prepare("cifar-fs", write(tmp_path / "c", files), tmp_path / "out", warn=ignore)
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"c"}


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n((I1000000000000\ntR.",
        b"cnumpy\ndtype\n(S'V100000000000'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",
        b"Pname\n.",
        b"\x80\x04\x95",
        b"",
    ],
)
def test_odd_pickles_are_one_clear_error(tmp_path, content):
    files = cifar_files("python") | {"cifar-100-python/meta": content}
    with pytest.raises(UserError, match="meta"):
        known.prepare("cifar-fs", write(tmp_path / "c", files), tmp_path / "out", warn=ignore)


def test_what_is_not_complete_leaves_nothing_behind(tmp_path):
    files = {name: content for name, content in birds().items() if "/007." not in name}
    with pytest.raises(UserError, match=r"100 / 50 / 50 classes.*99 / 50 / 50"):
        known.prepare("cub", write(tmp_path / "c", files), tmp_path / "out", warn=ignore)
    archive = tar(tmp_path / "CUB_200_2011.tgz", birds())
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(UserError, match="damaged or cut short"):
        known.prepare("cub", archive, tmp_path / "out", warn=ignore)
    with pytest.raises(UserError, match="no folders such as"):
        known.prepare("cub", write(tmp_path / "d", {"a.txt": b""}), tmp_path / "out", warn=ignore)
    with pytest.raises(UserError, match="does not exist"):
        known.prepare("cub", tmp_path / "nowhere", tmp_path / "out", warn=ignore)
    with pytest.raises(UserError, match="not CIFAR-100"):
        known.prepare("fc100", tmp_path / "d", tmp_path / "out", warn=ignore)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("name", ["../001.A/x.jpg", "/001.A/x.jpg", "a\\001.A/x.jpg"])
def test_entries_that_lead_out_are_refused(tmp_path, name):
    archive = tar(tmp_path / "birds.tar", {name: picture("JPEG")}, "w")
    with pytest.raises(UserError, match="leads out of it"):
        known.prepare("cub", archive, tmp_path / "out", warn=ignore)


def test_links_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("001.Bird/secret.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(info)
    assert list(sources.entries(tmp_path / "a.tar", ignore)) == []


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / "CUB_200_2011.tgz", birds())
    assert main(["data", "prepare", "cub", "--source", "CUB_200_2011.tgz"]) == 0
    shown = capsys.readouterr()
    assert "innerloop train --preset photos --data cub" in shown.out
    assert "official checksum" in shown.err
    assert (tmp_path / "cub/train").is_dir()
    assert main(["data", "prepare", "cub"]) != 0
    assert "needs --source" in capsys.readouterr().err
