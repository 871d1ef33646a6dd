"""Draw the pictures of "Your own photos": `python -m tools.photos_picture`.

`innerloop adapt`, and the page of `innerloop demo`, on crops of three pictures that come with
scikit-image, and of a fourth that is none of them.  Writes `docs/img/photos.png` and, with Chinese
labels, `photos.svg`; and `demo-photos.png`, `demo-photos-zh.png`.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
from benchmarks.chromium import chromium
from benchmarks.photos import crop
from benchmarks.pictures import IMAGES, KINDS
from PIL import Image
from selenium.webdriver.support.wait import WebDriverWait
from uvicorn import Server

from innerloop.cli import main as innerloop
from innerloop.cli.pictures import support_files
from innerloop.demo.photos import classifiers, create_photos_app
from innerloop.demo.server import serve

THINGS = {"coffee": "coffee.png", "cat": "chelsea.png", "rocket": "rocket.jpg"}
STRANGE = "astronaut.png"
SUPPORT, QUERIES = 7, 2
NETS = """
from benchmarks.photos import lite0

def make():
    return lite0().network

pixels = lite0().preprocess
"""


def main() -> None:
    """Make the folders, run the command, and keep the picture."""
    import skimage

    home = Path(skimage.__file__).parent / "data"
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def save(file: str, path: Path) -> None:
            picture = Image.open(home / file).convert("RGB")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(picture, generator).transpose(1, 2, 0)).save(path)

        for thing, file in THINGS.items():
            for i in range(SUPPORT):
                save(file, place / "photos" / thing / f"{i}.png")
            for i in range(QUERIES):
                save(file, place / "new" / f"{thing}{i}.png")
        save(STRANGE, place / "new" / "else.png")
        (place / "nets.py").write_text(NETS)
        words = "nets.py:make --preprocess nets.py:pixels --support photos --query new"
        with contextlib.chdir(place):
            for kind, language in KINDS.items():
                target = str(IMAGES / f"photos.{kind}")
                pictured = ["--picture", target, "--language", language]
                if status := innerloop(["adapt", *words.split(), "--reject", "0.05", *pictured]):
                    raise SystemExit(status)
            picture_page(place)


def picture_page(place: Path) -> None:
    """The page of `innerloop demo` with these photos, in both languages."""
    make = classifiers("nets.py:make", preprocess="nets.py:pixels")
    support = support_files(place / "photos")
    app = create_photos_app(make, "timm:efficientnet_lite0.ra_in1k", support, ["127.0.0.1"])
    listener = socket.create_server(("127.0.0.1", 0))
    ready, servers = threading.Event(), list[Server]()
    thread = threading.Thread(target=serve, args=(app, listener, ready.set, servers.append))
    thread.start()
    questions = ["cat0", "rocket1", "else"]
    files = "\n".join(str(place / "new" / f"{name}.png") for name in questions)
    try:
        ready.wait()
        with chromium() as browser:
            browser.set_window_size(1280, 900)
            for language, name in (("en", "demo-photos"), ("zh", "demo-photos-zh")):
                address = f"http://127.0.0.1:{listener.getsockname()[1]}/?lang={language}"
                browser.get(address)
                # Without a dialog.
                browser.execute_script("HTMLInputElement.prototype.click = () => {}")
                waiting = WebDriverWait(browser, 120)
                waiting.until(lambda page: page.find_elements("css selector", ".photo img"))
                browser.find_element("id", "load").click()
                browser.find_element("id", "files").send_keys(files)
                waiting.until(lambda page: len(page.find_elements("css selector", "h3")) == 3)
                browser.save_screenshot(str(IMAGES / f"{name}.png"))
    finally:
        servers[0].should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
