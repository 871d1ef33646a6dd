"""`innerloop adapt`."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from innerloop.cli.output import result_stream, show
from innerloop.cli.pictures import (
    check_picture,
    check_place,
    labelled,
    load_for_pictures,
    query_files,
    read,
    support_files,
    white_of,
)
from innerloop.errors import UserError
from innerloop.files import one_line

if TYPE_CHECKING:
    from innerloop.classifier import FewShotClassifier

# Size of drawn pictures, if a pretrained network scales them itself.
THUMBNAIL = (3, 112, 112)

NONE = "none of these"

DESCRIPTION = """Teach a trained network new classes from a few pictures of each; classify others.

The support folder has one folder of pictures for each class; its name is the class's.

examples:
  innerloop adapt omniglot-conv4 --support symbols/ --query unknown.png
  innerloop adapt omniglot-conv4 --support symbols/ --query scans/ more/1.jpg --json
  innerloop adapt runs/first --support parts/ --query new/ --csv --picture parts.png
  innerloop adapt omniglot-protonet --support symbols/ --query photo.jpg --grey
  innerloop adapt timm:resnet50.a1_in1k --support photos/ --query new/ --reject 0.05
  innerloop adapt nets.py:make --weights w.safetensors --support photos/ --query new/"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to learn from, and what to classify."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A run folder, a weights file, or weights that come with the package: omniglot-conv4,
    omniglot-5steps, omniglot-protonet, background-conv4, glyphs-conv4; or a pretrained network of
    others: timm:NAME, torchvision:NAME, transformers:NAME, FILE.py:NAME or MODULE:NAME."""
    support: Path
    """Folder with one folder of pictures for each class."""
    query: tuple[Path, ...]
    """Pictures, or folders of pictures, to classify."""
    weights: Path | None = None
    """File of weights for a pretrained network: .safetensors, or .pt without code."""
    preprocess: str | None = None
    """What a pretrained network needs done to pictures, where not its own: MODULE:NAME or
    FILE.py:NAME of an innerloop.backbones.Preprocess, or of a function."""
    image_size: int | None = None
    """Size of the pictures of a pretrained network, where not its own, or 224."""
    head: Literal["auto", "ridge", "cosine", "logistic", "inner_loop"] = "auto"
    """What tells classes apart by the features of a pretrained network; auto compares on pictures
    of the support set that are left out."""
    views: Literal["whole", "middle", "crops", "flips", "turns"] | None = None
    """What a pretrained network sees of a picture: whole, middle, crops or flips; by default its
    middle, too, in twice the time. For a network that was meta-trained, in four times the time:
    `turns`, the picture in all quarter turns, which makes drawn symbols surer; or `flips`, its
    mirror image, too, not where left and right make a class."""
    layers: tuple[str, ...] | None = None
    """Inner layers of a pretrained network whose maps, which say what lies where, are features,
    too; by default the last one with a map; with nothing after it, none."""
    fine_tune: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train a copy of a pretrained network on the support set, where that tells pictures better
    that are left out; it takes minutes."""
    reject: float | None = None
    """Say none, where a picture is like none of the classes: the share of pictures of the classes
    that may be refused, such as 0.05."""
    background: Path | None = None
    """Folder of pictures of none of the classes, which help a pretrained network to tell the
    classes apart, and to refuse."""
    inner_steps: int | None = None
    """Steps of gradient descent; by default those that suit the network and the number of pictures,
    see the classifier's page."""
    bn: Literal["support", "transductive"] = "support"
    """Batch statistics for queries: of the support set, or of all queries together."""
    ink: Literal["auto", "dark", "light"] = "auto"
    """Strokes are dark on light paper, or light on dark; for networks trained on ink."""
    white: float | None = None
    """The value of white in pictures of more than 8 bits; by default that of training, or the
    smallest of 255, 1023, 4095, 16383 and 65535 (1 for floating point) that no picture of the
    support set exceeds."""
    prepare: Literal["auto", "ink", "none"] = "auto"
    """Find the drawing on its paper, free it of shading and specks, and centre it; auto does so
    where the support set says that it helps; for networks trained on ink."""
    grey: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Turn coloured pictures into grey ones, for a network that takes grey."""
    picture: Path = Path("adapt.png")
    """The PNG or SVG file to draw: support set, queries, probabilities."""
    language: Literal["en", "zh"] = "en"
    """Language of the labels in it: English or Chinese."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the code that the run names, although you never used it on this machine."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON."""
    csv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print a table of comma-separated values."""


def main(argv: list[str]) -> int:
    """Parse `argv`, adapt, classify, print and draw; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop adapt", description=DESCRIPTION)
    if arguments.json and arguments.csv:
        raise UserError("give --json or --csv, not both")
    check_picture(arguments.picture)
    if not arguments.query:
        # Where the model was forgotten, the last word is taken for it.
        raise UserError(
            "--query names no pictures: give pictures, or folders of pictures "
            f"({arguments.model} is taken for the model)"
        )
    support = support_files(arguments.support)
    queries = query_files(arguments.query)
    place = arguments.background
    others = None if place is None else query_files((place,), "--background")
    learnt, names = labelled(support)
    check_place(arguments.picture, "--picture", [*learnt, *queries, *(others or ())])

    # PyTorch takes seconds to import, which --help should not wait for.
    from innerloop.plots.adaptation import plot_adaptation

    classifier, shape, white = _classifier(arguments, learnt)
    support_x, query_x = (
        read(files, shape or THUMBNAIL, arguments.model, arguments.grey, white)
        for files in (learnt, queries)
    )
    background: Any = others
    if others is not None and shape:
        background = read(others, shape, arguments.model, arguments.grey, white)
    classifier.fit(support_x if shape else learnt, names, background=background)
    labels, probabilities = classifier.tell(query_x if shape else queries, arguments.reject)
    answers = labels.tolist()
    classes = classifier.classes_.tolist()
    # As the network sees them, or as a pretrained one is given them.
    support_seen, query_seen = (
        classifier.prepared(x) if shape else x.scaled for x in (support_x, query_x)
    )
    picture = plot_adaptation(
        arguments.picture,
        classes,
        support_seen,
        names,
        query_seen,
        probabilities,
        list(map(str, queries)),
        refused=[answer is None for answer in answers],
        language=arguments.language,
    )
    results = [
        {
            "file": str(file),
            "class": answer,
            "probabilities": {c: float(p) for c, p in zip(classes, row, strict=True)},
        }
        for file, answer, row in zip(queries, answers, probabilities, strict=True)
    ]
    report = {
        "model": arguments.model,
        "support": {name: len(files) for name, files in support.items()},
        "ink": classifier.ink_,
        "prepare": classifier.prepare_,
        "head": classifier.head_,
        "fine_tuned": classifier.fine_tuned_,
        "reject": arguments.reject,
        "support_loss": classifier.support_loss_,
        "queries": results,
        "picture": str(picture),
    }
    _print(report, classes, arguments)
    return 0


def _classifier(
    arguments: Arguments, support: list[Path]
) -> tuple[FewShotClassifier, tuple[int, ...] | None, float | None]:
    """The classifier before it has learnt, and the shape and the white that pictures are read in.

    The shape is None where a pretrained network scales and crops pictures in its own way.
    """
    from innerloop.backbones.sources import is_backbone
    from innerloop.classifier import FewShotClassifier

    model: Any = arguments.model
    shape: tuple[int, ...] | None = None
    trained: float | None = None
    if not is_backbone(model):
        model = load_for_pictures(model, trust=arguments.trust)
        shape, trained = None if model.computed_by else model.input_shape, model.white
    white = white_of(support, arguments.white, trained)
    classifier = FewShotClassifier(
        model,
        inner_steps=arguments.inner_steps,
        bn=arguments.bn,
        ink=arguments.ink,
        prepare=arguments.prepare,
        weights=arguments.weights,
        preprocess=arguments.preprocess,
        image_size=arguments.image_size,
        head=arguments.head,
        views=arguments.views,
        layers=arguments.layers,
        fine_tune=arguments.fine_tune,
        # Where pictures are read here, it gets bytes, which are scaled already.
        white=white if shape is None else None,
    )
    return classifier, shape, white


def _print(report: dict[str, Any], classes: list[str], arguments: Arguments) -> None:
    queries = report["queries"]
    if arguments.json:
        show(json.dumps(report))
    elif arguments.csv:
        writer = csv.writer(result_stream(), lineterminator="\n")
        writer.writerow(["file", "class", *classes])
        for each in queries:
            shown = [f"{p:.4f}" for p in each["probabilities"].values()]
            writer.writerow([each["file"], each["class"] or "", *shown])
    else:
        files = [one_line(each["file"]) for each in queries]
        width = max(map(len, files))
        for file, each in zip(files, queries, strict=True):
            ranked = sorted(each["probabilities"].items(), key=lambda item: -item[1])
            (best, p), (second, q) = ranked[:2]
            told = f"{best}  {p:.0%}   (then {second}, {q:.0%})"
            if each["class"] is None:
                # A class may be called so.
                none = "refused" if NONE in classes else NONE
                told = f"{none}   (most like {best})"
            show(f"{file:<{width}}  {told}")
        if report["head"] is not None:
            show(f"told by {report['head']} on the features")
        if report["fine_tuned"] is not None:
            rate = report["fine_tuned"]
            done = (
                f"was fine-tuned at a rate of {rate:g}" if rate else "stays, no better fine-tuned"
            )
            show(f"the network {done}")
        if report["ink"] == "light":
            show("read as light strokes on dark paper; --ink dark says otherwise")
        if report["prepare"] == "ink":
            show("drawings were found on their paper and centred; --prepare none says otherwise")
        show(f"the picture is {report['picture']}")
