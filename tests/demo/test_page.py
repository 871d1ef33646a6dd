"""The page in a real browser: drawn on with a mouse, a finger and the keyboard."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.select import Select

from innerloop.demo import server
from innerloop.demo.answers import episode_source, offered
from tests.demo.browsing import Page, opened

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A running server."""
    entries = offered([])
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    app = server.create_app(entries, *episode_source("glyphs", None, entries), [host])
    ready = threading.Event()
    stopped: list[server.uvicorn.Server] = []
    thread = threading.Thread(
        target=server.serve, args=(app, listener, ready.set, stopped.append), daemon=True
    )
    thread.start()
    assert ready.wait(60)
    yield f"http://{host}:{port}/"
    stopped[0].should_exit = True
    thread.join(10)


@pytest.fixture
def page(chromium, address) -> Iterator[Page]:
    yield from opened(chromium, address, usual="status of 400")


def test_opens_with_five_symbols_and_an_answer(page):
    assert [e.text for e in page.all("#board .name")] == list("ABCDE")
    assert page.best() == "C"
    page.step(0)
    assert page.probabilities() == pytest.approx([0.2] * 5, abs=1e-5)
    assert page.all("#bars li.best") == []
    assert "before" in page.text("#step-name")


def test_drawn_with_the_mouse_the_right_class_wins_after_adaptation_and_chance_before(page):
    page.click("#clear")
    page.wait(lambda: "Draw a symbol" in page.text("#verdict"))
    # E, a cross with a ring, drawn again.
    page.draw(page.pad, (0.48, 0.2), (0.5, 0.5), (0.49, 0.85))
    page.draw(page.pad, (0.2, 0.45), (0.8, 0.4))
    ring = [(0.7 + 0.06 * np.cos(a), 0.68 + 0.06 * np.sin(a)) for a in np.linspace(0, 6.3, 9)]
    page.draw(page.pad, *ring)
    page.wait(lambda: page.best() == "E")
    assert page.probabilities()[4] > 0.6
    page.step(0)
    assert page.probabilities() == pytest.approx([0.2] * 5, abs=1e-5)


def test_a_class_is_added_drawn_and_recognised(page):
    page.click("#add-class")
    assert "F" in page.text("#board")
    page.wait(lambda: "Class F has nothing" in page.text("#verdict"))
    for canvas in (page.example(5), page.pad):
        if canvas == page.pad:
            page.click("#clear")
        for x in (0.25, 0.5, 0.75):
            page.draw(canvas, (x, 0.2), (x, 0.8))
    page.wait(lambda: len(page.all("#bars li")) == 6 and page.best() == "F")
    page.click("#board li:nth-child(6) > button")
    page.wait(lambda: len(page.all("#bars li")) == 5)


def test_examples_are_added_and_removed(page):
    page.click("#board li:nth-child(1) .examples > button")
    page.draw(page.example(0, 2), (0.3, 0.2), (0.3, 0.8), (0.7, 0.8))
    assert len(page.all("#board li:nth-child(1) canvas")) == 2
    page.click("#board li:nth-child(1) .example:nth-child(2) .erase")
    assert len(page.all("#board li:nth-child(1) canvas")) == 1


def test_there_are_two_to_ten_classes_and_one_to_five_examples(page):
    for _ in range(5):
        page.click("#add-class")
    assert not page.find("#add-class").is_enabled()
    for _ in range(8):
        # Showing an answer moves the buttons; a click at that moment would be lost.
        page.settled()
        page.click("#board li:last-child > button")
    assert len(page.all("#board li")) == 2
    assert not page.find("#board li > button").is_enabled()
    for _ in range(4):
        page.click("#board li:nth-child(1) .examples > button")
    assert not page.find("#board li:nth-child(1) .examples > button").is_enabled()


def test_the_language_changes_and_is_remembered(page, address):
    english = page.text("footer")
    page.click("[data-language=zh]")
    assert page.find("html").get_attribute("lang") == "zh-CN"
    assert "网络的判断" in page.text("main")
    assert page.text("footer") != english
    page.driver.get(address)
    page.wait(lambda: "网络" in page.text("main"))
    page.click("[data-language=en]")


def test_every_text_is_in_both_languages(page):
    english, chinese = page.driver.execute_script(
        "return ['en', 'zh'].map((language) => Object.keys(innerloop.WORDS[language]))"
    )
    assert sorted(english) == sorted(chinese)
    used = set(
        page.driver.execute_script(
            "return [...document.querySelectorAll('[data-text]')].map((e) => e.dataset.text)"
        )
    )
    assert used <= set(english)


def test_a_link_brings_the_drawing_back(page):
    page.click("#clear")
    page.draw(page.pad, (0.2, 0.2), (0.8, 0.8))
    page.click("#add-class")
    page.draw(page.example(5), (0.2, 0.2), (0.8, 0.8))
    Select(page.find("#model")).select_by_value("glyphs-conv4")
    page.wait(lambda: len(page.all("#bars li")) == 6)
    page.click("#share")
    page.wait(lambda: "#" in page.driver.current_url)
    # What is shown may still be the answer from before the drawing.
    page.settled()
    link, before = page.driver.current_url, page.probabilities()
    page.driver.get("about:blank")
    page.driver.get(link)
    page.wait(lambda: len(page.all("#bars li")) == 6)
    assert page.find("#model").get_attribute("value") == "glyphs-conv4"
    # The page may answer for what it begins with before it has read the link.
    page.wait(lambda: page.probabilities() == pytest.approx(before, abs=1e-4))


@pytest.mark.parametrize(
    "link", ["nonsense", "q1YqSy0qzszPU7Iy1FFKLErOyCxLVbICAA", "AAAA" * 60_000]
)
def test_a_link_that_is_none_says_so(page, address, link):
    page.driver.get("about:blank")
    page.driver.get(f"{address}#{link}")
    page.wait(lambda: "cannot be read" in page.text("#problem"))
    page.wait(lambda: len(page.all("#bars li")) == 5)


def test_the_networks_differ(page):
    seen = {}
    for card in ("omniglot-5steps", "omniglot-conv4", "omniglot-protonet", "untrained"):
        before = page.probabilities()
        Select(page.find("#model")).select_by_value(card)
        if card != "omniglot-5steps":
            page.wait(lambda before=before: page.probabilities() != before)
        seen[card] = page.probabilities()
    assert seen["untrained"][2] < seen["omniglot-5steps"][2]
    Select(page.find("#model")).select_by_value("omniglot-protonet")
    page.wait(lambda: not page.find("#step").is_enabled())
    assert "without inner steps" in page.text("#step-name")


def test_surprise_takes_an_episode(page):
    page.click("#surprise")
    page.wait(lambda: "(it was " in page.text("#verdict"))
    page.draw(page.pad, (0.1, 0.1), (0.9, 0.9))
    page.wait(lambda: "(it was " not in page.text("#verdict"))


def test_the_python_code_says_the_same(page, capsys):
    assert page.told_by_python(capsys) == pytest.approx(page.probabilities(), abs=6e-4)


def test_drawn_with_the_keyboard(page):
    page.draw_e_by_keys()
    page.wait(lambda: page.best() == "E")


def test_drawn_with_a_finger(page):
    page.click("#clear")
    pad = page.pad
    finger = PointerInput("touch", "finger")
    for stroke in (
        [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)],
        [(-0.1, 0), (0.1, 0)],
    ):
        builder = ActionBuilder(page.driver, mouse=finger, duration=30)
        for i, (x, y) in enumerate(stroke):
            width = pad.size["width"]
            builder.pointer_action.move_to(pad, int(x * width), int(y * width))
            if i == 0:
                builder.pointer_action.pointer_down()
        builder.pointer_action.pointer_up()
        builder.perform()
    page.wait(lambda: page.best() == "C")


def test_pictures_are_loaded_light_on_dark_too(page, tmp_path):
    """A photograph of A and one in white on black, neither square."""
    for i, (paper, ink) in enumerate([("#e8e2d0", "#30364a"), ("black", "white")]):
        image = Image.new("RGB", (400, 600), paper)
        for line in ((120, 110, 120, 480, 280, 480), (120, 290, 250, 290)):
            ImageDraw.Draw(image).line(line, fill=ink, width=16)
        image.save(tmp_path / f"{i}.png")
        page.click("#load-query")
        page.find("#files").send_keys(str(tmp_path / f"{i}.png"))
        page.wait(lambda: page.best() == "A")
        page.click("#clear")
        page.wait(lambda: "Draw a symbol" in page.text("#verdict"))
    (tmp_path / "no.png").write_text("no picture")
    page.click("#load-query")
    page.find("#files").send_keys(str(tmp_path / "no.png"))
    page.wait(lambda: "no.png cannot be read" in page.text("#problem"))
    Image.new("L", (300, 200), 128).save(tmp_path / "grey.png")
    page.click("#load-query")
    page.find("#files").send_keys(str(tmp_path / "grey.png"))
    page.wait(lambda: "grey.png looks blank" in page.text("#problem"))


def test_nothing_is_asked_of_another_host(page, address):
    hosts = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert hosts
    assert all(each.startswith((address, "data:")) for each in hosts)


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_sticks_out_on_a_narrow_screen(page, width):
    for language, wide in page.widths(width).items():
        assert wide <= width, language


def test_everything_to_press_has_a_name(page):
    nameless = page.driver.execute_script(
        "const used = 'button, select, input:not([hidden]), canvas[tabindex]';"
        "return [...document.querySelectorAll(used)]"
        ".filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []


def test_pictures_of_the_docs(page, tmp_path):
    """The pictures in the docs are taken by this (INNERLOOP_PICTURES names their folder)."""
    folder = Path(os.environ.get("INNERLOOP_PICTURES", tmp_path))
    for name, width, scale, language in [
        ("demo.png", 1280, 1, "en"),
        ("demo-zh.png", 1280, 1, "zh"),
        ("demo-phone.png", 390, 2, "en"),
    ]:
        size = {"width": width, "height": 860, "deviceScaleFactor": scale, "mobile": width < 500}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.click(f"[data-language={language}]")
        page.step(1)
        if width < 500:
            page.driver.execute_script("document.getElementById('ask').scrollIntoView()")
        page.driver.save_screenshot(str(folder / name))
        with Image.open(folder / name) as picture:
            assert picture.width == width * scale
    for name, language in [("demo.gif", "en"), ("demo-zh.gif", "zh")]:
        size = {"width": 1280, "height": 860, "deviceScaleFactor": 1, "mobile": False}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.click(f"[data-language={language}]")
        page.driver.execute_script("scrollTo(0, 0)")
        frames = []
        for step in range(int(page.find("#step").get_attribute("max")) + 1):
            page.step(step)
            page.settled()
            shown = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
            frames.append(shown.resize((960, 645)).quantize(96, dither=Image.Dither.NONE))
        # The first and the last frame stay longer.
        times = [1500, *[900] * (len(frames) - 2), 2500]
        frames[0].save(
            folder / name, save_all=True, append_images=frames[1:], duration=times, loop=0
        )
        with Image.open(folder / name) as moving:
            assert moving.n_frames == len(frames)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.click("[data-language=en]")
