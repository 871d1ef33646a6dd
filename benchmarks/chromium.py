"""A headless browser for measurements and tests of pages."""

from __future__ import annotations

import shutil

from selenium import webdriver

NEEDED = ("chromium", "chromedriver")
ARGUMENTS = (
    *("headless=new", "no-sandbox", "disable-dev-shm-usage", "lang=en-US", "hide-scrollbars"),
    # How large a window is without it differs between versions; narrow pages hide their search.
    "window-size=1280,1000",
)


def is_there() -> bool:
    """Whether this machine has Chromium and its driver (Debian: chromium, chromium-driver)."""
    return all(map(shutil.which, NEEDED))


def chromium() -> webdriver.Chrome:
    """A browser, to be closed by its context manager; its logs are kept."""
    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(f"--{argument}")
    browser, driver = map(shutil.which, NEEDED)
    assert browser is not None
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
