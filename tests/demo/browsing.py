"""What tests do with the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait


class Page:
    """What a person does and sees on the page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def wait(self, condition) -> None:
        # Long enough for a machine that does much else.
        WebDriverWait(self.driver, 120, 0.05).until(lambda _: condition())

    def draw(self, canvas: WebElement, *points: tuple[float, float]) -> None:
        """One stroke with the mouse, in shares of the canvas."""
        actions = ActionChains(self.driver, duration=20)
        for i, (x, y) in enumerate(points):
            at = [(v - 0.5) * canvas.size["width"] * 0.99 for v in (x, y)]
            actions.move_to_element_with_offset(canvas, *at)
            if i == 0:
                actions.click_and_hold()
        actions.release().perform()

    def draw_e_by_keys(self) -> None:
        """Take back both strokes of the first question, and draw the symbol of class E."""
        pad = self.pad
        self.driver.execute_script("arguments[0].focus()", pad)
        for key in (Keys.BACKSPACE, Keys.BACKSPACE):
            pad.send_keys(key)
        self.wait(lambda: "Draw a symbol" in self.text("#verdict"))
        pad.send_keys(*[Keys.ARROW_UP] * 8, Keys.SPACE, *[Keys.ARROW_DOWN] * 16, Keys.SPACE)
        pad.send_keys(*[Keys.ARROW_UP] * 10, *[Keys.ARROW_LEFT] * 6, Keys.SPACE)
        pad.send_keys(*[Keys.ARROW_RIGHT] * 12, Keys.SPACE)

    def told_by_python(self, capsys: pytest.CaptureFixture[str]) -> list[float]:
        """The last probabilities that the Python code of the page prints."""
        self.click("#python")
        self.wait(lambda: "FewShotClassifier" in self.text("#code"))
        exec(compile(self.text("#code"), "page", "exec"), {})
        *_, last = capsys.readouterr().out.splitlines()
        return list(eval(last.split(" ", 1)[1]).values())

    def step(self, number: int) -> None:
        """Set the slider."""
        self.driver.execute_script(
            "const s = document.getElementById('step'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))",
            number,
        )

    def probabilities(self) -> list[float]:
        self.settled()
        return self.driver.execute_script(
            "return [...document.querySelectorAll('#bars .fill')]"
            ".map((bar) => parseFloat(bar.style.width) / 100)"
        )

    def best(self) -> str:
        """The class that is marked as the answer, or "" if none is; waits for the answer."""
        self.settled()
        return self.driver.execute_script(
            "return document.querySelector('#bars li.best .name')?.textContent ?? ''"
        )

    def settled(self) -> None:
        self.wait(lambda: self.find("main").get_attribute("aria-busy") == "false")

    @property
    def pad(self) -> WebElement:
        return self.find("#pad canvas")

    def example(self, row: int, number: int = 1) -> WebElement:
        return self.all(f"#board li:nth-child({row + 1}) .example canvas")[number - 1]

    def errors(self) -> list[str]:
        """The browser's error messages since the last call."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def widths(self, width: int) -> dict[str, int]:
        """How wide the page is on a phone's screen of `width`, in each language."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        found = {}
        try:
            for language in ("en", "zh"):
                self.click(f"[data-language={language}]")
                found[language] = self.driver.execute_script(
                    "return document.documentElement.scrollWidth"
                )
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.click("[data-language=en]")
        return found


def opened(chromium: webdriver.Chrome, address: str, usual: str | None = None) -> Iterator[Page]:
    """The page at an address, once it has answered.

    It must not have found anything wrong, but for errors that have `usual` in them.
    """
    chromium.set_window_size(1280, 1000)
    chromium.get("about:blank")
    chromium.get(address + "?lang=en")
    page = Page(chromium)
    page.wait(lambda: len(page.all("#bars li")) == 5)
    page.settled()
    yield page
    assert [e for e in page.errors() if usual is None or usual not in e] == []


def ask(
    page: Page, model: str, support: list[list[str]], queries: list[str], prepare: str = "none"
) -> dict:
    """What the page computes for pictures, and the grey bytes that its network saw.

    As for one query after another, whose statistics are those of the support set.
    """
    page.driver.set_script_timeout(120)
    return page.driver.execute_async_script(
        """
        const [model, support, queries, prepare, done] = arguments;
        const drawing = (picture) => ({ picture, strokes: [] });
        // A browser has a worker, which keeps the networks that it was sent.
        const browser = (globalThis.asked ??= new innerloop.Browser(innerloop.site));
        const rows = support.map((own) => own.map(drawing));
        const shown = { model, support: rows, queries: queries.map(drawing), prepare };
        Promise.all([browser.learn({ ...shown, steps: 5 }), browser.pictures(shown)]).then(
          ([{ stages, prepared }, seen]) => done({
            prepared,
            steps: stages,
            support: seen.support.map((own) => own.map((pixels) => [...pixels])),
            queries: seen.queries.map((pixels) => [...pixels]),
          }))
        """,
        model,
        support,
        queries,
        prepare,
    )
