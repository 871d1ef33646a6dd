"""The page as files: what is written, and what a real browser computes with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from selenium.webdriver.support.select import Select

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.demo.answers import Entry
from innerloop.demo.site import write_site
from tests.demo.browsing import Page, ask, opened


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
    seen = ask(page, model, support, [query])
    square = (-1, *entry.loaded.input_shape[1:])
    x = np.array([x for own in seen["support"] for x in own], np.uint8).reshape(square)
    y = [i for i, own in enumerate(support) for _ in own]
    classifier = FewShotClassifier(entry.loaded, inner_steps=5, ink="dark", prepare="none").fit(
        x, y
    )
    stages = classifier.staged_predict_proba(np.array(seen["queries"], np.uint8).reshape(square))
    for mine, theirs, loss in zip(stages, seen["steps"], classifier.support_loss_, strict=True):
        assert theirs["probabilities"][0] == pytest.approx(mine[0].tolist(), abs=1e-4)
        assert theirs["support_loss"] == pytest.approx(loss, abs=1e-4)


class TestIsPython:
    pytestmark = pytest.mark.long

    @pytest.mark.parametrize("model", [*innerloop.pretrained_names(), "untrained"])
    @pytest.mark.parametrize("ways", [2, 10])
    def test_at_every_inner_step(self, model, ways, still, entries):
        """With as many drawings as there can be, and unequally many."""
        support, query = pictures(still, ways, 5)
        support[0] = support[0][: 2 if ways == 2 else 5]
        compare(still, entries[model], model, support, query)

    def test_statistics_of_the_queries_are_those_of_python(self, still, entries):
        """One at a time, two at a time, and all together."""
        support, _ = pictures(still, 5, 1)
        _, queries = pictures(still, 5, 1, seed=1)
        queries = [*[row[0] for row in support[:3]], queries]
        for together in (1, 2, 4):
            found, seen, labelled = still.driver.execute_async_script(
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

    def test_products_are_the_same_with_webassembly_and_without(self, still):
        """And the same as JavaScript's own products, for sizes that fill no tile."""
        fast, differences = still.driver.execute_script(
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


class TestInTheBrowser:
    pytestmark = pytest.mark.long

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
        # What is shown may still be the answer from before the drawing.
        page.settled()
        link, before = page.driver.current_url, page.probabilities()
        page.driver.get("about:blank")
        page.driver.get(link)
        page.wait(lambda: len(page.all("#bars li")) == 5)
        # The page may answer for what it begins with before it has read the link.
        page.wait(lambda: page.probabilities() == pytest.approx(before, abs=1e-4))

    def test_drawn_with_the_keyboard(self, page):
        page.draw_e_by_keys()
        page.wait(lambda: page.best() == "E")

    @pytest.mark.parametrize("width", [360, 768])
    def test_nothing_sticks_out_on_a_narrow_screen(self, page, width):
        for language, wide in page.widths(width).items():
            assert wide <= width, language
