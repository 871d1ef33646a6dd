"""`innerloop export`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import tyro

from innerloop.cli.output import show
from innerloop.cli.pictures import (
    check_place,
    labelled,
    load_for_pictures,
    read,
    support_files,
    white_of,
)
from innerloop.errors import UserError

DESCRIPTION = """Write what was learnt for runtimes without PyTorch.

With --support, a network that has learnt these classes: pictures in, probabilities out.
With --learner, the learner itself: support set, labels and pictures in, and out come the
probabilities before the first and after each inner step.

examples:
  innerloop export omniglot-conv4 --support symbols/ --out classifier.onnx
  innerloop export omniglot-5steps --learner --out learner.onnx
  innerloop export runs/first --support parts/ --out parts.pt2 --json"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to write, and where."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A run folder, a weights file, or weights that come with the package: omniglot-conv4,
    omniglot-5steps, omniglot-protonet, background-conv4, glyphs-conv4."""
    out: Path
    """The file to write, whose ending says the format: .onnx, or .pt2 of torch.export."""
    support: Path | None = None
    """Folder with one folder of pictures for each class."""
    learner: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the learner."""
    format: Literal["onnx", "torch-export"] | None = None
    """The format, whatever the ending."""
    inner_steps: int | None = None
    """Steps of gradient descent; by default as `adapt` takes them."""
    bn: Literal["support", "transductive"] = "support"
    """Batch statistics for queries: of the support set, or of all queries together."""
    ink: Literal["auto", "dark", "light"] = "auto"
    """Strokes are dark on light paper, or light on dark; for networks trained on ink."""
    white: float | None = None
    """The value of white in pictures of more than 8 bits; by default that of training, or the
    smallest of 255, 1023, 4095, 16383 and 65535 (1 for floating point) that no picture of the
    support set exceeds."""
    grey: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Turn coloured pictures of the support set into grey ones, for a network that takes grey."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the code that the run names, although you never used it on this machine."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Parse `argv` and write the file; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop export", description=DESCRIPTION)
    if arguments.learner == (arguments.support is not None):
        raise UserError(
            "give --support FOLDER for an adapted network, or --learner for the learner"
        )
    # Folders are looked at before PyTorch is imported, which takes seconds.
    support = None if arguments.support is None else support_files(arguments.support)
    check_place(arguments.out, "--out", [] if support is None else labelled(support)[0])

    from innerloop.backbones.sources import is_backbone
    from innerloop.exporting.write import FEATURES, export

    if is_backbone(arguments.model):
        raise UserError(FEATURES)
    steps, bn, ink = arguments.inner_steps, arguments.bn, arguments.ink
    if support is None:
        from innerloop.runs.loading import load

        loaded = load(arguments.model, trust=arguments.trust)
        told = export(
            loaded, arguments.out, inner_steps=steps, bn=bn, ink=ink, format=arguments.format
        )
    else:
        from innerloop.classifier import FewShotClassifier

        loaded = load_for_pictures(arguments.model, trust=arguments.trust)
        if loaded.computed_by:
            raise UserError(FEATURES)
        files, names = labelled(support)
        white = white_of(files, arguments.white, loaded.white)
        x = read(files, loaded.input_shape, arguments.model, arguments.grey, white)
        # What is exported takes pictures as they are.
        classifier = FewShotClassifier(loaded, inner_steps=steps, bn=bn, ink=ink, prepare="none")
        classifier.fit(x, names)
        told = classifier.export(arguments.out, format=arguments.format)
    size = arguments.out.stat().st_size
    if arguments.json:
        show(json.dumps({"file": str(arguments.out), "bytes": size, **told}, ensure_ascii=False))
        return 0
    show(f"{arguments.out}  {size / 1e3:,.0f} kB")
    for name, value in told.items():
        show(f"  {name:<12} {value}")
    return 0
