"""Labels in both languages, and fonts for them."""

from __future__ import annotations

import ast
import re
import string
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

import innerloop
from innerloop.cli import main
from innerloop.errors import UserError
from innerloop.plots import figures, fonts
from innerloop.plots.words import CHINESE, words

PLOTS = Path(innerloop.__file__).parent / "plots"


def fields(entry: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(entry) if name)


def test_both_languages_fill_in_the_same():
    for english, chinese in CHINESE.items():
        assert fields(english) == fields(chinese)
        assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_every_label_has_chinese():
    said = [
        call.args[0].value
        for file in PLOTS.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "say"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert len(said) > 15
    assert set(said) <= set(CHINESE)


def test_another_language_is_refused():
    with pytest.raises(UserError, match="en or zh"):
        words("fr")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plot_writes_labels_as_text(language, inside):
    arguments = ["plot", "one [a]", "--language", language]
    assert main([*arguments, "--out", "x.svg"]) == 0
    drawn = Path("x.svg").read_text("utf-8")
    assert ("外循环迭代" in drawn) == (language == "zh")
    assert ("outer iteration" in drawn) == (language == "en")


def test_no_font_for_chinese_is_an_error_in_pixels_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "on_this_machine", lambda: ())
    figure = Figure()
    figure.text(0.5, 0.5, "内循环")
    with pytest.raises(UserError, match=r"Noto Sans CJK SC.*\.svg"):
        figures.save(figure, tmp_path / "x.png", "zh")
    assert not list(tmp_path.iterdir())
    figures.save(figure, tmp_path / "x.svg", "zh")
    assert "内循环" in (tmp_path / "x.svg").read_text("utf-8")


@pytest.mark.skipif(not fonts.on_this_machine(), reason="no Chinese font on this machine")
def test_chinese_is_drawn_in_pixels(tmp_path):
    drawn = []
    for name, text in (("a", "内循环"), ("b", "外循环")):
        figure = Figure()
        figure.text(0.5, 0.5, text)
        # A missing glyph would be a warning, which is an error in tests.
        with Image.open(figures.save(figure, tmp_path / f"{name}.png", "zh")) as picture:
            drawn.append(picture.tobytes())
    assert drawn[0] != drawn[1]


def test_names_in_other_characters_get_a_font_or_one_line(tmp_path):
    """One is in STIX, which comes with Matplotlib; for private ones there is no font."""
    for text, message in (
        ("\u2316", None),
        ("\U0010fffd\U0010fffc", "no font on this machine has"),
    ):
        figure = Figure()
        figure.text(0.5, 0.5, f"{text} nut")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            figures.save(figure, tmp_path / "x.png")
        assert [str(each.message)[:27] for each in said] == ([message] if message else [])
