"""The tutorial's pictures with Chinese labels, for the Chinese pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.pictures import translate
from matplotlib.figure import Figure

from innerloop.plots.figures import save


@contextlib.contextmanager
def also_in_chinese() -> Iterator[None]:
    """A context in which each picture saved as NAME.png is also saved as NAME.svg, in Chinese."""
    savefig = Figure.savefig

    def both(figure: Figure, name: str, **options: Any) -> None:
        savefig(figure, name, **options)
        translate(figure)
        with mock.patch.object(Figure, "savefig", savefig):
            save(figure, Path(name).with_suffix(".svg"))

    with mock.patch.object(Figure, "savefig", both):
        yield
