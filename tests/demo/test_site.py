"""The page as files: what is written, and what a real browser computes with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from selenium.webdriver.support.select import Select

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.data import glyphs
from innerloop.data.polarity import darkness_of_ink
from innerloop.demo.answers import Entry, as_png
from innerloop.demo.site import write_site
from tests.demo.browsing import Page, opened

in_a_browser = [pytest.mark.long, pytest.mark.alone]


def facts(folder: Path) -> dict:
    text = (folder / "networks.js").read_text("utf-8")
    return json.loads(text.removeprefix("innerloop.site = ").removesuffix(";\n"))


def test_the_page_is_small_and_knows_its_size(folder):
    first, total = facts(folder)["kilobytes"]
    sizes = {file.name: file.stat().st_size / 1000 for file in folder.iterdir()}
    assert total == pytest.approx(sum(sizes.values()), abs=1)
    assert total < 2000
    later = [name for name in sizes if name == "symbols.js" or name.startswith("network-")]
    later.remove(facts(folder)["networks"]["omniglot-5steps"]["file"])
    assert first == pytest.approx(total - sum(sizes[name] for name in later), abs=1)


def test_the_page_names_no_other_host(folder):
    for file in folder.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("http-equiv", ""), file.name


def test_it_is_written_again_but_never_over_another_page(entries, source, tmp_path):
    files = write_site(tmp_path / "page", entries, *source)
    assert write_site(tmp_path / "page", entries, *source) == files
    fewer = write_site(tmp_path / "page", dict([*entries.items()][:2]), *source)
    assert set(fewer) == set((tmp_path / "page").iterdir()) < set(files)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("mine")
    with pytest.raises(UserError, match="another page"):
        write_site(tmp_path / "other", entries, *source)
    assert (tmp_path / "other" / "index.html").read_text() == "mine"
    with pytest.raises(UserError, match="is a file"):
        write_site(files[0], entries, *source)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"algorithm": "imaml"}, "IMAML"),
        ({"model": "resnet12"}, "ResNet12"),
        ({"pool": "stride"}, "pool: max"),
        ({"inner_momentum": 0.9}, "momentum"),
        ({"inner_max_norm": 1.0}, "clipping"),
        ({"head": "linear", "train_n_way": None}, "head: shared"),
        ({"algorithm": "protonet", "distance": "cosine"}, "euclidean"),
    ],
)
def test_networks_that_the_page_cannot_run_are_refused(changes, named, entries, source, tmp_path):
    entry = entries["untrained"]
    config = dataclasses.replace(entry.loaded.config, **changes)
    loaded = entry.loaded._replace(config=config).untrained()
    with pytest.raises(UserError, match=named):
        write_site(tmp_path / "page", {"mine": entry._replace(loaded=loaded)}, *source)
    assert not (tmp_path / "page").exists()


# ---- in a browser ----


def ask(
    page: Page, model: str, support: list[list[str]], query: str, prepare: str = "none"
) -> dict:
    """What the page computes for pictures, and the grey bytes that its network saw."""
    page.driver.set_script_timeout(120)
    return page.driver.execute_async_script(
        """
        const [model, support, query, prepare, done] = arguments;
        const drawing = (picture) => ({ picture, strokes: [] });
        const browser = new innerloop.Browser(innerloop.site);
        const rows = support.map((own) => own.map(drawing));
        const question = { model, support: rows, query: drawing(query), steps: 5, prepare };
        const shown = { model, support: rows, queries: [question.query], prepare };
        Promise.all([browser.predict(question), browser.pictures(shown)]).then(
          ([answer, seen]) => done({
            ...answer,
            support: seen.support.map((own) => own.map((pixels) => [...pixels])),
            query: [...seen.queries[0]],
          }))
        """,
        model,
        support,
        query,
        prepare,
    )


def pictures(page: Page, ways: int, shots: int, seed: int = 0) -> tuple[list[list[str]], str]:
    """An episode of the page's own."""
    found = page.driver.execute_async_script(
        "const [ways, shots, seed, done] = arguments;"
        "new innerloop.Browser(innerloop.site).episode(ways, shots, seed).then(done)",
        ways,
        shots,
        seed,
    )
    return found["support"], found["query"]


def compare(page: Page, entry: Entry, model: str, support: list[list[str]], query: str) -> None:
    """The page's answer, at every inner step, with Python's for the bytes that the page saw."""
    seen = ask(page, model, support, query)
    square = (-1, *entry.loaded.input_shape[1:])
    x = np.array([x for own in seen["support"] for x in own], np.uint8).reshape(square)
    y = [i for i, own in enumerate(support) for _ in own]
    classifier = FewShotClassifier(entry.loaded, inner_steps=5, ink="dark", prepare="none").fit(
        x, y
    )
    stages = classifier.staged_predict_proba(np.array(seen["query"], np.uint8).reshape(square))
    for mine, theirs, loss in zip(stages, seen["steps"], classifier.support_loss_, strict=True):
        assert theirs["probabilities"] == pytest.approx(mine[0].tolist(), abs=1e-4)
        assert theirs["support_loss"] == pytest.approx(loss, abs=1e-4)


class TestIsPython:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("model", [*innerloop.pretrained_names(), "untrained"])
    @pytest.mark.parametrize("ways", [2, 10])
    def test_at_every_inner_step(self, model, ways, page, entries):
        """With as many drawings as there can be, and unequally many."""
        support, query = pictures(page, ways, 5)
        support[0] = support[0][: 2 if ways == 2 else 5]
        compare(page, entries[model], model, support, query)

    def test_with_networks_of_ones_own(self, chromium, entries, source, tmp_path):
        """Of every algorithm that the page has; what is learnt differs from how it starts."""
        first = entries["untrained"]
        own = {
            "reptile": (20, {"width": 7, "unit_features": False, "inner_lr": 0.1}),
            "maml": (40, {"width": 6, "inner_reduction": "mean", "seed": 1}),
            "protonet": (36, {"width": 5}),
            "anil": (28, {"width": 6}),
            "meta-sgd": (28, {"width": 6, "inner_steps": 2}),
            "maml++": (28, {"width": 6, "inner_steps": 3}),
            "fine-tune": (28, {"width": 6}),
            "maml, in part": (28, {"width": 6, "adapted": "convs.2.*,norms.1.*,head.*"}),
            "maml, by name": (28, {"width": 6, "inner_lr": {"head.*": 0.05, "*": 0.02}}),
        }
        made = {}
        random = torch.Generator().manual_seed(0)
        for name, (side, changes) in own.items():
            algorithm = name.split(",")[0]
            config = dataclasses.replace(first.loaded.config, algorithm=algorithm, **changes)
            loaded = first.loaded._replace(config=config, input_shape=(1, side, side)).untrained()
            params = {
                key: p * (1 + 0.2 * torch.randn(p.shape, generator=random))
                for key, p in loaded.params.items()
            }
            made[name] = first._replace(loaded=loaded._replace(params=params))
        write_site(tmp_path / "page", entries | made, *source)
        for page in opened(chromium, (tmp_path / "page" / "index.html").as_uri()):
            support, query = pictures(page, 4, 2)
            for name, entry in made.items():
                compare(page, entry, name, support, query)


class TestInTheBrowser:
    pytestmark = in_a_browser

    def test_statistics_of_the_queries_are_those_of_python(self, page, entries):
        """One at a time, two at a time, and all together."""
        support, _ = pictures(page, 5, 1)
        _, queries = pictures(page, 5, 1, seed=1)
        queries = [*[row[0] for row in support[:3]], queries]
        for together in (1, 2, 4):
            found, seen, labelled = page.driver.execute_async_script(
                """
                const [support, queries, together, done] = arguments;
                const drawing = (picture) => ({ picture, strokes: [] });
                const browser = new innerloop.Browser(innerloop.site);
                const question = {
                  model: "omniglot-5steps", support: support.map((own) => own.map(drawing)),
                  queries: queries.map(drawing), steps: 3,
                };
                const both = [browser.learn(question, { together }), browser.pictures(question)];
                Promise.all(both).then(([{ stages, seen }, { support }]) => done([
                  stages.at(-1).probabilities, seen.map((x) => [...x]),
                  support.map(([x]) => [...x]),
                ]));
                """,
                support,
                queries,
                together,
            )
            x, asked = (np.array(each, np.uint8).reshape(-1, 28, 28) for each in (labelled, seen))
            classifier = FewShotClassifier(
                entries["omniglot-5steps"].loaded,
                inner_steps=3,
                ink="dark",
                bn="transductive",
                prepare="none",
            ).fit(x, range(5))
            parts = [
                classifier.predict_proba(asked[i : i + together]) for i in range(0, 4, together)
            ]
            assert np.array(found) == pytest.approx(np.concatenate(parts), abs=1e-4)

    def test_opens_from_a_file_with_an_answer(self, page):
        assert page.driver.current_url.startswith("file:")
        assert page.best() == "C"
        page.step(0)
        assert page.probabilities() == pytest.approx([0.2] * 5, abs=1e-5)

    def test_opens_from_a_web_host_and_asks_no_other(self, chromium, folder, web_host):
        address = web_host(folder)
        for page in opened(chromium, address + "index.html"):
            assert page.best() == "C"
            page.click("#surprise")
            page.wait(lambda page=page: "(it was " in page.text("#verdict"))
            asked = page.driver.execute_script(
                "return performance.getEntriesByType('resource').map((entry) => entry.name)"
            )
            assert asked
            assert all(name.startswith((address, "data:", "blob:")) for name in asked)

    def test_says_how_large_it_is(self, page, folder):
        for number in facts(folder)["kilobytes"]:
            assert f"{number} kB" in page.text("#local")
        page.click("[data-language=zh]")
        assert "没有服务器" in page.text("#local")
        page.click("[data-language=en]")

    def test_pictures_are_made_smaller_as_pillow_does(self, page):
        pixels = np.random.default_rng(0).integers(0, 256, (105, 105), np.uint8)
        for size in (28, 105, 40, 150):
            found = page.driver.execute_script(
                "const [pixels, side, size] = arguments;"
                "return [...innerloop.resize(Uint8Array.from(pixels), side, size)]",
                pixels.flatten().tolist(),
                105,
                size,
            )
            scaled = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
            assert found == np.asarray(scaled).flatten().tolist()

    def test_dark_ink_is_told_as_python_tells_it(self, page):
        rng = np.random.default_rng(0)
        drawings = glyphs(30, per_class=1).images[:, 0].astype(np.float64)
        pictures = []
        for number, drawing in enumerate(drawings):
            height, width = rng.integers(8, 57, 2) if number % 3 else (28, 28)
            x = np.asarray(Image.fromarray(drawing.astype(np.uint8)).resize((width, height)))
            v, u = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            x = x * (1 - rng.uniform(0, 0.4) * (u * u + v * v)) + rng.normal(0, 5, x.shape)
            x = np.pad(x, number % 4, constant_values=int(rng.choice([20, 240])))
            x = (255 - x if number % 2 else x).clip(0, 255)
            pictures.append((rng.choice([0.4, 1]) * x).astype(np.uint8))
        pictures.append(np.full((5, 3), 80, np.uint8))
        expected = [float(darkness_of_ink(x[None, None])[0]) for x in pictures]
        assert min(expected) < -0.5 < 0.5 < max(expected)
        found = page.driver.execute_script(
            "return arguments[0].map(([x, w, h]) => innerloop.darknessOfInk(x, w, h))",
            [(x.flatten().tolist(), x.shape[1], x.shape[0]) for x in pictures],
        )
        np.testing.assert_allclose(found, expected, atol=1e-9)

    @pytest.mark.parametrize("light", [1, 0.4], ids=["by day", "in the evening"])
    @pytest.mark.parametrize("frame", [0, 8], ids=["", "framed"])
    def test_a_file_becomes_dark_strokes_on_white(self, page, light, frame):
        paper = Image.new("L", (200, 200), round(255 * light))
        ImageDraw.Draw(paper).line(
            [(60, 40), (60, 160), (150, 160)], fill=round(60 * light), width=14
        )
        picture = np.asarray(paper).copy()
        if frame:
            picture[:frame] = picture[-frame:] = picture[:, :frame] = picture[:, -frame:] = 10
        for given in (picture, 255 - picture):
            text = as_png(given)
            pixels, side = page.driver.execute_async_script(
                """
                const [text, done] = arguments;
                fetch("data:image/png;base64," + text)
                  .then((found) => found.blob())
                  .then((blob) => innerloop.fromFile(blob))
                  .then((drawing) => innerloop.toGrey(drawing))
                  .then(({ pixels, side }) => done([[...pixels], side]));
                """,
                text,
            )
            found = np.array(pixels).reshape(side, side)
            inner = found[side // 10 : -side // 10, side // 10 : -side // 10]
            assert np.median(inner) > 240
            assert found[round(0.5 * side), round(0.3 * side)] < 80

    def test_products_are_the_same_with_webassembly_and_without(self, page):
        """And the same as JavaScript's own products, for sizes that fill no tile."""
        fast, differences = page.driver.execute_script(
            """
            const made = [new innerloop.Matrices(), new innerloop.Matrices(true)];
            const sizes = [[1, 1, 1], [5, 9, 3], [4, 40000, 8], [33, 7, 70]];
            const differences = sizes.map(([m, k, n]) => {
              const a = Float32Array.from({ length: m * k }, (_, i) => Math.sin(i));
              const b = Float32Array.from({ length: k * n }, (_, i) => Math.cos(3 * i));
              const pack = (floats, start, column, count) => {
                for (let i = 0; i < k; i++)
                  for (let j = 0; j < count; j++)
                    floats[start + i * innerloop.TILE_COLUMNS + j] = b[i * n + column + j];
              };
              const products = made.map((each) => each.multiply(a, m, k, n, pack));
              let most = 0;
              for (let i = 0; i < m * n; i++) {
                let sum = 0;
                const row = Math.floor(i / n);
                for (let l = 0; l < k; l++) sum += a[row * k + l] * b[l * n + (i % n)];
                for (const each of products) most = Math.max(most, Math.abs(each[i] - sum));
              }
              return most;
            });
            return [made.map((each) => each.fast), differences];
            """
        )
        assert fast == [True, False]
        assert max(differences) < 1e-3

    @pytest.mark.filterwarnings("ignore:.*look blank:UserWarning")
    @pytest.mark.parametrize("framed", ["none", "all", "asked"])
    @pytest.mark.parametrize("prepare", ["auto", "ink", "none"])
    def test_the_ink_is_found_as_python_finds_it(self, prepare, framed, page, entries):
        """Of drawings small and large, on grey paper with its noise, and of none."""
        rng = np.random.default_rng(0)
        drawings = []
        for number in range(6):
            paper = Image.new("L", (420, 420), 255 - 40 * (number % 3))
            stroke = rng.uniform(20, 400, (4, 2)) * rng.uniform(0.2, 0.9)
            line = [tuple(point) for point in stroke]
            if number < 5:
                ImageDraw.Draw(paper).line(line, fill=30, width=5 + 3 * number)
            pixels = np.asarray(paper.resize((105, 105), Image.Resampling.LANCZOS), np.float64)
            pixels = pixels + number % 2 * rng.normal(0, 4, pixels.shape)
            if framed == "all" or (framed == "asked" and number == 5):
                pixels[:5] = pixels[-5:] = 20
                pixels[:, :4] = pixels[:, -4:] = 60
            if framed == "all" and number == 1:
                pixels[:50, 50:54] = 30  # touches it
            drawings.append(pixels.clip(0, 255).astype(np.uint8))
        model = "omniglot-5steps"
        classifier = FewShotClassifier(
            entries[model].loaded, inner_steps=5, ink="dark", prepare=prepare
        ).fit(drawings[:5], list("aabbb"))
        for query in drawings:
            texts = [as_png(drawing) for drawing in (*drawings[:5], query)]
            seen = ask(page, model, [texts[:2], texts[2:5]], texts[5], prepare)
            assert seen["prepared"] == (classifier.prepare_ == "ink")
            bytes_of_python = classifier.prepared([*drawings[:5], query])[:, 0].reshape(6, -1)
            assert [*seen["support"][0], *seen["support"][1], seen["query"]] == (
                bytes_of_python.tolist()
            )
            stages = classifier.staged_predict_proba([query])
            for mine, theirs in zip(stages, seen["steps"], strict=True):
                assert theirs["probabilities"] == pytest.approx(mine[0].tolist(), abs=1e-4)

    def test_a_browser_without_workers_answers_too(self, page):
        before = page.probabilities()
        (alone,) = page.driver.execute_async_script(
            """
            const done = arguments[0];
            delete globalThis.Worker;
            const own = (strokes) => ({ picture: null, strokes });
            new innerloop.Browser(innerloop.site).predict({
              model: "omniglot-5steps",
              support: innerloop.SUPPORT.map((strokes) => [own(strokes)]),
              query: own(innerloop.QUERY),
              steps: 5,
              prepare: "auto",
            }).then((answer) => done([answer.steps.at(-1).probabilities]));
            """
        )
        assert alone == pytest.approx(before, abs=1e-5)

    def test_the_networks_differ(self, page):
        seen = {}
        for card in ("omniglot-5steps", "omniglot-protonet", "untrained", "glyphs-conv4"):
            Select(page.find("#model")).select_by_value(card)
            page.wait(lambda: page.probabilities() not in seen.values())
            seen[card] = page.probabilities()
        assert seen["untrained"][2] < seen["omniglot-5steps"][2]

    def test_surprise_takes_an_episode(self, page):
        page.click("#surprise")
        page.wait(lambda: "(it was " in page.text("#verdict"))

    def test_the_python_code_says_the_same(self, page, capsys):
        Select(page.find("#model")).select_by_value("untrained")
        page.settled()
        assert page.told_by_python(capsys) == pytest.approx(page.probabilities(), abs=6e-4)

    def test_a_link_brings_the_drawing_back(self, page):
        page.click("#clear")
        page.draw(page.pad, (0.2, 0.2), (0.8, 0.8))
        page.click("#share")
        page.wait(lambda: "#" in page.driver.current_url)
        link, before = page.driver.current_url, page.probabilities()
        page.driver.get("about:blank")
        page.driver.get(link)
        page.wait(lambda: len(page.all("#bars li")) == 5)
        assert page.probabilities() == pytest.approx(before, abs=1e-4)

    def test_drawn_with_the_keyboard(self, page):
        page.draw_e_by_keys()
        page.wait(lambda: page.best() == "E")

    @pytest.mark.parametrize("width", [360, 768])
    def test_nothing_sticks_out_on_a_narrow_screen(self, page, width):
        for language, wide in page.widths(width).items():
            assert wide <= width, language
