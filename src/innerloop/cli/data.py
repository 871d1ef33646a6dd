"""`innerloop data`: prepare, invent, describe and draw data sets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from innerloop.cli.output import say, show, show_lines
from innerloop.cli.pictures import check_place, refuse_to_overwrite
from innerloop.data import (
    ClassIndexed,
    ImageClasses,
    available_splits,
    contact_sheet,
    known,
    load,
    prepare_lake,
    random_images,
    split_classes,
)
from innerloop.data.lake import ARCHIVE, WHERE
from innerloop.data.splits import automatic_split
from innerloop.errors import UserError
from innerloop.files import at_home, quoted, write_whole
from innerloop.recipes import REGRESSION
from innerloop.references import is_reference
from innerloop.registry import DATA

DESCRIPTION = """Prepare, invent, describe and draw data sets.

examples:
  innerloop data prepare omniglot              download 14 MB, check, count, convert
  innerloop data prepare omniglot --source ~/Downloads --out omniglot.npy
  innerloop data prepare my_pictures --image-size 28
  innerloop data prepare cifar-fs --source cifar-100-python.tar.gz --out cifar-fs
  innerloop data prepare emoji --source node_modules --out emoji
  innerloop data prepare lake --source all_runs.zip --out lake
  innerloop data random --out noise.npy        24 MB of noise in Omniglot's shape
  innerloop data info my_pictures --json
  innerloop data info my_data.py:load          what a function of yours returns
  innerloop data sheet omniglot --out omniglot.png"""


@dataclass(frozen=True)
class Prepare:
    """Check a data set, count it, and convert it once for all later commands."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """omniglot, glyphs, or the path of a folder of pictures; or cifar-fs, fc100, mini-imagenet,
    tiered-imagenet, cub, emoji: what you have fetched becomes a folder of pictures; or lake, the
    one-shot challenge, for innerloop evaluate --lake."""
    source: Path | None = None
    """For omniglot: folder with its two archives, zipped or not, or a prepared .npy file; for the
    others with names: the archive, or the folder with what is in it; for emoji, the folder with the
    packages of icons."""
    out: Path | None = None
    """Also write a .npy file [classes, images a class, C, H, W] here; from an archive, the new
    folder, by default named for the data set."""
    image_size: int | None = None
    """For a folder: height and width in pixels to scale the pictures to."""
    skip_broken: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """For a folder: leave out pictures that cannot be read, for all later commands."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON."""

    def run(self) -> None:
        if self.what in known.NAMES:
            self._prepare_known()
            return
        if self.what == "emoji" and (self.source is not None or not Path(self.what).exists()):
            if self.source is None:
                raise UserError("emoji needs --source, the folder with the packages of icons")
            facts = known.prepare_emoji(
                self.source,
                self.out or Path(self.what),
                image_size=self.image_size or 64,
                progress=not self.json,
            )
            if not self.json:
                facts["artists"] = ", ".join(facts["artists"])
            _print({"name": self.what, **facts}, self.json)
            return
        if self.what == "lake" and (self.source is not None or not Path(self.what).exists()):
            self._prepare_lake()
            return
        if self.source is not None and self.what != "omniglot":
            names = ", ".join(known.NAMES)
            raise UserError(f"--source is for omniglot, {names}, emoji, lake, not for {self.what}")
        if self.out is not None:
            _check_array(self.out)
        data = load(
            self.what,
            omniglot_source=self.source,
            image_size=self.image_size,
            skip_broken=self.skip_broken,
            progress=not self.json,
        )
        facts = _facts(data)
        if self.out is not None:
            _write_array(data, self.out)
            facts["written"] = str(self.out)
        _print(facts, self.json)

    def _prepare_lake(self) -> None:
        if self.source is None:
            raise UserError(f"lake needs --source, your copy of {ARCHIVE}, which is {WHERE}")
        if self.image_size is not None:
            raise UserError("the challenge's pictures keep their size: leave --image-size out")
        out = self.out or Path(self.what)
        _print(
            {"name": self.what, **prepare_lake(self.source, out), "written": str(out)}, self.json
        )
        if not self.json:
            show_lines(f"next, try\n  innerloop evaluate MODEL --lake {quoted(out)}")

    def _prepare_known(self) -> None:
        if self.source is None:
            raise UserError(f"{self.what} needs --source, the archive or the folder that you have")
        if self.image_size is not None:
            raise UserError("pictures keep their size here: give --image-size to innerloop train")
        found = known.prepare(
            self.what,
            self.source,
            self.out or Path(self.what),
            progress=not self.json,
            warn=lambda message: say(f"warning: {message}"),
        )
        facts = found.facts()
        parts = facts.pop("classes")
        facts |= {f"{part} classes": number for part, number in parts.items()}
        _print({"name": self.what, **facts}, self.json)
        if not self.json:
            show_lines(f"next, try\n  innerloop train --preset photos --data {found.folder}")


@dataclass(frozen=True)
class Random:
    """Write noise in the shape of Omniglot, to try everything without a download."""

    out: Path = Path("random.npy")
    """Where the uint8 array [1623, 20, 1, 28, 28] goes."""
    seed: int = 0
    """The same seed gives the same noise."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON."""

    def run(self) -> None:
        _check_array(self.out)
        data = random_images(seed=self.seed)
        _write_array(data, self.out)
        _print({**_facts(data), "written": str(self.out)}, self.json)


@dataclass(frozen=True)
class Info:
    """Describe a data set: classes, images, brightness, and the splits that fit it."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """omniglot, glyphs, random, the path of a folder or a .npy file, or what makes a data set:
    MODULE:NAME or FILE.py:NAME."""
    source: Path | None = None
    """For omniglot: where its archives are."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON."""

    def run(self) -> None:
        data = _named(self.what, self.source, progress=not self.json)
        facts = {**_facts(data), **_brightness(data)}
        facts["automatic split"] = automatic_split(data)
        facts["splits"] = {
            name: {part: len(classes) for part, classes in split_classes(data, name).items()}
            for name in available_splits(data)
        }
        facts["remarks"] = [asdict(remark) for remark in data.remarks]
        _print(facts, self.json)


@dataclass(frozen=True)
class Sheet:
    """Draw some classes of a data set into one picture."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """omniglot, glyphs, random, the path of a folder or a .npy file, or what makes a data set:
    MODULE:NAME or FILE.py:NAME."""
    out: Path
    """The PNG file to write."""
    source: Path | None = None
    """For omniglot: where its archives are."""
    classes: int = 20
    """Rows, drawn at random."""
    per_class: int = 10
    """Images in a row."""
    seed: int = 0
    """Which classes."""

    def run(self) -> None:
        folder = at_home(self.what)
        if folder.is_dir() and self.out.resolve().is_relative_to(folder.resolve()):
            refuse_to_overwrite(self.out, "--out", [self.out])
            raise UserError(
                f"--out {self.out} lies in {self.what}, which would take it for a picture of its "
                "own: choose a place outside"
            )
        check_place(self.out, "--out")
        data = _named(self.what, self.source, progress=True)
        made = contact_sheet(
            data, self.out, classes=self.classes, per_class=self.per_class, seed=self.seed
        )
        show(str(made))


Command = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Random, tyro.conf.subcommand("random")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Sheet, tyro.conf.subcommand("sheet")]
)


def main(argv: list[str]) -> None:
    """Run `innerloop data`.

    Args:
        argv: the words after `innerloop data`.

    Raises:
        UserError: a mistake in what was asked for, or in a file.
        SystemExit: the words are not a command (2), or help was asked for (0).
    """
    command: Any = tyro.cli(
        Command,
        args=argv,
        prog="innerloop data",
        description=DESCRIPTION,
    )
    what = getattr(command, "what", "")
    if what in REGRESSION:
        raise UserError(
            f"{what} has no images: its tasks are regression, see innerloop train --data {what}"
        )
    command.run()


def _named(what: str, source: Path | None, *, progress: bool) -> ClassIndexed:
    """What `--data` of the other commands names."""
    if not is_reference(what) and (DATA.is_ours(what) or what not in DATA):
        return load(what, omniglot_source=source, progress=progress)
    if source is not None:
        raise UserError(f"--source is for omniglot, not for {what}: leave it out")
    # PyTorch takes seconds to import, for which the other data sets do not wait.
    from innerloop.config import TrainConfig
    from innerloop.sources import build_source

    found = build_source(TrainConfig.recipe(data=what), progress=progress)
    if not isinstance(found, ClassIndexed):
        raise UserError(f"{what} gives its tasks itself, and has no classes to describe or draw")
    return found


def _facts(data: ClassIndexed) -> dict[str, Any]:
    images = int(data.counts.sum())
    fewest, most = int(data.counts.min()), int(data.counts.max())
    # numpy.save writes the square shape where there is one, so that is what is shown.
    square = [data.num_classes, fewest] if fewest == most else [images]
    things = "images" if data.pixels else "examples"
    facts: dict[str, Any] = {"name": data.name}
    if data.name == "omniglot":
        alphabets = len(set(data.groups))
        facts["directories"] = alphabets + data.num_classes
        facts["images"] = images
        facts["alphabets"] = alphabets
        facts["characters"] = data.num_classes
    else:
        facts["classes"] = data.num_classes
        facts[things] = images
        groups = len(set(data.groups) - {""})
        if groups:
            facts["groups"] = groups
    facts[f"{things} a class"] = [fewest, most]
    facts["shape"] = [*square, *data.example_shape]
    facts["dtype"] = str(data.examples.dtype)
    facts["bytes"] = images * int(np.prod(data.example_shape)) * data.examples.dtype.itemsize
    return facts


def _brightness(data: ClassIndexed) -> dict[str, Any]:
    """Mean and deviation of at most 2,000 examples, evenly spread over the data set."""
    number = data.examples.shape[0]
    some = data.examples.read(np.arange(0, number, max(1, number // 2000)))
    if not data.pixels:
        return {"mean": _four_digits(some.mean()), "standard deviation": _four_digits(some.std())}
    some = some.astype(np.float32) / 255
    facts: dict[str, Any] = {
        "mean brightness": round(float(some.mean()), 4),
        "standard deviation": round(float(some.std()), 4),
        "ink": "dark on light" if data.dark_ink else "light on dark, or colour",
    }
    if data.dark_ink:
        facts["ink coverage"] = round(float(1 - some.mean()), 4)
    return facts


def _four_digits(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _check_array(path: Path) -> None:
    if path.suffix != ".npy":
        raise UserError(f"the array is a .npy file, so {path} must end in .npy")
    check_place(path, "--out")


def _write_array(data: ImageClasses, path: Path) -> None:
    each = int(data.counts[0])
    if (data.counts != each).any():
        raise UserError(
            f"{data.name} has {data.counts.min()} to {data.counts.max()} images a class, which "
            "do not fit one square array; leave out --out; the prepared data is used anyway"
        )
    square = data.images.reshape(data.num_classes, each, *data.image_shape)
    with write_whole(path) as file:
        np.save(file, square)


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(json.dumps({key.replace(" ", "_"): value for key, value in facts.items()}))
        return
    remarks = facts.get("remarks", [])
    width = max(len(key) for key in [*facts, *(remark["kind"] for remark in remarks)]) + 2
    for key, value in facts.items():
        if key == "remarks":
            for remark in value:
                show(f"{remark['kind']:<{width}}{remark['text']}")
        elif key == "splits":
            show("splits (train / val / test classes)")
            for name, sizes in value.items():
                show(f"  {name:<{width + 6}}{' / '.join(f'{size:,}' for size in sizes.values())}")
        else:
            show(f"{key:<{width}}{_words(key, value)}")


def _words(key: str, value: Any) -> str:
    if key == "bytes":
        return f"{value:,} ({value / 2**20:.2f} MB)"
    if key == "shape":
        return f"({', '.join(map(str, value))})"
    if key in ("images a class", "examples a class"):
        return f"{value[0]:,}" if value[0] == value[1] else f"{value[0]:,} to {value[1]:,}"
    return f"{value:,}" if isinstance(value, int) else str(value)
