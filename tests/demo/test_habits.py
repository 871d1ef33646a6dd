"""What people do on a page that they see for the first time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.keys import Keys

from tests.demo.browsing import Page, opened

pytestmark = pytest.mark.long


def seen(page: Page) -> str:
    page.settled()
    return page.find("#seen").get_attribute("src")


def only_stroke(page: Page) -> list[float]:
    """That of the query, once the link has it, which follows a drawing after a while."""

    def linked() -> list[list[float]]:
        return page.driver.execute_async_script(
            "const done = arguments[0]; innerloop.unpack(location.hash.slice(1))"
            ".then((state) => done(state.query.strokes))"
        )

    page.wait(lambda: len(linked()) == 1)
    return linked()[0]


def test_a_drawing_that_was_cleared_comes_back(page):
    before = seen(page)
    page.click("#clear")
    page.wait(lambda: "Draw a symbol" in page.text("#verdict"))
    page.click("#undo")
    page.wait(lambda: page.best() == "C")
    assert seen(page) == before
    # A second undo takes a stroke back, as ever.
    page.click("#undo")
    page.wait(lambda: seen(page) != before)


def test_the_way_back_leads_from_an_episode_to_ones_own_drawings(page):
    page.draw(page.pad, (0.1, 0.9), (0.9, 0.9))
    before = page.probabilities()
    page.click("#surprise")
    page.wait(lambda: "(it was " in page.text("#verdict"))
    page.driver.back()
    page.wait(lambda: "(it was " not in page.text("#verdict"))
    page.wait(lambda: page.probabilities() == pytest.approx(before, abs=1e-4))


def test_small_drawings_in_a_corner_are_found(page):
    """The switch shows what was done, and a link keeps it."""
    assert page.find("#prepare").is_selected()
    page.click("#clear")
    small = [(0.1, 0.1), (0.2, 0.1), (0.1, 0.2), (0.2, 0.2)]
    page.draw(page.pad, *small)
    page.draw(page.pad, (0.13, 0.15), (0.17, 0.15))
    page.wait(lambda: page.best() == "C")
    found = seen(page)
    page.click("#prepare")
    page.wait(lambda: seen(page) != found)
    assert not page.find("#prepare").is_selected()
    page.click("#share")
    # The address has the drawings once the button says so.
    page.wait(lambda: page.text("#share") != "Copy link")
    page.driver.refresh()
    page.wait(lambda: len(page.all("#bars li")) == 5)
    page.settled()
    assert not page.find("#prepare").is_selected()


def test_impatient_clicks_leave_the_button_its_name(page):
    share = page.find("#share")
    ActionChains(page.driver).double_click(share).perform()
    page.wait(lambda: share.text != "Copy link")
    page.wait(lambda: share.text == "Copy link")


def test_the_program_follows_the_drawing_and_can_be_closed(page):
    page.click("#python")
    page.wait(lambda: "FewShotClassifier" in page.text("#code"))
    before = page.text("#code")
    page.driver.execute_script("scrollTo(0, 0)")
    page.draw(page.pad, (0.1, 0.9), (0.9, 0.9))
    page.settled()
    assert "FewShotClassifier" in page.text("#code") != before
    page.click("#clear")
    page.wait(lambda: "Draw a symbol" in page.text("#code"))
    page.click("#python")
    assert not page.find("#code-box").is_displayed()


def test_the_keyboard_stays_where_something_was_removed(page):
    page.click("#board li:nth-child(2) .examples > button")
    for button in (
        "#board li:nth-child(2) .example:nth-child(2) .erase",
        "#board li:nth-child(2) > button",
    ):
        page.find(button).send_keys(Keys.ENTER)
        at = page.driver.execute_script(
            "const row = document.activeElement.closest('#board li');"
            "return [...document.getElementById('board').children].indexOf(row)"
        )
        assert at == 1
    page.settled()


def test_pictures_that_have_no_room_are_named(page, tmp_path):
    files = []
    for number in range(6):
        pixels = np.full((40, 40), 255, np.uint8)
        pixels[10:30, 5 * number + 3] = 0
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    page.click("#board li:nth-child(1) .examples > button:last-child")
    page.find("#files").send_keys("\n".join(map(str, files)))
    page.wait(lambda: "5.png is left out" in page.text("#problem"))
    assert "4.png is left out" in page.text("#problem")
    assert len(page.all("#board li:nth-child(1) canvas")) == 5
    # What is said about the page ends with the next change of a drawing.
    page.draw(page.pad, (0.1, 0.9), (0.9, 0.9))
    assert page.text("#problem") == ""


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(event, page):
    before, first = seen(page), page.probabilities()
    page.driver.execute_async_script(
        """
        const [name, done] = arguments;
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 60;
        const context = canvas.getContext("2d");
        context.fillStyle = "#fff";
        context.fillRect(0, 0, 60, 60);
        context.fillStyle = "#000";
        context.fillRect(10, 25, 40, 6);
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], "mine.png", { type: "image/png" }));
          const how = { bubbles: true, cancelable: true };
          const given = name === "drop"
            ? new DragEvent("drop", { ...how, dataTransfer: data })
            : new ClipboardEvent("paste", { ...how, clipboardData: data });
          document.body.dispatchEvent(given);
          done(given.defaultPrevented);
        });
        """,
        event,
    )
    page.wait(lambda: seen(page) != before)
    assert page.probabilities() != first


def test_a_line_that_leaves_the_paper_stays_on_it(page):
    page.click("#clear")
    actions = ActionChains(page.driver, duration=20).move_to_element(page.pad).click_and_hold()
    actions.move_by_offset(0, -250).release().perform()
    assert min(only_stroke(page)) == 0


def test_a_second_finger_draws_nothing(page):
    page.click("#clear")
    pad = page.pad
    builder = ActionBuilder(page.driver, mouse=PointerInput("touch", "first"), duration=20)
    other = builder.add_pointer_input("touch", "second")
    for pointer, x in ((builder.pointer_action, -60), (other, 60)):
        source = pointer.source if hasattr(pointer, "source") else pointer
        source.create_pointer_move(duration=20, x=x, y=0, origin=pad)
        source.create_pointer_down(button=0)
        source.create_pointer_move(duration=20, x=x, y=40, origin=pad)
        source.create_pointer_up(button=0)
    builder.perform()
    assert only_stroke(page)


def test_a_drawing_with_too_many_points_says_so(page):
    page.driver.execute_script(
        "const drawing = { picture: null, strokes: [] };"
        "const pad = new innerloop.Pad(drawing, 'x', (full) => (window.full = full));"
        "pad.begin([0, 0]);"
        "for (let i = 0; i < 5000; i++) pad.extend([i % 2 ? 900 : 100, i % 1000]);"
    )
    assert page.driver.execute_script("return window.full") is True


def test_drawings_too_large_for_a_link_keep_the_address(page):
    said = page.driver.execute_async_script(
        """
        const done = arguments[0];
        const numbers = innerloop.random(0);
        const next = () => Math.floor(1000 * numbers.next().value);
        const stroke = () => Array.from({ length: 4000 }, next);
        const many = Array.from({ length: 50 }, () => ({ picture: null, strokes: [stroke()] }));
        const state = { model: "x", support: [many], query: many[0] };
        innerloop.pack(state).then(() => done("packed"), (error) => done(error.message));
        """
    )
    assert said == "too long"


def test_it_works_in_a_folder_of_a_web_host(chromium, folder, web_host):
    address = web_host(folder.parent) + folder.name.replace(" ", "%20") + "/"
    for page in opened(chromium, address):
        assert page.best() == "C"
        page.driver.refresh()
        page.wait(lambda page=page: len(page.all("#bars li")) == 5)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_on_a_dark_screen_at_twice_the_size(language, page):
    """As wide as 1280 pixels are at 200%; words stand out from what is behind them."""
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert page.widths(640)[language] <= 640
        contrast = page.driver.execute_script(
            """
            const light = (color) => {
              const parts = color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
              const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
              const [r, g, b] = parts.map(linear);
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = (e) => {
              const color = getComputedStyle(e).backgroundColor;
              const clear = color.startsWith("rgba(0, 0, 0, 0");
              return clear && e.parentElement ? behind(e.parentElement) : color;
            };
            const kinds = "h1, h2, p, button:enabled, label, figcaption, #bars span";
            const words = [...document.querySelectorAll(kinds)]
              .filter((e) => e.checkVisibility() && e.textContent.trim());
            return Math.min(...words.map((e) => {
              const both = [light(getComputedStyle(e).color), light(behind(e))];
              return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
            }));
            """
        )
        assert contrast >= 4.5
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
