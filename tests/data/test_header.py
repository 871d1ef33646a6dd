"""Large pictures are refused by us, with their names, and not by Pillow beside us."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from innerloop import FewShotClassifier, UserError
from innerloop.data import pictures
from innerloop.data.header import open_header

# Warnings are errors here.


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Pictures above Pillow's limit and ours, but below that at which Pillow refuses them."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 90)
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        Image.new("L", (12, 10)).save(path)
    return paths


def test_one_message_for_a_large_picture(large):
    with pytest.raises(UserError, match=r"a\.png claims 12 x 10 pixels"):
        FewShotClassifier().fit(large, ["a", "b"])


def test_pillow_still_warns_others(large):
    before = list(warnings.filters)
    open_header(large[0]).close()
    assert warnings.filters == before
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(large[0])


def test_threads_leave_the_filters_of_others(large):
    def look(number):
        for _ in range(50):
            open_header(large[number % 2]).close()
            with pytest.raises(OSError, match="nowhere"):
                open_header("nowhere.png")

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, range(4)))
    assert warnings.filters == before
