"""Lake's one-shot challenge: an archive in the form of the official one, and drawn runs."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from innerloop import UserError
from innerloop.data import draw_lake_runs, lake_runs, prepare_lake, split_classes

GENERATOR = np.random.default_rng(0)
ORDERS = [GENERATOR.permutation(20) for _ in range(20)]


def png(run, character, size=105, noise=0):
    """A drawing that only this character of this run has."""
    pixels = np.full((size, size), 255, np.uint8)
    pixels[5 + 2 * character :: 40, 2 * run + noise :: 45] = 0
    file = io.BytesIO()
    Image.fromarray(pixels > 0).save(file, format="PNG")
    return file.getvalue()


def huge_within(whole):
    """A PNG with a second header, which claims 9,000 pixels a side."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 9_000, 9_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return whole[:33] + chunk + whole[33:]


def official():
    """The files of an archive with the form of `all_runs.zip`, by name."""
    files = {}
    for run, order in enumerate(ORDERS):
        name = f"run{run + 1:02d}"
        lines = []
        for place in range(20):
            files[f"{name}/training/class{place + 1:02d}.png"] = png(run, place)
            item = f"{name}/test/item{place + 1:02d}.png"
            files[item] = png(run, int(order[place]), noise=1)
            lines.append(f"{item} {name}/training/class{order[place] + 1:02d}.png")
        files[f"{name}/class_labels.txt"] = "\n".join(lines).encode() + b"\n"
    return files


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run01/", b"")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def archive(tmp_path):
    extra = {"__MACOSX/run01/test/item01.png": b"no picture", "run01/.DS_Store": b"\0"}
    return zipped(tmp_path / "all_runs.zip", official() | extra)


def test_the_official_runs_are_read_with_their_answers(archive):
    runs = lake_runs(archive)
    assert [run.name for run in runs] == [f"run{i:02d}" for i in range(1, 21)]
    for run, order in zip(runs, ORDERS, strict=True):
        assert run.support.shape == run.query.shape == (20, 1, 105, 105)
        np.testing.assert_array_equal(run.answers, order)
    support = np.asarray(Image.open(io.BytesIO(png(4, 7))).convert("L"))
    np.testing.assert_array_equal(runs[4].support[7, 0], support)
    asked = np.asarray(Image.open(io.BytesIO(png(4, 7, noise=1))).convert("L"))
    place = int(np.flatnonzero(ORDERS[4] == 7)[0])
    np.testing.assert_array_equal(runs[4].query[place, 0], asked)


def test_preparing_writes_what_was_read(archive, tmp_path):
    out = tmp_path / "lake"
    assert prepare_lake(archive, out) == {"runs": 20, "images": 800}
    written = {f.relative_to(out).as_posix(): f.read_bytes() for f in out.rglob("*.*")}
    assert written == official()
    # The archive, its folder and what is in it are the same runs.
    for source in (archive.parent, out):
        for run, same in zip(lake_runs(source), lake_runs(archive), strict=True):
            np.testing.assert_array_equal(run.query, same.query)
            np.testing.assert_array_equal(run.answers, same.answers)
    with pytest.raises(UserError, match="there already"):
        prepare_lake(archive, out)


def without(files, name):
    return {n: data for n, data in files.items() if n != name}


LABELS = "run02/class_labels.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {n: d for n, d in f.items() if not n.startswith("run07")}, "missing: run07"),
        (lambda f: without(f, LABELS), "run02 has no class_labels"),
        (lambda f: without(f, "run02/test/item09.png"), "lacks test/item09.png"),
        (lambda f: f | {LABELS: f[LABELS][:-50]}, "must name each of 20 queries"),
        (lambda f: f | {LABELS: f[LABELS].replace(b"class03", b"class04")}, "must name each"),
        (lambda f: f | {LABELS: b"\xff" + f[LABELS]}, "must name each"),
        (lambda f: f | {"run02/test/item09.png": b"GIF89a"}, "not a PNG"),
        (lambda f: f | {"run02/test/item09.png": png(1, 8)[:-30]}, "cannot be decoded"),
        (lambda f: f | {"run02/test/item09.png": huge_within(png(1, 8))}, "it claims"),
        (lambda f: f | {"run02/test/item09.png": png(1, 8, size=64)}, "different sizes"),
        (lambda f: f | {"run02/test/item09.png": bytes(1_000_001)}, "refused"),
        (lambda f: f | {"../run02/test/item09.png": b""}, "leads out"),
        (lambda f: f | {"more/run02/test/item09.png": b""}, "twice"),
    ],
)
def test_what_is_not_the_challenge_is_refused(tmp_path, change, message):
    archive = zipped(tmp_path / "changed.zip", change(official()))
    for read in (lake_runs, lambda source: prepare_lake(source, tmp_path / "out")):
        with pytest.raises(UserError, match=message):
            read(archive)
    assert not (tmp_path / "out").exists()


def test_a_place_without_runs_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("no run")
    with pytest.raises(UserError, match="0 of its 20 runs"):
        lake_runs(tmp_path / "full")
    with pytest.raises(UserError, match="does not exist"):
        lake_runs(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="damaged"):
        lake_runs(tmp_path / "bad.zip")


def test_drawn_runs_are_tasks_of_one_alphabet_by_two_drawers(omniglot_data):
    test = split_classes(omniglot_data, "lake2015")["test"]
    runs = draw_lake_runs(omniglot_data)
    assert len(runs) == 20
    where = {image.tobytes(): i for i, image in enumerate(omniglot_data.images)}
    alphabets = []
    for run in runs:
        support, query = (
            np.array([where[image.tobytes()] for image in part])
            for part in (run.support, run.query)
        )
        np.testing.assert_array_equal(query // 20, support[run.answers] // 20)
        assert set(support // 20) <= set(test.tolist())
        assert len(set(support // 20)) == 20
        drawers = {tuple(set(part % 20)) for part in (support, query)}
        assert len(drawers) == 2, "two drawers"
        assert all(len(each) == 1 and max(each) < 8 for each in drawers)
        (alphabet,) = {omniglot_data.groups[c] for c in support // 20}
        alphabets.append(alphabet)
    assert len(set(alphabets)) == 10, "ten alphabets, two runs each, as in the paper"
    assert alphabets[::2] == alphabets[1::2]
    again, other = (draw_lake_runs(omniglot_data, seed=seed) for seed in (0, 1))
    assert [run.name for run in again] == [run.name for run in runs]
    assert [run.name for run in other] != [run.name for run in runs]
    many = draw_lake_runs(omniglot_data, test, runs=90)
    assert len({run.name.split(",")[0] for run in many}) == 20


def test_too_small_alphabets_are_refused(omniglot_data):
    few = split_classes(omniglot_data, "lake2015")["val"][:14]
    with pytest.raises(UserError, match="needs 20 characters of one alphabet"):
        draw_lake_runs(omniglot_data, few)
