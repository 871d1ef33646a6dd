"""Lake's one-shot challenge: 20 runs, each of 20 characters of one alphabet by two drawers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from innerloop.data.archive import MAX_BYTES, grey_png
from innerloop.data.base import ImageClasses
from innerloop.data.known.folders import new_folder
from innerloop.data.known.sources import entries, find_source
from innerloop.errors import UserError
from innerloop.files import at_home
from innerloop.keywords import keywords_checked

RUNS, WAYS = 20, 20
# Whose drawings the official runs have: ten alphabets, and drawers 1 to 8 of each.
ALPHABETS = (
    *("Atlantean", "Ge_ez", "Glagolitic", "Gurmukhi", "Kannada", "Malayalam", "Manipuri"),
    *("Old_Church_Slavonic_(Cyrillic)", "Tengwar", "Tibetan"),
)
DRAWERS = 8
ARCHIVE = "all_runs.zip"
LABELS = "class_labels.txt"
WHERE = "python/one-shot-classification/all_runs.zip of github.com/brendenlake/omniglot"
# What a run has; other files, such as those that systems leave, are passed over.
_FILE = re.compile(r"(run\d\d)/(class_labels\.txt|(?:training/class|test/item)\d\d\.png)$")
_PAIR = re.compile(r"run\d\d/(test/item\d\d\.png)\s+run\d\d/(training/class\d\d\.png)")


class LakeRun(NamedTuple):
    """One task of the challenge: one drawing of each of N characters, and N queries.

    Attributes:
        name: such as `"run01"`; of a drawn run the alphabet and the two drawers.
        support: `uint8` `[N, 1, H, W]`, dark ink on light paper, one drawing of each character.
        query: the same by another drawer, in any order.
        answers: `[N]`, which of `support` shows the character of each query.
    """

    name: str
    support: np.ndarray
    query: np.ndarray
    answers: np.ndarray


@keywords_checked
def lake_runs(source: str | Path) -> list[LakeRun]:
    """The official 20 runs.

    Args:
        source: `all_runs.zip` of the data set's authors, a folder that has it, or a folder with
            what is in it, `run01` to `run20`.

    Raises:
        UserError: not the challenge, incomplete or damaged; the message names what is wrong.

    References:
        Lake, Salakhutdinov and Tenenbaum (2015), Human-level concept learning through
        probabilistic program induction, Science 350; the same (2019), The Omniglot challenge: a
        3-year progress report, Current Opinion in Behavioral Sciences 29.
    """
    source = at_home(source)
    return [_run(name, files, source) for name, files in _files(source).items()]


@keywords_checked
def prepare_lake(source: str | Path, out: str | Path) -> dict[str, int]:
    """Check the official runs and write them as a folder.

    Args:
        source: see `lake_runs`.
        out: a new folder; it is there in the end as a whole, or not at all.

    Returns:
        How many runs and images there are.

    Raises:
        UserError: as `lake_runs`, or `out` exists.
    """
    source, out = at_home(source), at_home(out)
    found = _files(source)
    images = sum(len(_run(name, files, source).answers) for name, files in found.items())
    with new_folder(out) as place:
        for name, files in found.items():
            for file, data in files.items():
                path = place / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return {"runs": len(found), "images": 2 * images}


@keywords_checked
def draw_lake_runs(
    data: ImageClasses,
    classes: np.ndarray | None = None,
    *,
    runs: int = RUNS,
    n_way: int = WAYS,
    seed: int = 0,
) -> list[LakeRun]:
    """Runs as in the challenge, drawn from Omniglot; not the official ones.

    Each has `n_way` characters of one alphabet, by one drawer to learn from and by another one to
    ask.  Alphabets take turns in an order that is drawn, with two runs each, as in the paper, as
    long as there are as many; drawers and characters are drawn anew for each run.

    Args:
        data: Omniglot, in which drawing i of all characters of an alphabet is by one drawer.
        classes: the characters to draw from, such as the validation part of the split `lake2015`,
            by any drawers; None for the alphabets and the drawers of the official runs.
        runs: how many, at least 2.
        n_way: characters in each, at least 2.
        seed: another seed draws other runs.

    Raises:
        UserError: no alphabet has so many characters among them.
    """
    drawers = DRAWERS if classes is None else int(data.counts.min())
    if classes is None:
        classes = np.flatnonzero(np.isin(data.groups, ALPHABETS))
    groups = np.array(data.groups)[classes]
    alphabets = [name for name in sorted(set(groups)) if (groups == name).sum() >= n_way]
    if not alphabets:
        raise UserError(
            f"a run needs {n_way} characters of one alphabet, and no alphabet of the "
            f"{len(classes)} classes of {data.name} has so many"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(alphabets)[: -(-runs // 2)]
    drawn = []
    for number in range(runs):
        alphabet = order[number // 2 % len(order)]
        chosen = rng.choice(classes[groups == alphabet], n_way, replace=False)
        learn, ask = rng.choice(drawers, 2, replace=False)
        answers = rng.permutation(n_way)
        pictures = [data.class_images(int(c)) for c in chosen]
        drawn.append(
            LakeRun(
                f"{alphabet}, drawers {learn + 1:02d} and {ask + 1:02d}",
                np.stack([of[learn] for of in pictures]),
                np.stack([pictures[a][ask] for a in answers]),
                answers,
            )
        )
    return drawn


def _files(source: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of each run's files by their names within it, runs in order."""
    found: dict[str, dict[str, bytes]] = {}
    place = find_source(source, (ARCHIVE, ARCHIVE.removesuffix(".zip")))
    # No search through a folder that may be someone's home.
    there = not place.is_dir() or (place / "run01").is_dir()
    for entry in entries(place, warnings.warn) if there else ():
        match = _FILE.search(entry.path.as_posix())
        if match is None or "__MACOSX" in entry.path.parts:
            continue
        run, name = match.groups()
        with entry.open() as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UserError(f"{source}: {entry.path} has more than {MAX_BYTES:,} bytes: refused")
        if name in found.setdefault(run, {}):
            raise UserError(f"{source} has {run}/{name} twice")
        found[run][name] = data
    wanted = [f"run{number:02d}" for number in range(1, RUNS + 1)]
    if sorted(found) != wanted:
        missing = ", ".join(sorted(set(wanted) - set(found))) or "none"
        raise UserError(
            f"{source} is not Lake's challenge: it has {len(found)} of its {RUNS} runs (missing: "
            f"{missing}). Give {ARCHIVE}, which is {WHERE}, or the folder with what is in it"
        )
    return {name: found[name] for name in wanted}


def _run(name: str, files: Mapping[str, bytes], source: Path) -> LakeRun:
    """The pictures and answers of one run's files."""
    if LABELS not in files:
        raise UserError(f"{source}: {name} has no {LABELS}, which says what is right")
    lines = files[LABELS].decode("ascii", "replace").splitlines()
    pairs = [_PAIR.fullmatch(line.strip()) for line in lines if line.strip()]
    answers = {match[1]: match[2] for match in pairs if match is not None}
    support = [f"training/class{number:02d}.png" for number in range(1, WAYS + 1)]
    query = [f"test/item{number:02d}.png" for number in range(1, WAYS + 1)]
    if len(pairs) != WAYS or sorted(answers) != query or sorted(answers.values()) != support:
        raise UserError(
            f"{source}: {name}/{LABELS} must name each of {WAYS} queries with one of {WAYS} "
            f"classes, a line each, as in 'run01/{query[0]} run01/{support[7]}'"
        )
    missing = [file for file in support + query if file not in files]
    if missing:
        raise UserError(f"{source}: {name} lacks {missing[0]}: fetch the archive again")

    def pictures(wanted: list[str]) -> np.ndarray:
        drawn = [np.asarray(grey_png(files[file], f"{source}: {name}/{file}")) for file in wanted]
        if len({each.shape for each in drawn}) > 1:
            raise UserError(f"{source}: the pictures of {name} are of different sizes")
        return np.stack(drawn)[:, None]

    places = np.array([support.index(answers[file]) for file in query])
    return LakeRun(name, pictures(support), pictures(query), places)
