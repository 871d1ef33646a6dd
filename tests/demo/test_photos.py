"""The page for photographs: its server, its command, and the page in a real browser."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from starlette.testclient import TestClient

from innerloop import UserError
from innerloop.cli import demo as command
from innerloop.cli import main
from innerloop.demo import photos, server
from tests.demo.browsing import Page

NETS = """
from torch import nn


def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
"""
HEIC = base64.b64encode(b"\0\0\0\x18ftypheic").decode()
COLOURS = {"sky": (60, 120, 220), "leaf": (40, 160, 60), "brick": (180, 70, 50)}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder of three things, and a network that sees colours."""
    home = tmp_path_factory.mktemp("photos")
    (home / "nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for i in range(4):
            folder = home / ("new" if i == 3 else f"photos/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            noise = generator.normal(0, 12, (2, 2, 3))
            picture = Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8))
            picture.resize((60 + i, 50), Image.Resampling.NEAREST).save(folder / f"{name}{i}.png")
    board = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("RGB")
    board.resize((50, 50), Image.Resampling.NEAREST).save(home / "new/strange.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield home


@pytest.fixture(scope="module")
def make():
    return photos.classifiers("nets.py:make", image_size=16)


@pytest.fixture(scope="module")
def client(make):
    from innerloop.cli.pictures import support_files

    support = support_files(Path("photos"))
    app = photos.create_photos_app(make, "nets.py:make", support, ["testserver"])
    with TestClient(app) as client:
        yield client


def png(file) -> str:
    return base64.b64encode(Path(file).read_bytes()).decode()


def question(**changes) -> dict:
    classes = [
        {"name": name, "pictures": [png(f) for f in sorted(Path("photos", name).iterdir())]}
        for name in COLOURS
    ]
    queries = [png(f"new/{name}3.png") for name in COLOURS] + [png("new/strange.png")]
    return {"classes": classes, "queries": queries, "reject": 0.05} | changes


def test_it_opens_with_the_folder(client):
    opening = client.get("/api/start").json()
    assert [thing["name"] for thing in opening["classes"]] == sorted(COLOURS)
    content = base64.b64decode(opening["classes"][0]["pictures"][0])
    assert Image.open(io.BytesIO(content)).size == (60, 50)
    for path in ("/", "/photos.js", "/words.js", "/photos.css", "/shared/style.css"):
        reply = client.get(path)
        assert reply.status_code == 200
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]


def test_the_page_knows_how_many_photos_it_can_ask_about(client):
    """Each number of `/api/start` is that of a question: one more is refused."""
    most = client.get("/api/start").json()["most"]
    one = png("new/sky3.png")
    thing = {"name": "a", "pictures": [one]}
    for part, number in most.items():
        for more in (0, 1):
            many = [one] * (number + more)
            changes = {
                "things": {"classes": [thing | {"name": str(i)} for i in range(number + more)]},
                "pictures": {"classes": [thing | {"pictures": many}, thing | {"name": "b"}]},
            }.get(part, {part: many})
            refused = pytest.raises(ValueError, match=f"at most {number} items")
            with refused if more else contextlib.nullcontext():
                photos.PhotoQuestion.model_validate(question(**changes))


def test_it_says_what_the_classifier_says(client, make):
    reply = client.post("/api/tell", json=question())
    assert reply.status_code == 200, reply.text
    told = reply.json()
    files = [f for name in COLOURS for f in sorted(Path("photos", name).iterdir())]
    classifier = make().fit(files, [list(COLOURS).index(f.parent.name) for f in files])
    queries = [f"new/{name}3.png" for name in COLOURS] + ["new/strange.png"]
    expected = classifier.predict_proba(queries)
    found = np.array([answer["probabilities"] for answer in told["answers"]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found[:3].argmax(axis=1) == range(3)).all()
    assert [answer["none"] for answer in told["answers"]] == [False] * 3 + [True]
    assert (told["head"], told["pictures"], told["needed"]) == (classifier.head_, 9, 19)


def test_background_and_what_cannot_be_refused(client):
    plain = client.post("/api/tell", json=question()).json()
    helped = client.post("/api/tell", json=question(background=[png("new/strange.png")] * 2)).json()
    assert helped["answers"] != plain["answers"]
    never = client.post("/api/tell", json=question(reject=None)).json()
    assert not any(answer["none"] for answer in never["answers"])
    single = question()
    for thing in single["classes"]:
        thing["pictures"] = thing["pictures"][:1]
    told = client.post("/api/tell", json=single).json()
    assert (told["pictures"], told["answers"][3]["none"]) == (0, False)


def test_two_copies_of_one_photo_are_nothing_to_go_by(client):
    asked = question()
    for thing in asked["classes"]:
        thing["pictures"] = thing["pictures"][:1] * 2
    reply = client.post("/api/tell", json=asked)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert (told["pictures"], told["needed"]) == (0, 0)
    assert not any(answer["none"] for answer in told["answers"])


@pytest.mark.filterwarnings("ignore:.* that another class has")
def test_it_opens_with_what_it_can_ask_about(make, monkeypatch):
    monkeypatch.setattr(photos, "_thumbnail", lambda file: png(file))
    file = Path("photos/sky/sky0.png")
    many = {"sky": [file] * 40 + [Path("photos/sky/sky1.png")] * 60, "leaf": [file] * 50}
    with pytest.warns(UserWarning, match="takes 50 pictures of each thing: .* of the 100 of sky"):
        app = photos.create_photos_app(make, "a", many, ["testserver"])
    with TestClient(app) as client:
        things = client.get("/api/start").json()["classes"]
        assert [len(thing["pictures"]) for thing in things] == [50, 50]
        assert things[0]["pictures"].count(png(file)) == 20
        asked = {"classes": things, "queries": [png(file)]}
        assert client.post("/api/tell", json=asked).status_code == 200
    for support, message in (
        ({f"c{i}": [file] for i in range(51)}, "51 folders of pictures, and the page takes 50"),
        ({"a": [file] * 2, "b": [file]}, "come to 0 MB, more than the page can ask"),
    ):
        monkeypatch.setattr(photos, "MAX_BODY", 3 * len(png(file)))
        with pytest.raises(UserError, match=message):
            photos.create_photos_app(make, "a", support, ["testserver"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": []}, "queries"),
        ({"classes": []}, "classes"),
        ({"reject": 1.5}, "reject"),
        ({"queries": ["AAAA"]}, "not a PNG or JPEG file in base64"),
        ({"queries": [HEIC]}, "a picture is HEIC, not PNG or JPEG: convert it"),
        ({"queries": ["?"]}, "queries.0"),
        ({"more": 1}, "more"),
    ],
)
def test_what_cannot_be_told_is_said(client, changes, message):
    reply = client.post("/api/tell", json=question(**changes))
    assert reply.status_code == 400
    assert message in reply.json()["error"]


def test_two_things_of_one_name_and_a_picture_that_is_too_large(client):
    asked = question()
    asked["classes"][1]["name"] = asked["classes"][0]["name"]
    assert "different names" in client.post("/api/tell", json=asked).json()["error"]
    buffer = io.BytesIO()
    Image.new("1", (photos.MAX_SIDE + 1, 1)).save(buffer, "PNG")
    large = [base64.b64encode(buffer.getvalue()).decode()]
    reply = client.post("/api/tell", json=question(queries=large))
    assert "scale it down" in reply.json()["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nets.py:make", "omniglot-conv4"], "give it alone"),
        (["nets.py:make", "--data", "omniglot"], "--data is for the page for drawings"),
        (["nets.py:make", "--site", "page"], "leave out --site"),
        (["nets.py:nothing"], "has no nothing"),
        (["nets.py:make", "--support", "nowhere"], "nowhere is not a folder"),
        (["--support", "photos"], "--support is for the page for photographs"),
        (["omniglot-conv4", "--image-size", "64"], "--image-size is for the page for photographs"),
        (["timm:resnet18"], r"innerloop\[timm\]"),
    ],
)
def test_the_command_says_what_does_not_go_together(words, message, capsys):
    assert main(["demo", *words, "--no-browser"]) == 2
    assert re.search(message, capsys.readouterr().err)


def served(monkeypatch, words) -> list:
    found: list = []
    monkeypatch.setattr(server, "serve", lambda app, *_: found.append(app))
    assert main(["demo", *words, "--no-browser"]) == 0
    return found


def test_the_command_serves_the_page_of_the_network(monkeypatch):
    (app,) = served(monkeypatch, ["nets.py:make", "--image-size", "16", "--support", "photos"])
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/api/start").json()["model"] == "nets.py:make"
        assert client.post("/api/tell", json=question()).status_code == 200


@pytest.mark.parametrize("body", [True, False], ids=["on a body", "on pixels"])
def test_runs_of_ones_own(body, monkeypatch, tmp_path):
    words = "--iterations 2 --val-tasks 2 --test-tasks 2 --n-way 2 --train-n-way 2 --k-query 1"
    more = ["--body", "nets.py:make", "--image-size", "16"] if body else ["--image-size", "28"]
    if not body:
        more += ["--inputs", "unit", "--width", "4"]
    for part, name in (("train", "sky"), ("val", "leaf"), ("test", "brick")):
        for i in range(2):
            folder = tmp_path / "parts" / part / f"{name}{i}"
            folder.mkdir(parents=True)
            for file in Path("photos", name).iterdir():
                shifted = Image.open(file).rotate(90 * i)
                shifted.save(folder / file.name)
    run, data = str(tmp_path / "run"), str(tmp_path / "parts")
    command_line = ["train", "--data", data, *words.split(), *more, "--eval-k-query", "1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*command_line, "--threads", "1", "--out", run]) == 0
    (app,) = served(monkeypatch, [run])
    with TestClient(app, base_url="http://localhost") as client:
        asked = question(reject=0.2)
        told = client.post("/api/tell", json=asked)
        assert told.status_code == 200, told.text
        assert len(told.json()["answers"][0]["probabilities"]) == 3


def test_a_network_for_drawings_stays_with_drawings(monkeypatch):
    (app,) = served(monkeypatch, ["omniglot-protonet"])
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/api/models").status_code == 200


@pytest.mark.long
def test_in_a_browser(chromium, make):
    """Three things with names and photos, a photo of one, and one of none of these."""
    listener = command._listen("127.0.0.1", 0)
    app = photos.create_photos_app(make, "nets.py:make", {}, ["127.0.0.1"])
    ready, stopped = threading.Event(), []
    thread = threading.Thread(
        target=server.serve, args=(app, listener, ready.set, stopped.append), daemon=True
    )
    thread.start()
    assert ready.wait(60)
    page = Page(chromium)
    chromium.get(f"http://127.0.0.1:{listener.getsockname()[1]}/?lang=en")
    page.wait(lambda: len(page.all(".thing")) == 3)  # two things, and all else
    page.click("#add")

    def give(selector: str, *files: Path) -> None:
        page.click(selector)
        page.find("#files").send_keys("\n".join(str(f.absolute()) for f in files))

    def told() -> list[str]:
        texts = "[...document.querySelectorAll('.answer h3')].map((e) => e.textContent)"
        return chromium.execute_script(f"return {texts}")

    chromium.execute_script("HTMLInputElement.prototype.click = () => {}")  # no dialog
    for i, name in enumerate(COLOURS):
        field = page.all("#things input")[i]
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(name, Keys.TAB)
        files = sorted(Path("photos", name).iterdir())
        give(
            f"#things .thing:nth-child({i + 1}) button[aria-label='Load photos of {name}']", *files
        )
        page.wait(lambda i=i: len(page.all(f"#things .thing:nth-child({i + 1}) img")) == 3)
    give("#load", Path("new/leaf3.png"), Path("new/strange.png"))
    page.wait(lambda: told()[1:] == ["None of these"])
    assert told()[0].startswith("leaf: ")
    assert "19 photos" in page.text("#status")
    # More than it can ask about are left out, and that is said, also once there is an answer.
    Path("broken.png").write_bytes(b"no picture")
    give("#load", *[Path("new/leaf3.png")] * 55, Path("broken.png"))
    page.wait(lambda: len(told()) == photos.MAX_QUERIES)
    said = page.text("#problem")
    assert re.search(r"\b8 photos are left out, as the page", said), said
    remove = "document.querySelector('.answer:last-child button').click()"
    chromium.execute_script(f"for (let i = 0; i < 48; i++) {remove}")
    page.wait(lambda: len(told()) == 2)
    Select(page.find("#reject")).select_by_index(0)
    page.wait(lambda: len(told()) == 2 and "None of these" not in told())
    page.click("[data-language=zh]")
    assert page.text("#ask").endswith("这是什么？")
    page.click("#things .thing:nth-child(1) button[aria-label='删除sky']")
    page.wait(lambda: len(page.all(".belief")) == 4)
    assert page.errors() == []
    stopped[0].should_exit = True
    thread.join(10)
