"""The page as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.demo.answers import Entry, episode_source, offered
from innerloop.demo.site import write_site
from tests.demo.browsing import Page, opened


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return offered([])


@pytest.fixture(scope="module")
def source(entries):
    return episode_source("glyphs", None, entries)


@pytest.fixture(scope="module")
def folder(entries, source, tmp_path_factory) -> Path:
    """The page."""
    folder = tmp_path_factory.mktemp("page") / "with a space"
    write_site(folder, entries, *source)
    return folder


@pytest.fixture
def page(chromium, folder) -> Iterator[Page]:
    """The page, opened as a file."""
    yield from opened(chromium, folder.as_uri() + "/index.html")


@pytest.fixture(scope="class")
def still(chromium, folder) -> Iterator[Page]:
    """The page, opened once for tests that ask its program and leave what it shows as it is."""
    yield from opened(chromium, folder.as_uri() + "/index.html")
