"""What the page without a server makes of pictures is what Python makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop import FewShotClassifier
from innerloop.data import glyphs
from innerloop.data.polarity import darkness_of_ink
from innerloop.demo.answers import as_png
from tests.demo.browsing import ask

FRAMED = [
    "none",
    "all",
    "asked",
    "enclosed",
    "rings",
    "circles",
    "faces",
    "print",
    "alone",
    "hands",
    "beside",
    "table",
    "shadow",
    "solid",
]


class TestInTheBrowser:
    pytestmark = pytest.mark.long

    def test_pictures_are_made_smaller_as_pillow_does(self, still):
        pixels = np.random.default_rng(0).integers(0, 256, (105, 105), np.uint8)
        for size in (28, 105, 40, 150):
            found = still.driver.execute_script(
                "const [pixels, side, size] = arguments;"
                "return [...innerloop.resize(Uint8Array.from(pixels), side, size)]",
                pixels.flatten().tolist(),
                105,
                size,
            )
            scaled = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
            assert found == np.asarray(scaled).flatten().tolist()

    def test_dark_ink_is_told_as_python_tells_it(self, still):
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
        found = still.driver.execute_script(
            "return arguments[0].map(([x, w, h]) => innerloop.darknessOfInk(x, w, h))",
            [(x.flatten().tolist(), x.shape[1], x.shape[0]) for x in pictures],
        )
        np.testing.assert_allclose(found, expected, atol=1e-9)

    @pytest.mark.parametrize("light", [1, 0.4], ids=["by day", "in the evening"])
    @pytest.mark.parametrize("frame", [0, 8], ids=["", "framed"])
    def test_a_file_becomes_dark_strokes_on_white(self, still, light, frame):
        paper = Image.new("L", (200, 200), round(255 * light))
        ImageDraw.Draw(paper).line(
            [(60, 40), (60, 160), (150, 160)], fill=round(60 * light), width=14
        )
        picture = np.asarray(paper).copy()
        if frame:
            picture[:frame] = picture[-frame:] = picture[:, :frame] = picture[:, -frame:] = 10
        for given in (picture, 255 - picture):
            text = as_png(given)
            pixels, side = still.driver.execute_async_script(
                """
                const [text, done] = arguments;
                fetch("data:image/png;base64," + text)
                  .then((found) => found.blob())
                  .then((blob) => innerloop.fromFile(blob))
                  .then(({ drawing }) => innerloop.toGrey(drawing))
                  .then(({ pixels, side }) => done([[...pixels], side]));
                """,
                text,
            )
            found = np.array(pixels).reshape(side, side)
            inner = found[side // 10 : -side // 10, side // 10 : -side // 10]
            assert np.median(inner) > 240
            assert found[round(0.5 * side), round(0.3 * side)] < 80

    @pytest.mark.parametrize("share", [0.08, 0.2, 0.4])
    @pytest.mark.parametrize("size", [(600, 800), (1200, 800), (90, 90)])
    @pytest.mark.parametrize("light", [False, True])
    def test_of_a_drawing_small_in_a_picture_what_is_around_it_is_kept(
        self, still, size, share, light
    ):
        """The page keeps few pixels, of which a small drawing had a handful."""
        page, longer = Image.new("L", size, 230), max(size)
        side, left, top = round(share * longer), round(0.3 * size[0]), round(0.25 * size[1])
        corners = [(left, top), (left, top + side), (left + side, top + side)]
        ImageDraw.Draw(page).line(corners, fill=30, width=max(2, side // 14))
        given = 255 - np.asarray(page) if light else np.asarray(page)
        pixels, side_of_page, closer = still.driver.execute_async_script(
            """
            const [text, done] = arguments;
            fetch("data:image/png;base64," + text)
              .then((found) => found.blob())
              .then((blob) => innerloop.fromFile(blob))
              .then(({ drawing, closer }) => innerloop.toGrey(drawing)
                .then(({ pixels, side }) => done([[...pixels], side, closer])));
            """,
            as_png(given),
        )
        found = np.array(pixels).reshape(side_of_page, side_of_page) < 128
        spans = [np.ptp(np.flatnonzero(found.any(axis=axis))) / side_of_page for axis in (0, 1)]
        assert closer == (share < 0.25 and longer > 112)
        # Twice the margin of half its side round it.
        expected = 0.5 if closer else share
        assert max(spans) == pytest.approx(expected, abs=0.08)

    @pytest.mark.parametrize("apart", [18, 35])
    def test_classes_that_differ_in_place_alone_keep_it(self, apart, still, entries):
        drawings = []
        tops = [52 - apart, 52, 52 + apart]
        lines = [[(20, top + 3), (85, top)] for top in tops]
        for line in (*lines, [(50, 20), (50, 85)], [(20, 20), (85, 85)]):
            paper = Image.new("L", (105, 105), 255)
            ImageDraw.Draw(paper).line(line, fill=0, width=5)
            drawings.append(np.asarray(paper))
        model, labels = "omniglot-5steps", list("abc")
        texts = [as_png(drawing) for drawing in drawings]
        decided = []
        for support in ([0, 1, 2], [0, 3, 4]):
            classifier = FewShotClassifier(entries[model].loaded, inner_steps=5, ink="dark")
            classifier.fit([drawings[i] for i in support], labels)
            seen = ask(still, model, [[texts[i]] for i in support], texts[1:2], "auto")
            assert seen["prepared"] == (classifier.prepare_ == "ink")
            decided.append(seen["prepared"])
        assert decided == [False, True]

    @pytest.mark.parametrize("framed", FRAMED)
    @pytest.mark.parametrize("prepare", ["auto", "ink", "none"])
    def test_the_ink_is_found_as_python_finds_it(self, prepare, framed, still, entries):
        """Of drawings small and large, on grey paper with its noise, and of none."""
        rng = np.random.default_rng(0)
        drawings = []
        for number in range(6):
            paper = Image.new("L", (420, 420), 255 - 40 * (number % 3))
            stroke = rng.uniform(20, 400, (4, 2)) * rng.uniform(0.2, 0.9)
            line = [tuple(point) for point in stroke]
            if framed == "none" and number == 2:
                line = [(100, 100), (100, 118)]  # next to no ink
            if number < 5 or framed == "beside":
                ImageDraw.Draw(paper).line(line, fill=30, width=5 + 3 * number)
            if number == 4:  # dots of the pen, and one that is smaller
                for x, size in ((20, 17), (60, 17), (400, 6)):
                    ImageDraw.Draw(paper).ellipse((x, 400, x + size, 400 + size), fill=30)
            if framed in ("hands", "rings") or (framed == "enclosed" and number == 1):
                draw = ImageDraw.Draw(paper)
                low, high = (90, 330) if framed == "enclosed" else (24, 396)
                shape = draw.ellipse if framed == "rings" else draw.rectangle
                shape((low, low, high, high), fill="white", outline=30, width=14)
                way = number % 4 * np.pi / 2
                tip = (210 + 90 * np.cos(way), 210 + 90 * np.sin(way))
                draw.line([(210, 210), tip], fill=30, width=14)
            if framed in ("circles", "faces", "print", "alone"):
                paper = Image.new("L", (420, 420), 255 - 40 * (number % 3))
                draw = ImageDraw.Draw(paper)
                radius = 180 if framed == "print" else 120 + 8 * number
                x, y = (210, 210) if framed == "print" else (190 + 5 * number, 230 - 4 * number)
                if framed != "alone" or number < 5:
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), None, 30, 14)
                way = (number + 1) // 2 * np.pi / 2
                tip = (x + 0.6 * radius * np.cos(way), y + 0.6 * radius * np.sin(way))
                inner = [
                    (x + radius * (u / 420 - 0.5), y + radius * (v / 420 - 0.5)) for u, v in line
                ]
                draw.line([(x, y), tip] if framed == "faces" else inner, fill=30, width=14)
                if framed == "circles" and number == 5:  # touches it
                    draw.line([(x, y), (x, y + radius)], fill=30, width=14)
            pixels = np.asarray(paper.resize((105, 105), Image.Resampling.LANCZOS), np.float64)
            pixels = pixels + number % 2 * rng.normal(0, 4, pixels.shape)
            if framed == "all" or (framed in ("asked", "enclosed") and number == 5):
                pixels[:5] = pixels[-5:] = 20
                pixels[:, :4] = pixels[:, -4:] = 60
            if framed == "all" and number == 1:
                pixels[:50, 50:54] = 30  # touches it
            if framed == "beside" and number == 5:
                pixels[:, :4] = 20
            if framed == "table" and number:
                pixels[:, : 2 * number] = pixels[105 - number :] = 50
            if framed == "solid" and number:
                pixels[5 + 2 * number : 98, 6:97] = 20 * number
            if framed == "shadow":
                v, u = np.indices(pixels.shape) - 52.0
                way = rng.uniform(0, 2 * np.pi)
                dark = np.cos(way) * u + np.sin(way) * v > rng.uniform(-15, 15)
                pixels *= 1 - 0.1 * (number + 1) * dark
            drawings.append(pixels.clip(0, 255).astype(np.uint8))
        model = "omniglot-5steps"
        classifier = FewShotClassifier(
            entries[model].loaded, inner_steps=5, ink="dark", prepare=prepare
        ).fit(drawings[:5], list("aabbb"))
        texts = [as_png(drawing) for drawing in drawings]
        seen = ask(still, model, [texts[:2], texts[2:5]], texts, prepare)
        assert seen["prepared"] == (classifier.prepare_ == "ink")
        bytes_of_python = classifier.prepared(drawings)[:, 0].reshape(len(drawings), -1).tolist()
        assert seen["support"] == [bytes_of_python[:2], bytes_of_python[2:5]]
        assert seen["queries"] == bytes_of_python
        stages = classifier.staged_predict_proba(drawings)
        for mine, theirs in zip(stages, seen["steps"], strict=True):
            np.testing.assert_allclose(theirs["probabilities"], mine, rtol=0, atol=1e-4)
