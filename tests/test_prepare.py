"""How pictures are prepared for a network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.data import ink


def photographed(images: np.ndarray) -> np.ndarray:
    """Drawings small and off the centre on grey paper with uneven light, `[n, 84, 84]`."""
    y, x = np.mgrid[-1:1:84j, -1:1:84j]
    pages = np.empty((len(images), 84, 84))
    for number, (page, image) in enumerate(zip(pages, images, strict=True)):
        ink, (top, left) = np.zeros((84, 84)), divmod(7 * number % 50, 7)
        ink[7 * top : 7 * top + 28, 7 * left : 7 * left + 28] = 1 - image / 255
        page[:] = (150 + 30 * x - 20 * y * y) * (1 - 0.7 * ink)
    return pages.round().astype(np.uint8)


def test_a_drawing_is_found_on_its_page_and_centred(episode):
    support, labels, query, truth = episode
    pages, asked = photographed(support), photographed(query)
    accuracy = {
        prepare: FewShotClassifier(prepare=prepare).fit(pages, labels).score(asked, truth)
        for prepare in ("auto", "ink", "none")
    }
    assert accuracy["auto"] == accuracy["ink"] > 0.85
    assert accuracy["none"] < 0.6
    classifier = FewShotClassifier().fit(pages, labels)
    assert classifier.prepare_ == "ink"
    seen = classifier.prepared(asked)
    assert seen.shape == (50, 1, 28, 28)
    assert seen.dtype == np.uint8
    assert (np.median(seen, axis=(1, 2, 3)) == 255).all()
    # Prepared pictures are used unchanged and get the same answers; so does a list of any sizes.
    plain = FewShotClassifier(prepare="none").fit(classifier.prepared(pages), labels)
    np.testing.assert_allclose(
        plain.predict_proba(seen), classifier.predict_proba(asked), atol=1e-6
    )
    several = [Image.fromarray(page) for page in asked]
    np.testing.assert_array_equal(classifier.prepared(several), seen)
    light = FewShotClassifier().fit(255 - pages, labels)
    np.testing.assert_array_equal(light.prepared(255 - asked), 255 - seen)


def test_drawings_in_frames_are_taken_out_of_them(episode):
    """Printed boxes, or the table beneath a sheet, round nearly all of the pictures."""
    support, labels, query, truth = episode
    plain = FewShotClassifier().fit(support, labels).score(query, truth)

    def framed(images):
        edges = np.pad(images, ((0, 0), (3, 3), (3, 3)), constant_values=255)
        return np.pad(edges, ((0, 0), (2, 2), (2, 2)), constant_values=40)

    pages = list(framed(support))
    pages[0] = support[0]
    for ours, asked in ((pages, framed(query)), ([255 - x for x in pages], 255 - framed(query))):
        classifier = FewShotClassifier().fit(ours, labels)
        assert classifier.ink_ == ("dark" if ours is pages else "light")
        assert classifier.score(asked, truth) >= plain - 0.06
        seen = classifier.prepared(asked)
        assert (np.median(seen, axis=(1, 2, 3)) == (255 if ours is pages else 0)).all()
    # A box in a few of them may be the character.
    few = [*framed(support[:2]), *support[2:]]
    classifier = FewShotClassifier().fit(few, labels)
    assert classifier.prepared(few[:1])[0, 0, 4:7, 14].min() < 60


@pytest.mark.parametrize("seen", ["shadow", "sheet"])
def test_shadows_and_tables_cost_next_to_nothing(seen, episode):
    """Pages as people photograph them, no two alike."""
    support, labels, query, truth = episode
    plain = FewShotClassifier().fit(support, labels).score(query, truth)
    rng = np.random.default_rng(0)

    def taken(image):
        page = Image.fromarray(image).resize((84, 84), Image.Resampling.BICUBIC)
        if seen == "sheet":
            angle = float(rng.normal(0, 4))
            turned = page.rotate(angle, Image.Resampling.BICUBIC, fillcolor=int(rng.integers(90)))
            return np.asarray(turned)
        way, place = rng.uniform(0, 2 * np.pi), rng.uniform(-16, 16)
        y, x = np.indices((84, 84)) - 42
        light = np.where(np.cos(way) * x + np.sin(way) * y > place, 0.55, 1.0)
        return (np.asarray(page) * ndimage.gaussian_filter(light, 2)).astype(np.uint8)

    pages, asked = ([taken(image) for image in images] for images in (support, query))
    classifier = FewShotClassifier().fit(pages, labels)
    assert classifier.prepare_ == "ink"
    assert classifier.score(asked, truth) >= plain - 0.06


def test_what_runs_round_queries_alone_is_no_part_of_them(episode):
    """Unless something runs round a drawing that was learnt."""
    support, labels, query, truth = episode

    def boxed(images, margin):
        inner = np.pad(images, ((0, 0), (margin, margin), (margin, margin)), constant_values=255)
        return np.pad(inner, ((0, 0), (1, 1), (1, 1)), constant_values=0)

    classifier = FewShotClassifier().fit(support, labels)
    plain = classifier.score(query, truth)
    assert classifier.score(boxed(query, 2), truth) >= plain - 0.02
    # As in 回: part of what tells this class from the others.
    wide = boxed(support[:1], 1)
    wide = np.pad(wide, ((0, 0), (8, 8), (8, 8)), constant_values=255)
    classifier = FewShotClassifier().fit([*wide, *support[1:]], labels)
    seen = classifier.prepared(boxed(query[:1], 2))
    assert (seen[0, 0, 5:8] < 128).any(axis=0).sum() > 12


@pytest.mark.parametrize("kind", ["ring", "square"])
def test_a_class_with_something_round_it_leaves_printed_boxes_known(kind, episode):
    """Boxes round queries go although one of the characters learnt has a ring or a box."""
    support, labels, query, truth = episode

    def page(drawing, box=False):
        paper = Image.new("L", (84, 84), 255)
        paper.paste(Image.fromarray(drawing).resize((56, 56), Image.Resampling.BICUBIC), (14, 14))
        if box:
            ImageDraw.Draw(paper).rectangle((2, 2, 81, 81), outline=0)
        return np.asarray(paper)

    sign = Image.new("L", (84, 84), 255)
    draw = ImageDraw.Draw(sign)
    shape = draw.ellipse if kind == "ring" else draw.rectangle
    shape((16, 16, 67, 67), outline=0, width=4)
    draw.rectangle((32, 32, 51, 51), outline=0, width=4)
    pages, names = [np.asarray(sign), *map(page, support)], ["sign", *labels]
    classifier = FewShotClassifier().fit(pages, names)
    plain = classifier.score([page(x) for x in query], truth)
    assert classifier.score([page(x, box=True) for x in query], truth) >= plain - 0.02
    # The sign stays whole, also where it is cut out closely.
    close = sign.crop((14, 14, 70, 70))
    assert classifier.predict([np.asarray(close)]).tolist() == ["sign"]


def clock(hand: float, rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
    """A circle or a square drawn by hand, and in it a stroke from the middle."""
    image = Image.new("L", (336, 336), 255)
    draw = ImageDraw.Draw(image)
    middle, radius = rng.normal(168, 5, 2), rng.normal(size, 4, 2)
    shape = draw.ellipse if kind == "circle" else draw.rectangle
    shape((*(middle - radius), *(middle + radius)), outline=0, width=16)
    hand += rng.normal(0, 0.1)
    tip = middle + 0.65 * size * np.array([np.cos(hand), np.sin(hand)])
    draw.line((*middle, *tip), fill=0, width=16)
    return np.asarray(image.resize((84, 84), Image.Resampling.BOX))


@pytest.mark.parametrize("size", [138, 150])
@pytest.mark.parametrize("kind", ["circle", "square"])
def test_what_all_classes_share_stays_if_place_in_it_tells_them(kind, size):
    """Such as the faces of clocks, whose hands are the same once they are cropped."""
    rng = np.random.default_rng(0)
    hands = np.pi / 2 * np.arange(4)
    faces = [clock(hand, rng, kind, size) for hand in hands]
    asked = [clock(hand, rng, kind, size) for hand in hands.repeat(5)]
    classifier = FewShotClassifier().fit(faces, list("abcd"))
    assert classifier.score(asked, list("aaaaabbbbbcccccddddd")) >= 0.9
    # All of what runs round them, in each picture.
    assert ((classifier.prepared([*faces, *asked])[:, 0] < 128).any(axis=1).sum(axis=1) > 12).all()


@pytest.mark.parametrize("ringed", [False, True])
@pytest.mark.parametrize("sides", ["left", "left right"])
def test_what_lies_along_the_edges_of_queries_alone_is_no_part_of_them(sides, ringed, episode):
    """Such as the black edge of a scanner, also where a drawing that was learnt has a ring."""
    support, labels, query, truth = episode
    pages, asked = (
        [np.pad(x.repeat(3, axis=0).repeat(3, axis=1), 8, constant_values=255) for x in images]
        for images in (support, query)
    )
    if ringed:
        ring = Image.fromarray(pages[0])
        ImageDraw.Draw(ring).ellipse((8, 8, 91, 91), outline=0, width=3)
        pages[0] = np.asarray(ring)
    classifier = FewShotClassifier().fit(pages, labels)
    plain = classifier.score(asked, truth)
    scans = np.stack(asked)
    scans[:, :, :3] = 0
    if "right" in sides:
        scans[:, :, -4:] = 20
    assert classifier.score(list(scans), truth) >= plain - 0.04
    # Strokes that reach the edge stay.
    crossed = np.array(asked[0])
    crossed[48:52, :52] = 0
    seen = classifier.prepared([crossed])[0, 0]
    assert (seen[:, 5:10].min(axis=0) < 160).all()


def test_outlines_that_differ_are_parts_of_the_characters():
    def sign(outline, inner):
        image = Image.new("L", (84, 84), 255)
        draw = ImageDraw.Draw(image)
        shape = draw.ellipse if outline == "ring" else draw.rectangle
        shape((4, 4, 79, 79), outline=0, width=3)
        for line in inner:
            draw.line(line, fill=0, width=3)
        return np.asarray(image)

    cross = [(32, 32, 52, 52), (32, 52, 52, 32)]
    stroke = [(32, 42, 52, 42)]
    kinds = [(o, i) for o in ("ring", "square") for i in (cross, stroke)]
    classifier = FewShotClassifier().fit([sign(*kind) for kind in kinds], list("abcd"))
    assert classifier.predict([sign(*kind) for kind in kinds]).tolist() == list("abcd")


def test_few_pixels_that_the_drawing_fills_stay_as_they_are(episode):
    support, labels, _, _ = episode
    pictures = [Image.fromarray(x) for x in support]
    boxes = [ImageOps.invert(picture).getbbox() for picture in pictures]
    filled = [picture.crop(box) for picture, box in zip(pictures, boxes, strict=True)]
    tiny = np.stack([np.asarray(picture.resize((8, 8))) for picture in filled])
    classifier = FewShotClassifier(ink="dark").fit(tiny, labels)
    assert classifier.prepare_ == "none"
    scaled = np.asarray(Image.fromarray(tiny[0]).resize((28, 28), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(classifier.prepared(tiny)[0, 0], scaled)


def bar(top: float) -> Image.Image:
    page = Image.new("L", (120, 120), 255)
    ImageDraw.Draw(page).line((25, top - 2, 95, top + 2), fill=0, width=5)
    return page


def test_classes_that_differ_in_place_alone_keep_it():
    heights = {"low": 100, "middle": 60, "high": 20}
    classifier = FewShotClassifier().fit([bar(top) for top in heights.values()], list(heights))
    assert classifier.prepare_ == "none"
    asked = [bar(top + 3) for top in heights.values()]
    assert classifier.predict(asked).tolist() == list(heights)
    assert FewShotClassifier(prepare="ink").fit(asked, list(heights)).prepare_ == "ink"


def test_a_few_classes_that_cropping_makes_the_same_are_named(episode):
    """Warnings are errors in tests, so there is none of the drawings alone."""
    support, labels, _, _ = episode
    pages = [Image.fromarray(x) for x in support]
    given, names = [*pages, bar(20), bar(100)], [*map(str, labels), "high", "low"]
    said = r"2 of the 7 classes \(high, low\) look like one another"
    with pytest.warns(UserWarning, match=said) as warned:
        classifier = FewShotClassifier().fit(given, names)
    assert warned[0].filename == __file__
    assert classifier.prepare_ == "ink"
    for prepare in ("ink", "none"):
        FewShotClassifier(prepare=prepare).fit(given, names)


def test_a_network_of_other_drawings_takes_them_where_they_are(episode):
    support, labels, _, _ = episode
    loaded = innerloop.load("omniglot-protonet")._replace(data_name="runes")
    assert FewShotClassifier(loaded).fit(support, labels).prepare_ == "none"
    assert FewShotClassifier(loaded, prepare="ink").fit(support, labels).prepare_ == "ink"


def test_what_cannot_be_prepared_is_said(episode, tmp_path):
    support, labels, _, _ = episode
    with pytest.raises(UserError, match="prepare must be one of auto, ink, none"):
        FewShotClassifier(prepare="all").fit(support, labels)
    with pytest.raises(UserError, match="fit with prepare='none'"):
        FewShotClassifier(prepare="ink").fit(support, labels).export(tmp_path / "c.onnx")


@pytest.mark.parametrize("ink", ["dark", "light"])
def test_drawings_the_other_way_round_are_warned_of(ink, episode):
    support, labels, query, _ = episode
    if ink == "light":
        support, query = 255 - support, 255 - query
    classifier = FewShotClassifier().fit(support, labels)
    for ask in (classifier.predict, classifier.predict_proba, classifier.tell):
        ask(query)
        with pytest.warns(
            UserWarning, match=r"2 of the 50 pictures \(X.48., X.49.\) look like"
        ) as said:
            ask(np.concatenate([query[:48], 255 - query[:2]]))
        assert said[0].filename == __file__
    with pytest.warns(UserWarning, match=r"3 of the 10 pictures \(X.7., .*\) look like") as said:
        FewShotClassifier().fit(np.concatenate([support[:7], 255 - support[7:]]), labels)
    assert said[0].filename == __file__
    # Also on noisy paper, whose edges are at neither end of the range.
    noise = np.random.default_rng(0).normal(0, 10, query.shape)
    noisy = (60 + 0.3 * query + noise).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"of the 50 pictures \(.*\) look like"):
        classifier.predict(255 - noisy)
    # Who says what they are is believed; so is a dim photograph of a page.
    told = FewShotClassifier(ink=ink).fit(support, labels)
    told.predict(255 - query)
    dim = query // 3 if ink == "dark" else 255 - (255 - query) // 3
    classifier.predict(dim)


def test_pictures_without_ink_are_warned_of(episode, tmp_path):
    support, labels, query, _ = episode
    blank = np.stack([np.zeros_like(query[0]), np.full_like(query[0], 200)])
    classifier = FewShotClassifier().fit(support, labels)
    for ask in (classifier.predict, classifier.predict_proba, classifier.tell):
        said = r"2 of the 5 pictures \(X.3., X.4.\) look blank, without any ink: they are told"
        with pytest.warns(UserWarning, match=said) as told:
            ask(np.concatenate([query[:3], blank]))
        assert told[0].filename == __file__
    pages = np.concatenate([blank[:1], support[1:]])
    said = r"1 of the 10 pictures \(X.0.\) look blank, without any ink: they are learnt"
    with pytest.warns(UserWarning, match=said) as told:
        FewShotClassifier().fit(pages, labels)
    assert told[0].filename == __file__
    # Where pictures stay as they are, those of one brightness.
    with pytest.warns(UserWarning, match=said):
        as_they_are = FewShotClassifier(prepare="none").fit(pages, labels)
    with pytest.warns(UserWarning, match=r"2 of the 2 pictures \(X.0., X.1.\) look blank"):
        as_they_are.predict(blank)
    small = support.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"2 of the 2 pictures \(X.0., X.1.\) look blank"):
        FewShotClassifier().fit(small, labels).predict(blank[:, :7, :7])
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, picture in zip(files, (query[0], blank[0], blank[1]), strict=True):
        Image.fromarray(picture.squeeze()).save(file)
    with pytest.warns(UserWarning, match=r"2 of the 3 pictures \(.*b\.png, .*c\.png\) look blank"):
        classifier.predict(files)
    many = np.repeat(blank, 4, axis=0)
    with pytest.warns(UserWarning, match=r"8 of the 8 pictures \(X.0., X.1., X.2. and 5 more\)"):
        classifier.predict(many)


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_black_borders_of_scans_do_not_look_like_other_ink(dark, episode):
    """Warnings are errors in tests."""
    support, labels, query, _ = episode
    rng = np.random.default_rng(0)

    def scanned(images):
        pages = []
        for image in images:
            page = np.asarray(Image.fromarray(image).resize((84, 84), Image.Resampling.BICUBIC))
            left, top, right, bottom = rng.integers(1, 8, 4)
            page = np.pad(page[top:-bottom, left:-right], ((top, bottom), (left, right)))
            pages.append(page if dark else 255 - page)
        return pages

    classifier = FewShotClassifier().fit(scanned(support), labels)
    assert classifier.ink_ == ("dark" if dark else "light")
    classifier.predict(scanned(query))
    inverted = [255 - page for page in scanned(query[:2])]
    with pytest.warns(UserWarning, match="2 of the 2 pictures .* look like"):
        classifier.predict(inverted)


def test_pages_by_evening_light_are_read_as_by_day(episode):
    """White paper that is darker than middle grey is still paper."""
    support, labels, query, targets = episode
    by_day = FewShotClassifier().fit(support, labels)
    dim = [(0.4 * images + 8).astype(np.uint8) for images in (support, query)]
    by_evening = FewShotClassifier().fit(dim[0], labels)
    assert (by_day.ink_, by_evening.ink_) == ("dark", "dark")
    assert by_evening.score(dim[1], targets) > by_day.score(query, targets) - 0.05


@pytest.mark.parametrize("algorithm", ["maml", "anil", "meta-sgd"])
def test_an_answer_does_not_depend_on_how_many_are_asked_for(algorithm, episode):
    support, labels, query, _ = episode
    loaded = innerloop.load("omniglot-conv4")
    config = dataclasses.replace(loaded.config, algorithm=algorithm)
    params = loaded.params
    if algorithm == "meta-sgd":
        rates = innerloop.MetaSGD(loaded.model, 0.02).init_params()
        params = {**rates, **params}
    loaded = loaded._replace(config=config, params=params)
    classifier = FewShotClassifier(loaded).fit(support, labels)
    together = classifier.predict_proba(query)
    for size in (1, 7):
        parts = [classifier.predict_proba(query[i : i + size]) for i in range(0, len(query), size)]
        np.testing.assert_allclose(np.concatenate(parts), together, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prepare", ["auto", "ink"])
def test_ink_is_looked_for_once_in_each_picture(prepare, episode, monkeypatch):
    looked = []

    def find_ink(picture, *how):
        looked.append(picture)
        return ink.find_ink(picture, *how)

    for module in ("innerloop.inputs", "innerloop.data.surroundings"):
        monkeypatch.setattr(f"{module}.find_ink", find_ink)
    support, labels, query, _ = episode
    classifier = FewShotClassifier(prepare=prepare).fit(support, labels)
    assert len(looked) == len(support)
    classifier.predict(query)
    assert len(looked) == len(support) + len(query)
