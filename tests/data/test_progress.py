"""A bar on a terminal where there is much to do, and nothing elsewhere."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image
from rich.errors import LiveError
from rich.progress import Progress

from innerloop import FewShotClassifier
from innerloop.cli import main
from innerloop.data.glyphs import glyphs
from innerloop.data.progress import LONG, bar_for_many, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def learnt():
    data = glyphs(20)
    support = np.concatenate([data.class_images(c)[:2, 0] for c in (0, 1)])
    return FewShotClassifier().fit(support, list("aabb")), support


@pytest.mark.parametrize("form", [np.asarray, list])
@pytest.mark.parametrize("number", [LONG, LONG + 1])
def test_many_pictures_have_a_bar_on_a_terminal_alone(form, number, learnt, monkeypatch):
    classifier, support = learnt
    many = form(np.resize(support, (number, 28, 28)))
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    plain = classifier.predict(many)
    monkeypatch.setattr("sys.stderr", terminal)
    assert (classifier.predict(many) == plain).all()
    assert pipe.getvalue() == ""
    assert ("finding the ink" in terminal.getvalue()) == (number > LONG)
    assert ("reading pictures" in terminal.getvalue()) == (number > LONG)


def test_adapt_shows_how_far_it_is(tmp_path, monkeypatch, capsys):
    data = glyphs(20)
    for name, c in (("support/a", 0), ("support/b", 1)):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(data.class_images(c)[0, 0]).save(tmp_path / name / "1.png")
    (tmp_path / "query").mkdir()
    for number in range(LONG + 1):
        Image.fromarray(data.class_images(0)[number % 10, 0]).save(tmp_path / f"query/{number}.png")
    monkeypatch.chdir(tmp_path)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    words = "adapt omniglot-conv4 --support support --query query --csv"
    assert main(words.split()) == 0
    assert f"{LONG + 1}/{LONG + 1}" in terminal.getvalue()
    assert len(capsys.readouterr().out.splitlines()) == LONG + 2


def test_a_second_bar_of_another_thread_is_left_out(monkeypatch):
    """Versions of rich before 14.1 have one on a terminal at a time, and raise for another."""
    monkeypatch.setattr("sys.stderr", Terminal())
    real, up = Progress.start, []

    def start(self):
        if up:
            raise LiveError("Only one live display may be active at once")
        up.append(self)
        real(self)

    monkeypatch.setattr(Progress, "start", start)
    with progress_bar("first", 2, shown=True) as first:
        failed = []

        def other():
            try:
                with bar_for_many("second", LONG + 1) as advance:
                    advance(1)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        first(1)
    assert not failed
    assert len(up) == 1
