"""What `trials.fuzz` feeds: every reader of files, and the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import innerloop
from innerloop.algorithms import ALGORITHMS
from innerloop.build import build_algorithm, build_model, build_samplers
from innerloop.cli import main as command_line
from innerloop.config import TrainConfig
from innerloop.data import folder as read_folder
from innerloop.data.archive import open_drawings
from innerloop.data.omniglot import _shrink
from innerloop.data.pictures import EXTENSIONS, is_grey, picture_size, read_picture
from innerloop.runs import folder as run_folder
from innerloop.runs.checkpoint import read_tensors, write_tensors
from trials.mutations import NUMBERS, VALUES, forged, mutated, mutated_values, sound_png
from trials.own import OWN_READERS, Read, Reader
from trials.seeds import picture_bytes


class Hang(BaseException):
    """An input took too long."""


# --- readers: each prepares a folder and returns a function that reads one changed input there


def zip_archives(home: Path) -> Read:
    """Omniglot's archives: the container, its entries, their names and their pictures."""
    pictures = [picture_bytes(seed, "1", "PNG", (105, 105)) for seed in range(4)]
    names = [f"images_background/Greek/character0{i}/0394_0{i}.png" for i in range(4)]
    seed, path = _zip(zip(names, pictures, strict=True)), home / "images_background.zip"
    kinds = ("../../{}", "/etc/{}", "a\\..\\..\\{}", "C:{}", "{}\x00", "{}/", "{}" * 50)

    def read(draw: random.Random) -> None:
        data = mutated(draw, [seed])
        if draw.random() < 0.5:
            # A sound archive in which an entry here and there is unsound.
            entries = []
            for name, picture in zip(names, pictures, strict=True):
                kind = draw.choice(kinds) if draw.random() < 0.2 else "{}"
                changed = draw.random() < 0.2
                data = sound_png(mutated(draw, [picture])) if changed else picture
                entries.append((kind.replace("{}", name), data))
            data = _zip(entries)
        path.write_bytes(data)
        with open_drawings(path) as drawings:
            for key in drawings.crcs:
                _shrink(drawings.read(key), key)

    return read


def omniglot_pictures(home: Path) -> Read:
    """A PNG of Omniglot, its chunks' checksums right or wrong."""
    seeds = [
        picture_bytes(seed, mode, "PNG", (105, 105)) for seed, mode in enumerate(("1", "L", "P"))
    ]

    def read(draw: random.Random) -> None:
        data = mutated(draw, seeds)
        _shrink(sound_png(data) if draw.random() < 0.7 else data, "a drawing")

    return read


def pictures(home: Path) -> Read:
    """People's own pictures, of every format."""
    formats = {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".bmp": "BMP",
        ".gif": "GIF",
        ".tif": "TIFF",
        ".webp": "WEBP",
    }
    modes = {
        "PNG": ("1", "L", "P", "RGB", "RGBA", "I;16"),
        "GIF": ("P", "L"),
        "JPEG": ("L", "RGB"),
        "TIFF": ("1", "L", "RGB", "I;16"),
    }
    seeds = {
        ending: [
            picture_bytes(seed, mode, kind, (32, 24))
            for seed, mode in enumerate(modes.get(kind, ("L", "RGB")))
        ]
        for ending, kind in formats.items()
    }

    def read(draw: random.Random) -> None:
        ending = draw.choice(list(seeds))
        data = mutated(draw, seeds[ending])
        if ending == ".png" and draw.random() < 0.7:
            data = sound_png(data)
        path = home / f"picture{draw.choice((ending, ending, draw.choice(EXTENSIONS)))}"
        path.write_bytes(data)
        try:
            picture_size(path)
            grey = is_grey(path)
            size = draw.choice((None, (28, 28)))
            image = read_picture(path, 1 if grey else 3, size)
            assert image.dtype == np.uint8
            assert image.ndim == 3
        finally:
            path.unlink()

    return read


def arrays(home: Path) -> Read:
    """`.npy` files of images."""
    seeds = []
    for array in (
        np.zeros((4, 3, 1, 8, 8), np.uint8),
        np.asfortranarray(np.ones((4, 3, 3, 8, 8), np.uint8)),
        np.zeros((4, 3, 1, 8, 8), np.float32),
        np.array([{"a": 1}], dtype=object),
    ):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        seeds.append(buffer.getvalue())

    def read(draw: random.Random) -> None:
        data = mutated(draw, seeds)
        if draw.random() < 0.5:  # a header of its own, of the right length
            descr = draw.choice(("|u1", "<f4", "|O", "|S5", "<M8[ns]", "|V3", "|u1" * 50, "x"))
            shape = tuple(
                draw.choice((4, 3, 1, 8, *NUMBERS)) for _ in range(draw.choice((5, 5, 2)))
            )
            text = repr({"descr": descr, "fortran_order": draw.random() < 0.3, "shape": shape})
            text = mutated(draw, [text.encode()]).decode("latin1") if draw.random() < 0.3 else text
            header = text.encode("latin1") + b"\n"
            head = b"\x93NUMPY" + bytes(draw.choice(((1, 0), (2, 0), (3, 0), (9, 9))))
            data = head + struct.pack("<H", len(header) % 65536) + header + b"\0" * 2000
        (home / "images.npy").write_bytes(data)
        images = read_folder(home / "images.npy")
        assert images.images[-1].sum() >= 0

    return read


def tables(home: Path) -> Read:
    """mini-ImageNet's csv files beside a folder of pictures."""
    (home / "images").mkdir()
    for i in range(6):
        (home / "images" / f"{i}.png").write_bytes(picture_bytes(i, "L", "PNG", (8, 8)))
    parts = {
        part: "filename,label\n" + "".join(f"{i}.png,class{i}\n" for i in (start, start + 1))
        for part, start in (("train", 0), ("val", 2), ("test", 4))
    }

    def read(draw: random.Random) -> None:
        changed = draw.choice(list(parts))
        for part, text in parts.items():
            data = mutated(draw, [text.encode()]) if part == changed else text.encode()
            (home / f"{part}.csv").write_bytes(data)
        read_folder(home, image_size=8)

    return read


def cached_folders(home: Path) -> Read:
    """Prepared data of an earlier run: it is ours, so it is made again instead of refused."""
    for name in "abc":
        (home / "classes" / name).mkdir(parents=True)
        (home / "classes" / name / "1.png").write_bytes(picture_bytes(1, "L", "PNG", (8, 8)))
    read_folder(home / "classes")
    places = list((Path(os.environ["INNERLOOP_HOME"]) / "folders").glob("classes-*/*"))
    seeds = {place: place.read_bytes() for place in places}

    def read(draw: random.Random) -> None:
        for place, data in seeds.items():
            if place.suffix == ".json" and draw.random() < 0.5:
                place.write_text(json.dumps(mutated_values(draw, json.loads(data))))
            else:
                place.write_bytes(mutated(draw, [data]) if draw.random() < 0.5 else data)
        images = read_folder(home / "classes")
        assert [images.class_images(c).shape[1:] for c in range(images.num_classes)]

    return read


def configs(home: Path) -> Read:
    """YAML files of settings."""
    recipes = [TrainConfig.recipe(name) for name in ALGORITHMS]
    settings = [form for each in recipes for form in (each.to_parts(), each.to_dict())]
    seeds = [yaml.safe_dump(each, sort_keys=False).encode() for each in settings]
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)}, ' * 9}]\n" for i in range(12)
    )
    seeds += [bomb.encode(), (bomb + "width: *m\n").encode(), b"width: " + b"[" * 5000]

    def read(draw: random.Random) -> None:
        data = mutated(draw, seeds)
        if draw.random() < 0.5:
            data = yaml.safe_dump(mutated_values(draw, draw.choice(settings))).encode()
        (home / "config.yaml").write_bytes(data)
        config = TrainConfig.from_file(home / "config.yaml")
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    return read


def weights(home: Path) -> Read:
    """`model.safetensors`: its bytes, and what is in it with the checksum made right again."""
    run = _small_run(home)
    seed = (run / "model.safetensors").read_bytes()
    tensors, metadata = read_tensors(run / "model.safetensors")

    def read(draw: random.Random) -> None:
        path = home / "changed.safetensors"
        path.write_bytes(mutated(draw, [seed]))
        if draw.random() < 0.7:
            write_tensors(path, *forged(draw, tensors, metadata))
        innerloop.load(path)

    return read


def checkpoints(home: Path) -> Read:
    """Checkpoints and metrics of a run that is to go on."""
    run = _small_run(home)
    (path,) = run_folder.checkpoints(run)
    seed, metrics = path.read_bytes(), (run / "metrics.jsonl").read_bytes()
    tensors, metadata = read_tensors(path)
    config = run_folder.read_config(run)
    config, samplers = build_samplers(config)
    algorithm = build_algorithm(config, build_model(config, samplers["train"].input_shape))

    def read(draw: random.Random) -> None:
        for other in path.parent.iterdir():
            other.unlink()
        path.write_bytes(mutated(draw, [seed]))
        if draw.random() < 0.7:
            write_tensors(path, *forged(draw, tensors, metadata))
        (run / "metrics.jsonl").write_bytes(mutated(draw, [metrics]))
        state = run_folder.new_state(config, algorithm)
        saved = run_folder.read_state(run, samplers["train"], lambda message: None)
        if saved is not None:
            run_folder.restore(state, saved, "the checkpoint")
        run_folder.cut_metrics(run, state)
        state.optimizer.step()

    return read


def commands(home: Path) -> Read:
    """The command line with random options; possible combinations are carried out."""
    np.save(home / "data.npy", np.random.default_rng(0).integers(0, 255, (30, 6, 1, 16, 16), "u1"))
    run = _small_run(home)
    options = {name.replace("_", "-") for name in TrainConfig().to_dict()} | {"out", "json", "help"}
    options |= {"preset", "config", "resume", "tasks", "part", "k-shot", "source", "classes"}
    # Leave out options that ask for long work.
    long = {"iterations", "inner-steps", "eval-inner-steps", "cg-steps", "test-tasks", "val-tasks"}
    long |= {"tasks", "glyph-classes", "max-seconds", "classes", "per-class"}
    small = "--iterations 2 --val-every 1 --val-tasks 2 --test-tasks 2 --width 4 --n-way 3"
    small += " --train-n-way 3 --k-query 2 --eval-k-query 2 --threads 1 --max-seconds 5"
    starts = [
        ["train", "--data", "data.npy", "--out", "out", *small.split()],
        ["train", "--data", "sinusoid", "--out", "out", *small.split()[:8], "--threads", "1"],
        ["train", "--resume", "out"],
        ["evaluate", str(run), "--tasks", "2"],
        ["data", "info", "data.npy"],
        ["data", "sheet", "data.npy", "--out", "sheet.png"],
        ["data", "prepare", "data.npy"],
        [],
    ]

    def read(draw: random.Random) -> None:
        os.chdir(home)
        shutil.rmtree(home / "out", ignore_errors=True)
        words = list(draw.choice(starts))
        for _ in range(draw.choice((1, 1, 2, 3))):
            kind = draw.randrange(4)
            if kind == 0 and words:
                words.pop(draw.randrange(len(words)))
            elif kind == 1:
                words.insert(draw.randrange(len(words) + 1), str(draw.choice(VALUES)))
            else:
                option = draw.choice(sorted(options))
                value = draw.choice(VALUES if option not in long else (-1, 0, 1, 2, "x", "nan"))
                words += [f"--{option}", str(value).replace("\x00", "")]
        if words[:1] == ["train"] and not {"--iterations", "--resume"} & set(words):
            words += small.split()
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                status = command_line([word.replace("\x00", "") for word in words])
        except SystemExit as end:  # of the parser of options
            status = end.code
        except Hang:
            raise AssertionError(f"{words} hangs") from None
        if status not in (0, 2) or "Traceback" in output.getvalue():
            raise AssertionError(f"{words}: status {status}: {output.getvalue()[-1500:]}")

    return read


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        zip_archives,
        omniglot_pictures,
        pictures,
        arrays,
        *OWN_READERS,
        tables,
        cached_folders,
        configs,
        weights,
        checkpoints,
        commands,
    )
}


# --- parts of the readers


def _zip(entries: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            # A fixed date: with today's, the inputs would differ at every run.
            entry = zipfile.ZipInfo(name, date_time=(2015, 12, 11, 0, 0, 0))
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _small_run(home: Path) -> Path:
    if not (home / "run").exists():
        images = np.random.default_rng(0).integers(0, 255, (30, 6, 1, 16, 16), dtype=np.uint8)
        np.save(home / "small.npy", images)
        innerloop.train(
            data=str(home / "small.npy"),
            out=home / "run",
            n_way=3,
            train_n_way=None,
            eval_k_query=2,
            iterations=2,
            val_every=1,
            val_tasks=2,
            test_tasks=2,
            width=4,
            threads=1,
        )
    return home / "run"
