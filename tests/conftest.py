"""Fixtures for all tests: a cache folder of their own, and Omniglot where there is a copy."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from benchmarks.chromium import chromium as chromium_browser
from benchmarks.chromium import is_there
from selenium import webdriver
from trials.small import blobs, not_drawn

import innerloop
from innerloop.data import ImageClasses
from innerloop.data.omniglot import omniglot
from innerloop.ops import kernels
from innerloop.plots import figures
from tests.once import shared_base
from tests.small_runs import SMALL

# The same examples every time, however slow the machine is.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

ARCHIVES = ("images_background.zip", "images_evaluation.zip")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that at the end no process waits long for another's last one."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never read or write the user's prepared data.

    The processes of one session share what is prepared, and several sessions where the environment
    names a folder for it.
    """
    base = shared_base(tmp_path_factory)
    home = Path(os.environ.get("INNERLOOP_TEST_HOME") or base / "innerloop-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_HOME", str(home))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Nothing waits until it is on the disk: tests kill processes, but pull no plug."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plot_run() -> Iterator[Callable[..., Path]]:
    """Runs end without their picture, which takes as long as a small run; with a file in its place.

    Gives the function that draws.  Processes that are started do, too.
    """
    whole = figures.plot_run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "plot_run", not_drawn)
        yield whole


@pytest.fixture
def rendered(_plot_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end with their pictures all the same."""
    monkeypatch.setattr(figures, "plot_run", _plot_run)


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


@pytest.fixture(scope="session")
def array(tmp_path_factory) -> Path:
    """A tiny data set as a file, from which something can be learnt."""
    return blobs(tmp_path_factory.mktemp("data") / "blobs.npy")


@pytest.fixture(scope="session")
def noise(tmp_path_factory) -> Path:
    """A tiny data set as a file, from which nothing can be learnt."""
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 1, 16, 16), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "noise.npy"
    np.save(path, images)
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory, noise) -> Path:
    """Two finished runs, one of regression, and one that was stopped."""
    folder = tmp_path_factory.mktemp("experiments")
    shutil.copy(noise, folder)
    data = str(folder / "noise.npy")
    innerloop.train(data=data, out=folder / "one [a]", **SMALL)
    innerloop.train(data=data, algorithm="protonet", out=folder / "deep/two", **SMALL)
    wave = {"iterations": 4, "val_every": 2, "val_tasks": 4, "test_tasks": 6, "threads": 1}
    config = innerloop.TrainConfig.recipe("maml", "sinusoid")
    innerloop.train(config, out=folder / "wave", **wave)
    shutil.copytree(folder / "one [a]", folder / "stopped")
    for name in ("results.json", "model.safetensors", "run.png"):
        (folder / "stopped" / name).unlink()
    return folder


@pytest.fixture
def inside(runs, monkeypatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser. Without one, tests are skipped, or fail where the environment requires one."""
    if not is_there():
        if os.environ.get("INNERLOOP_BROWSER") == "required":
            pytest.fail("there is no chromium and chromedriver")
        pytest.skip("no chromium and chromedriver (Debian: chromium, chromium-driver)")
    with chromium_browser() as chrome:
        yield chrome


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web_host() -> Iterator[Callable[[Path], str]]:
    """From a folder to the address at which a web server has it."""
    with contextlib.ExitStack() as stack:

        def serve(folder: Path) -> str:
            handler = functools.partial(_Quiet, directory=folder)
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join, 10)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield serve


@pytest.fixture(scope="module")
def episode():
    """Five glyphs that no network has seen: support and query images, bytes, dark on light."""
    data = innerloop.data.glyphs(300)
    rows = innerloop.data.split_classes(data)["test"][:5]
    support = np.concatenate([data.class_images(c)[:2, 0] for c in rows])
    query = np.concatenate([data.class_images(c)[2:12, 0] for c in rows])
    return support, np.repeat(list("cadbe"), 2), query, np.repeat(list("cadbe"), 10)


@pytest.fixture
def halves() -> None:
    """The build that would be chosen, where it and the processor multiply bfloat16 numbers."""
    if not kernels.halves():
        pytest.skip("no compiled kernels here that multiply bfloat16 numbers")
