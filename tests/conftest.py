"""Fixtures for all tests: a cache folder of their own, and Omniglot where there is a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.data import ImageClasses
from innerloop.data.omniglot import omniglot

ARCHIVES = ("images_background.zip", "images_evaluation.zip")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never read or write the user's prepared data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_HOME", str(tmp_path_factory.mktemp("innerloop-home")))
        yield


@pytest.fixture(scope="session")
def omniglot_source() -> Path:
    """Folder with the two archives; tests that need them are skipped without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "omniglot"
    source = Path(os.environ.get("INNERLOOP_OMNIGLOT") or beside)
    if not all((source / name).is_file() for name in ARCHIVES):
        pytest.skip(f"no Omniglot archives in {source} (set INNERLOOP_OMNIGLOT to their folder)")
    return source


@pytest.fixture
def omniglot_by_default(omniglot_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`innerloop.data.omniglot()` finds the archives, here and in processes that are started."""
    monkeypatch.setenv("INNERLOOP_OMNIGLOT", str(omniglot_source))


@pytest.fixture(scope="session")
def omniglot_data(omniglot_source: Path) -> ImageClasses:
    """Omniglot, prepared once for all tests."""
    return omniglot(omniglot_source)
