"""Pictures and labels as people give them to a classifier: taken, or one clear error."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import io
import math
import uuid
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.exceptions import NotFittedError
from torch import nn

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.cli import main
from innerloop.labels import class_labels

STROKE = np.zeros((28, 28))
STROKE[12:15, 4:24] = 1
STROKES, NAMES = np.stack([STROKE, STROKE.T]), ["across", "down"]


def deep(folder, white, dtype=np.uint16):
    """The two strokes as pictures of more than 8 bits, in folders of their names."""
    files = []
    for name, stroke in zip(NAMES, STROKES, strict=True):
        (folder / name).mkdir(parents=True)
        files.append(folder / name / "1.tif")
        Image.fromarray((stroke * white).astype(dtype)).save(files[-1])
    return files


@pytest.mark.parametrize("white", [1023, 4095, 65535])
def test_white_of_the_support_set_is_white_of_the_queries(white, tmp_path):
    files = deep(tmp_path, white)
    dark = tmp_path / "dark.tif"
    Image.fromarray((STROKE * white / 8).astype(np.uint16)).save(dark)
    expected = FewShotClassifier(ink="light").fit(STROKES, NAMES).predict_proba(STROKE[None] / 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = FewShotClassifier(ink="light").fit(files, NAMES)
    assert found.white_ == white
    for picture in (dark, Image.open(dark)):
        np.testing.assert_allclose(found.predict_proba(picture), expected, atol=0.02)
    # An array says by its type what white is.
    np.testing.assert_allclose(found.predict_proba(STROKE[None] / 8), expected, atol=1e-6)
    above = tmp_path / "above.tif"
    Image.fromarray(np.full((28, 28), 65535, np.uint16)).save(above)
    if white < 65535:
        with pytest.raises(UserError, match=f"above.tif has values .* white is {white}"):
            found.predict(above)


def test_white_that_is_said_goes_for_arrays_and_pictures(tmp_path):
    files = deep(tmp_path, 3000)
    expected = FewShotClassifier(ink="light").fit(STROKES, NAMES).predict_proba(STROKES)
    said = FewShotClassifier(ink="light", white=3000).fit(files, NAMES)
    for X in (files, STROKES * 3000, (STROKES * 3000).astype(int), STROKES > 0):
        np.testing.assert_allclose(said.predict_proba(X), expected, atol=0.02)
    with pytest.raises(UserError, match="white must be greater than 0"):
        FewShotClassifier(white=0).fit(STROKES, NAMES)


@pytest.mark.filterwarnings("ignore:Mean gives all pictures")
def test_white_goes_for_pretrained_networks_too(tmp_path):
    files = deep(tmp_path, 3000)

    class Mean(nn.Module):
        def forward(self, x):
            return x.flatten(2).amax(2)

    body = innerloop.backbones.Backbone(Mean(), innerloop.backbones.Preprocess(size=28))
    given = {white: body.features(files, white=white) for white in (3000, 6000)}
    assert torch.allclose(given[3000], 2 * given[6000], atol=0.02)
    found = FewShotClassifier(body, views="whole", white=6000).fit(files * 2, NAMES * 2)
    assert found.white_ == 6000


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("words", [[], ["--white", "3000"]])
def test_adapt_scales_queries_as_the_support_set(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep(tmp_path / "support", 3000)
    query = tmp_path / "dark.tif"
    Image.fromarray((STROKE.T * 400).astype(np.uint16)).save(query)
    command = ["adapt", "omniglot-conv4", "--support", "support", "--query", str(query)]
    assert main([*command, *words, "--ink", "light", "--csv"]) == 0
    said = capsys.readouterr()
    shares = [float(v) for v in said.out.splitlines()[1].split(",")[2:]]
    assert ("4,095 is taken for white; --white says otherwise" in said.err) == (not words)
    white = 3000 if words else 4095
    near = FewShotClassifier(ink="light").fit(STROKES * 3000 / white, NAMES)
    expected = near.predict_proba(STROKE.T[None] * 400 / white)[0]
    np.testing.assert_allclose(shares, expected, atol=0.05)


KINDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(
        st.one_of(st.none(), st.integers(0, 3), st.lists(st.floats(), max_size=3)), max_size=4
    ),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(object),
    st.builds(iter, st.lists(st.integers(), max_size=2)),
    st.builds(lambda shape: np.zeros(shape), st.lists(st.integers(0, 3), max_size=5)),
)


@pytest.fixture(scope="module")
def learnt():
    return FewShotClassifier().fit(STROKES, NAMES)


def outcome(call):
    """What it says of a mistake, or what it gives."""
    try:
        return "", call()
    except ValueError as error:
        return str(error), None


@pytest.mark.filterwarnings("ignore:.*look blank:UserWarning")
@settings(max_examples=300, deadline=None)
@given(X=KINDS)
def test_whatever_is_told_gets_labels_or_one_line(learnt, X):
    said, found = outcome(lambda: learnt.predict(X))
    assert "\n" not in said
    assert "array=" not in said
    # An array of two axes is one picture.
    assert said or len(found) in (1, len(X))


def test_a_name_with_a_line_break_stays_on_one_line(learnt):
    said, _ = outcome(lambda: learnt.predict(["\n"]))
    assert said == r"'\n' does not exist"


class Column:
    """A column of a table, which scikit-learn would make real numbers of if it can."""

    def __init__(self, entries):
        self.array = np.empty(len(entries), object)
        self.array[:] = entries
        self.shape = self.array.shape

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        return iter(self.array)

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(float)

    def to_numpy(self):
        return self.array


class Unknown:
    """What a table has in place of a value: neither the same as itself nor another."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("ambiguous")


NA = Unknown()


class Kind(str, enum.Enum):  # noqa: UP042 (StrEnum is another)
    SCREW = "screw"
    SPRING = "spring"


class Size(enum.IntEnum):
    M = 1
    L = 2


class Part(enum.Enum):
    NUT = 1
    BOLT = 2


NO_LABELS = [
    decimal.Decimal("1"),
    fractions.Fraction(1, 2),
    datetime.date(2020, 1, 1),
    np.datetime64("2020-01-01T00:00:00.5"),
    uuid.UUID(int=1),
    1 + 0j,
    Path("nut"),
    frozenset({1}),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@settings(max_examples=300, deadline=None)
@given(y=KINDS)
def test_whatever_is_a_label_gets_taken_or_one_line(y):
    said, found = outcome(lambda: class_labels(y, 2))
    assert "\n" not in said
    assert said or found.shape == (2,)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a", None], "1 of the 2 labels are missing"),
        ([None, None], "2 of the 2 labels are missing: leave those examples out"),
        ([0.0, math.nan], "1 of the 2 labels are missing"),
        (["a", NA], "1 of the 2 labels are missing"),
        (Column(["a", NA]), "1 of the 2 labels are missing"),
        (Column(["a", math.nan]), "1 of the 2 labels are missing"),
        (Column(["a", 1]), "several types"),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), "1 of the 2 labels are missing"),
        (np.array([0.0, math.nan]), "1 of the 2 labels are missing"),
        (["a", 1], "several types"),
        ([True, 2], "several types"),
        ([0.5, 1.0], r"Unknown label type: y\[0\] is 0.5"),
        ([0, 1, 2], "X has 2 pictures, but y 3 labels"),
        (None, "one label for each picture, not None"),
        ("ab", "one label for each picture, not str"),
        ([[0, 1], [1, 0]], "should be a 1d array"),
        ([{}, {}], "a label is dict, and labels name classes"),
        ([b"a", "b"], r"several types.*\(bytes, str\)"),
        *(([each, each], f"a label is {type(each).__name__}, .*str.label") for each in NO_LABELS),
        ([Part.NUT, Part.BOLT], r"a label is Part, .*\[label.name for label in labels\]"),
    ],
)
def test_labels_that_are_none_are_named(y, words):
    with pytest.raises(ValueError, match=words):
        FewShotClassifier().fit(STROKES, y)


@pytest.mark.parametrize("y", [[Kind.SCREW, Kind.SPRING], [Size.M, Size.L], [torch.tensor(1), 2]])
def test_a_label_that_is_text_or_a_number_in_disguise_is_that(y):
    """NumPy makes text of `Kind.SCREW`, and cuts it: the classes were one."""
    plain = [int(label) if not isinstance(label, str) else label.value for label in y]
    found = FewShotClassifier().fit(STROKES, y)
    assert found.classes_.tolist() == sorted(plain)
    data = innerloop.data.from_arrays(np.zeros((2, 3)), y)
    assert data.names == [str(label) for label in sorted(plain)]
    column = np.empty(2, object)
    column[:] = y
    assert innerloop.data.from_arrays(np.zeros((2, 3)), column).names == data.names


@pytest.mark.parametrize("label", [*NO_LABELS, Part.NUT])
def test_data_take_the_same_labels(label):
    with pytest.raises(UserError, match=f"a label is {type(label).__name__}, and labels name"):
        innerloop.data.from_arrays(np.zeros((2, 3)), [label, label])


@pytest.mark.parametrize("y", [[3, 5], [False, True], ["a", "b"]])
def test_a_column_of_labels_keeps_its_kind(y):
    found = FewShotClassifier().fit(STROKES, Column(y)).predict(STROKES)
    assert [type(label) for label in found.tolist()] == [type(label) for label in y]
    assert set(found.tolist()) == set(y)


def test_a_column_of_pictures_is_a_list_of_them(tmp_path):
    pictures = [Image.fromarray(np.uint8(255 * stroke)) for stroke in STROKES]
    paths = [tmp_path / f"{n}.png" for n in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    for listed in (pictures, paths, list(map(str, paths))):
        classifier = FewShotClassifier().fit(Column(listed), ["a", "b"])
        expected = classifier.predict_proba(listed)
        np.testing.assert_array_equal(classifier.predict_proba(Column(listed)), expected)


@pytest.mark.parametrize(("missing", "shown"), [(None, "None"), (math.nan, "nan")])
def test_what_is_missing_in_a_column_of_pictures_is_named(missing, shown):
    column = Column([Image.fromarray(np.uint8(255 * STROKE)), missing])
    with pytest.raises(UserError, match=rf"X\[1\] is {shown}, not a picture: leave it out"):
        FewShotClassifier().fit(column, ["a", "b"])


def test_one_picture_of_many_classes_is_no_regression():
    pictures = np.stack([np.roll(STROKE, i, axis=0) for i in range(24)])
    found = FewShotClassifier("omniglot-protonet").fit(pictures, np.arange(24.0))
    assert found.classes_.dtype == float
    with pytest.raises(UserError, match="X has 2 pictures, but y 1 label"):
        found.score(STROKES, [1.0])


def test_home_is_home_in_a_path_of_a_picture(learnt, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.fromarray((STROKE * 255).astype(np.uint8)).save(tmp_path / "1.png")
    assert learnt.predict("~/1.png").tolist() == ["across"]


@pytest.mark.parametrize(
    ("X", "words"),
    [
        ([STROKE, None], r"X\[1\] is None, not a picture: leave it out, with its label"),
        ([STROKE, b"PNG"], r"X\[1\] is bytes, not a picture: .* PIL.Image.open\(io.BytesIO\(x\)\)"),
        ([io.BytesIO(), STROKE], r"X\[0\] is BytesIO, not a picture: .* PIL.Image.open\(x\)"),
        ([{}, STROKE], r"X\[0\] is dict, not a picture"),
    ],
)
def test_an_item_that_is_no_picture_is_named(X, words):
    with pytest.raises(UserError, match=words):
        FewShotClassifier().fit(X, NAMES)


@pytest.mark.parametrize(
    ("background", "words"),
    [
        ([], "background holds no pictures"),
        (3, "background must hold pictures, not int"),
        ("photos", "background takes several pictures, not 'photos'"),
    ],
)
def test_a_background_that_is_none_is_named(background, words):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    with pytest.raises(UserError, match=words):
        FewShotClassifier(network, image_size=8).fit(STROKES, NAMES, background=background)


def test_familiarity_before_fit():
    with pytest.raises(NotFittedError):
        FewShotClassifier().familiarity(STROKES)
