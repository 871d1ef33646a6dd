"""The documentation's site, built and looked at in a real browser."""

from __future__ import annotations

import base64
import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

ROOT = Path(__file__).parent.parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
        capture_output=True,
    )
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("home", "words", "page"),
    [
        ("zh/index.html", "元学习", "zh/"),
        ("zh/index.html", "支持集", "zh/"),
        ("zh/index.html", "内循环", "zh/"),
        ("zh/index.html", "快速权重", "zh/"),
        ("index.html", "inner loop", "tutorial/"),
        ("index.html", "support set", "tutorial/"),
        ("index.html", "appears to not have been used in the graph", "tutorial/symptoms.html"),
    ],
)
def test_search_finds(home, words, page, site, chromium):
    chromium.get(site + home)
    chromium.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys(words)
    found = WebDriverWait(chromium, 30).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "a.md-search-result__link")
    )
    assert any(site + page in link.get_attribute("href") for link in found)
    assert len(found) >= 5 or page.endswith(".html")


@pytest.mark.parametrize("page", ["cheat-sheet.html", "zh/cheat-sheet.html"])
def test_the_cheat_sheet_is_one_page(page, site, chromium):
    chromium.get(site + page)
    document = base64.b64decode(chromium.print_page())
    assert len(re.findall(rb"/Type\s*/Page\b", document)) == 1
