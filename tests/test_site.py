"""The documentation's site, built and looked at in a real browser."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from torch.func import functional_call

import innerloop
from tests.once import made_once

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, web_host: Callable[[Path], str]) -> str:
    """The address of the site."""

    def build(folder: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            check=True,
            capture_output=True,
        )

    return web_host(made_once(tmp_path_factory, "site", build))


def test_every_picture_is_there(site, chromium):
    for page in ("demo.html", "zh/demo.html", "index.html", "zh/index.html", "photos.html"):
        chromium.get(site + page)
        broken = chromium.execute_async_script(
            """
            const done = arguments[0];
            const all = [...document.images];
            for (const image of all) image.loading = "eager";
            Promise.allSettled(all.map((image) => image.decode())).then(() => {
              done(all.filter((image) => !image.naturalWidth).map((image) => image.src));
            });
            """
        )
        assert broken == []


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


# ---- figures that answer ----


def shown(chromium, address: str, figure: str) -> WebElement:
    chromium.set_window_size(1000, 1000)
    chromium.get(address)
    place = chromium.find_element(By.CSS_SELECTOR, f"[data-figure={figure}]")
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    return place


def press(chromium, place: WebElement, selector: str) -> None:
    chromium.execute_script("arguments[0].click()", place.find_element(By.CSS_SELECTOR, selector))


def slide(chromium, slider: WebElement, value: int) -> None:
    chromium.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        slider,
        value,
    )


def test_the_sine_figure_takes_the_inner_steps_of_python(site, chromium):
    place = shown(chromium, site + "tutorial/why-it-works.html", "sine")
    network = innerloop.models.MLP(1, 1, hidden=(40, 40)).double()
    maml = innerloop.MAML(network, inner_lr=0.01, inner_steps=1, loss=F.mse_loss)
    for start in ("meta", "joint", "random"):
        press(chromium, place, f"[data-start={start}]")
        weights, points, losses, curves = chromium.execute_script(
            "const { figure } = arguments[0];"
            "return [[...figure.weights[figure.start]], figure.points,"
            " figure.stages.map((stage) => stage.loss),"
            " figure.stages.map(({ weights }) => sineNetwork.value(weights, 1.5))]",
            place,
        )
        parts = torch.tensor(weights, dtype=torch.float64).split([40, 40, 1600, 40, 40, 1])
        params = {
            name: part.view(p.shape)
            for (name, p), part in zip(network.named_parameters(), parts, strict=True)
        }
        x, y = torch.tensor(points, dtype=torch.float64).split(1, dim=1)
        at = torch.tensor([[1.5]], dtype=torch.float64)
        steps = maml.inner_loop(params, x, y, inner_steps=10)
        for fast, loss, curve in zip(steps, losses, curves, strict=True):
            assert loss == pytest.approx(F.mse_loss(functional_call(network, fast, x), y).item())
            assert curve == pytest.approx(functional_call(network, fast, at).item(), abs=1e-9)


def test_points_of_the_sine_figure_are_moved_by_mouse_and_keyboard(site, chromium):
    place = shown(chromium, site + "index.html", "sine")
    points = place.find_elements(By.CSS_SELECTOR, "circle")
    curve = place.find_element(By.CSS_SELECTOR, ".curve")
    seen = [curve.get_attribute("d")]
    ActionChains(chromium).drag_and_drop_by_offset(points[0], 5, -60).perform()
    seen.append(curve.get_attribute("d"))
    chromium.execute_script("arguments[0].focus()", points[1])
    ActionChains(chromium).send_keys(Keys.ARROW_UP, Keys.ARROW_UP).perform()
    seen.append(curve.get_attribute("d"))
    slide(chromium, place.find_element(By.CSS_SELECTOR, "input"), 7)
    seen.append(curve.get_attribute("d"))
    assert "after 7 inner steps" in place.text
    press(chromium, place, ".other")
    seen.append(curve.get_attribute("d"))
    assert len(set(seen)) == len(seen)


def test_the_episode_figure_draws_what_it_says(site, chromium):
    place = shown(chromium, site + "tutorial/data.html", "episodes")
    for name, value in (("n", 4), ("k", 3), ("q", 2)):
        slide(chromium, place.find_element(By.CSS_SELECTOR, f"[data-size={name}]"), value)
    assert "4-way 3-shot: 12 pictures to learn from, 8 to answer" in place.text
    for part, labels in (("pool", "0123"), ("support", "000111222333"), ("query", "?" * 8)):
        tiles = place.find_elements(By.CSS_SELECTOR, f".{part} .labelled b")
        assert "".join(sorted(tile.text for tile in tiles)) == labels
    press(chromium, place, ".answers")
    answers = [tile.text for tile in place.find_elements(By.CSS_SELECTOR, ".query b")]
    assert sorted(answers) == list("00112233")
    symbols = "return [...arguments[0].querySelectorAll('.support .symbol, .query .symbol')].map("
    symbols += "(symbol) => symbol.style.backgroundPosition)"
    first = chromium.execute_script(symbols, place)
    assert len(set(first)) == len(first) == 20
    press(chromium, place, ".again")
    assert chromium.execute_script(symbols, place) != first


def test_the_exhibit_shows_what_its_bug_costs(site, chromium):
    place = shown(chromium, site + "tutorial/bugs.html", "exhibit")

    def right() -> int:
        WebDriverWait(chromium, 60).until(lambda _: "right" in said.text)
        marks = place.find_elements(By.CSS_SELECTOR, ".tile.right")
        assert f"{len(marks)} of 25" in said.text
        return len(marks)

    WebDriverWait(chromium, 60).until(
        lambda _: (
            place.find_elements(By.CSS_SELECTOR, ".said")
            and len(place.find_elements(By.CSS_SELECTOR, ".rows .tile")) == 30
        )
    )
    said = place.find_element(By.CSS_SELECTOR, ".said")
    without = right()
    press(chromium, place, ".bug")
    found = {}
    for way in ("all", "class", "one"):
        press(chromium, place, f"[data-way={way}]")
        found[way] = right()
    assert without >= 22
    assert found["all"] >= 22
    assert found["class"] < without - 3
    assert found["one"] <= without
    press(chromium, place, ".bug")
    assert right() == without


@pytest.mark.parametrize("width", [360, 768])
@pytest.mark.parametrize(
    "page",
    [
        "index.html",
        "zh/index.html",
        "tutorial/data.html",
        "zh/tutorial/why-it-works.html",
        "tutorial/bugs.html",
    ],
)
def test_figures_fit_on_a_narrow_screen(page, width, site, chromium):
    size = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        chromium.get(site + page)
        place = chromium.find_element(By.CSS_SELECTOR, "[data-figure]")
        WebDriverWait(chromium, 60).until(lambda _: "…" not in place.text)
        assert place.find_elements(By.TAG_NAME, "button")
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_there_is_a_picture(site, chromium):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(site + "index.html")
        place = chromium.find_element(By.CSS_SELECTOR, "[data-figure=sine]")
        assert place.find_element(By.TAG_NAME, "img").size["width"] > 300
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("home", ["index.html", "zh/index.html"])
def test_the_drawing_page_is_a_part_of_the_site(home, site, chromium):
    chromium.get(site + home)
    link = chromium.find_element(By.CSS_SELECTOR, "a.md-button[href*='draw/']")
    chromium.get(link.get_attribute("href"))
    WebDriverWait(chromium, 30).until(
        lambda driver: len(driver.find_elements(By.CSS_SELECTOR, "#bars li")) == 5
    )
    assert chromium.execute_script("return document.documentElement.lang") == (
        "zh-CN" if home.startswith("zh") else "en"
    )


def test_pictures_of_the_figures(site, chromium, tmp_path):
    """Those that stand there without scripts (INNERLOOP_PICTURES names their folder)."""
    folder = Path(os.environ.get("INNERLOOP_PICTURES", tmp_path))
    for name, page, figure in [
        ("sine-figure.png", "tutorial/why-it-works.html", "sine"),
        ("sine-figure-zh.png", "zh/tutorial/why-it-works.html", "sine"),
        ("episode-figure.png", "tutorial/data.html", "episodes"),
        ("episode-figure-zh.png", "zh/tutorial/data.html", "episodes"),
        ("exhibit-figure.png", "tutorial/bugs.html", "exhibit"),
        ("exhibit-figure-zh.png", "zh/tutorial/bugs.html", "exhibit"),
    ]:
        place = shown(chromium, site + page, figure)
        if figure == "exhibit":
            press(chromium, place, ".bug")
            WebDriverWait(chromium, 60).until(
                lambda _, place=place: len(place.find_elements(By.CSS_SELECTOR, ".rows .wrong")) > 3
            )
        (folder / name).write_bytes(place.screenshot_as_png)
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
