"""FewShotClassifier: scikit-learn's conventions, images of any size, independent predictions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.calibration import expected_calibration_error, fit_temperature
from innerloop.cli import main
from innerloop.data.given import image_bytes
from innerloop.in_use import SHARPER
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.loading import PRETRAINED
from innerloop.tasks.sampler import EpisodeSampler
from tests.helpers import in_threads
from tests.small_runs import settings

NAMES = innerloop.pretrained_names()


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_new_symbols_from_two_images_each(name, episode):
    support, labels, query, truth = episode
    classifier = FewShotClassifier.from_pretrained(name).fit(support, labels)
    assert classifier.classes_.tolist() == list("abcde")
    assert classifier.ink_ == "dark"
    assert classifier.score(query, truth) > 0.85
    probabilities = classifier.predict_proba(query)
    assert probabilities.shape == (50, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Columns follow classes_.
    columns = classifier.classes_[probabilities.argmax(axis=1)]
    assert (columns == classifier.predict(query)).all()


def test_before_adaptation_it_knows_nothing_and_each_step_helps(episode):
    support, labels, query, truth = episode
    classifier = FewShotClassifier(inner_steps=4).fit(support, labels)
    stages = list(classifier.staged_predict_proba(query))
    assert len(stages) == len(classifier.support_loss_) == 5
    np.testing.assert_allclose(stages[0], 0.2, atol=1e-4)
    assert (classifier.classes_[stages[-1].argmax(axis=1)] == truth).mean() > 0.85
    assert classifier.support_loss_ == sorted(classifier.support_loss_, reverse=True)
    np.testing.assert_array_equal(stages[-1], classifier.predict_proba(query))


def test_a_prediction_does_not_depend_on_the_other_images(episode):
    support, labels, query, _ = episode
    classifier = FewShotClassifier().fit(support, labels)
    together = classifier.predict_proba(query)
    alone = np.concatenate([classifier.predict_proba(image[None]) for image in query])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    many = classifier.predict_proba(np.concatenate([query] * 12))
    np.testing.assert_allclose(many[:50], many[-50:], atol=1e-5)
    transductive = FewShotClassifier(bn="transductive").fit(support, labels)
    alone = np.concatenate([transductive.predict_proba(image[None]) for image in query])
    assert np.abs(alone - transductive.predict_proba(query)).max() > 0.01


def test_every_way_to_give_the_same_images(episode):
    support, labels, query, _ = episode
    expected = FewShotClassifier().fit(support, labels).predict_proba(query)
    for change in (
        lambda x: x[:, None],
        lambda x: x.reshape(len(x), -1),
        lambda x: x / 255,
        lambda x: (x / 255).astype(np.float32).tolist(),
        lambda x: x.astype(np.int64),
    ):
        classifier = FewShotClassifier().fit(change(support), labels)
        np.testing.assert_allclose(classifier.predict_proba(change(query)), expected, atol=1e-6)
    # Light strokes on dark paper mean the same.
    inverted = FewShotClassifier().fit(255 - support, labels)
    assert inverted.ink_ == "light"
    np.testing.assert_allclose(inverted.predict_proba(255 - query), expected, atol=1e-5)
    wrong = FewShotClassifier(ink="light").fit(support, labels)
    assert np.abs(wrong.predict_proba(query) - expected).max() > 0.01
    # Larger images are scaled down.
    large, larger = (np.kron(x, np.ones((1, 3, 3), np.uint8)) for x in (support, query))
    guesses = FewShotClassifier().fit(large, labels).predict_proba(larger).argmax(axis=1)
    assert (guesses == expected.argmax(axis=1)).mean() >= 0.9


def test_any_labels_and_unequal_numbers_of_images(episode):
    support, _, query, _ = episode
    labels = np.array([7, 7, 7, -1, 30, 30, 30, 30, -1, 7])
    classifier = FewShotClassifier().fit(support, labels)
    assert classifier.classes_.tolist() == [-1, 7, 30]
    assert set(classifier.predict(query)) <= {-1, 7, 30}
    twenty = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    classifier = FewShotClassifier(ink="dark").fit(twenty, np.arange(20))
    assert classifier.predict_proba(query).shape == (50, 20)


def test_in_a_pipeline_in_cross_validation_and_cloned(episode):
    support, labels, query, truth = episode
    classifier = FewShotClassifier(inner_steps=2, temperature=2.0)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(ink="dark").ink == "dark"
    pipeline = make_pipeline(FunctionTransformer(lambda x: x / 255), FewShotClassifier())
    assert pipeline.fit(support, labels).score(query, truth) > 0.85
    assert cross_val_score(FewShotClassifier(), query, truth, cv=2).mean() > 0.85


def test_a_loaded_network_serves_as_its_name_does(episode):
    support, labels, query, _ = episode
    loaded = innerloop.load("omniglot-conv4")
    expected = FewShotClassifier("omniglot-conv4").fit(support, labels).predict_proba(query)
    for classifier in (FewShotClassifier(loaded), clone(FewShotClassifier(loaded))):
        np.testing.assert_array_equal(
            classifier.fit(support, labels).predict_proba(query), expected
        )


def test_untrained_is_the_same_network_before_meta_training(episode):
    support, labels, query, truth = episode
    loaded = innerloop.load("omniglot-conv4")
    before = {name: p.clone() for name, p in loaded.params.items()}
    untrained = FewShotClassifier(loaded.untrained()).fit(support, labels)
    trained = FewShotClassifier(loaded).fit(support, labels)
    assert untrained.score(query, truth) < trained.score(query, truth)
    assert untrained.temperature_ == SHARPER
    assert all(torch.equal(p, before[name]) for name, p in loaded.params.items())


def test_temperature_changes_probabilities_but_not_classes(episode):
    support, labels, query, _ = episode
    cold, hot = (FewShotClassifier(temperature=t).fit(support, labels) for t in (0.5, 5.0))
    assert (cold.predict(query) == hot.predict(query)).all()
    assert cold.predict_proba(query).max() > hot.predict_proba(query).max()
    of_one = innerloop.load("omniglot-conv4").temperature
    assert of_one != 1
    assert FewShotClassifier().fit(support[::2], labels[::2]).temperature_ == of_one
    assert FewShotClassifier().fit(support, labels).temperature_ == SHARPER * of_one


@pytest.fixture(scope="module")
def noise():
    """Sixty images without classes, and labels for them."""
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    return images, np.arange(60) % 2


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Weights whose inner steps overshoot."""
    file = tmp_path_factory.mktemp("hasty") / "hasty.safetensors"
    tensors, metadata = read_tensors(PRETRAINED / "omniglot-conv4.safetensors")
    metadata["config"]["inner_lr"] *= 12
    write_tensors(file, tensors, metadata)
    return file


def test_a_rising_support_loss_is_one_warning_with_a_way_out(noise, hasty):
    with pytest.warns(ConvergenceWarning, match="rises over the 5 inner steps") as seen:
        classifier = FewShotClassifier(hasty, inner_steps=5).fit(*noise)
    assert len(seen) == 1
    losses = classifier.support_loss_
    best = int(np.argmin(losses))
    assert losses[-1] > losses[best] + 0.2
    assert f"give inner_steps={best}," in str(seen[0].message)
    FewShotClassifier(hasty, inner_steps=best).fit(*noise)


def test_adapt_says_a_warning_in_one_line(noise, hasty, tmp_path, capsys):
    for i, (image, label) in enumerate(zip(*noise, strict=True)):
        place = tmp_path / "support" / str(label) / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    words = ["adapt", str(hasty), "--inner-steps", "5", "--query", str(place)]
    words += ["--support", str(tmp_path / "support"), "--picture", str(tmp_path / "p.png")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(words) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: the loss on the support images rises")
    assert error.count("\n") == 1
    assert "give --inner-steps" in error or "inner_steps" not in error


@pytest.mark.parametrize(
    ("options", "images", "labels", "message"),
    [
        ({}, np.zeros((4, 28, 28)), ["a"] * 4, "greater than one"),
        ({}, np.zeros((4, 28, 28)), ["a", "b"], "X has 4 pictures, but y 2 labels"),
        ({}, np.zeros((4, 3, 28, 28)), list("abab"), "takes grey images"),
        ({}, np.zeros((4, 30)), list("abab"), "30 numbers are not square"),
        ({}, np.full((4, 28, 28), 2.5), list("abab"), "real numbers 0 to 1.*reach from 2.5"),
        ({}, np.full((4, 28, 28), -1), list("abab"), "integers 0 to 255"),
        ({}, np.full((4, 28, 28), np.nan), list("abab"), "NaN"),
        ({"ink": "red"}, np.zeros((4, 28, 28)), list("abab"), "ink must be one of"),
        ({"bn": "none"}, np.zeros((4, 28, 28)), list("abab"), "bn must be one of"),
        ({"inner_steps": 0}, np.zeros((4, 28, 28)), list("abab"), "inner_steps must be at least 1"),
        ({"temperature": -1.0}, np.zeros((4, 28, 28)), list("abab"), "temperature must be"),
        ({"model": "nothing"}, np.zeros((4, 28, 28)), list("abab"), "omniglot-conv4"),
    ],
)
def test_mistakes_are_named(options, images, labels, message):
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(**options).fit(images, labels)


def test_predict_before_fit():
    with pytest.raises(NotFittedError):
        FewShotClassifier().predict(np.zeros((1, 28, 28)))


def test_a_run_of_ones_own_and_its_limits(tmp_path, array):
    """Its classes are counted where the head has a row for each; waves have none."""
    small = settings(array, algorithm="boil", head="random", iterations=4)
    run = innerloop.train(out=tmp_path / "boil", **small).folder
    images = np.load(array)[:4, 0, 0]
    classifier = FewShotClassifier(run).fit(images[:3], list("abc"))
    assert classifier.predict_proba(images).shape == (4, 3)
    with pytest.raises(UserError, match="has a head with 3 rows and cannot tell 4 classes apart"):
        FewShotClassifier(run).fit(images, list("abcd"))
    waves = innerloop.train(
        data="sinusoid", out=tmp_path / "w", iterations=1, val_every=1, val_tasks=2, test_tasks=2
    )
    with pytest.raises(UserError, match="was trained for regression"):
        FewShotClassifier(waves.folder).fit(images, list("abab"))


def as_pixels(X, shape):
    """Rows of any numbers as square images, for checks whose data is neither."""
    if X.ndim == 2 and X.dtype.kind in "fiu":
        side = math.ceil(math.sqrt(X.shape[1]))
        X = 1 / (1 + np.exp(-np.clip(X.astype(float), -50, 50)))
        X = np.pad(X, ((0, 0), (0, side * side - X.shape[1])))
    return image_bytes(X, shape)


# Inner steps can separate classes even of noise.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([FewShotClassifier()])
def test_what_scikit_learn_asks_of_an_estimator(estimator, check, monkeypatch):
    """All of its checks, with only their data made pixels of square images."""
    monkeypatch.setattr("innerloop.inputs.image_bytes", as_pixels)
    check(estimator)


def test_calibration_error_by_hand():
    """Guo et al. 2017, Eq. 3: two bins, sizes 3 and 1."""
    p = torch.tensor([[0.9, 0.1], [0.95, 0.05], [0.99, 0.01], [0.45, 0.55]])
    labels = torch.tensor([0, 0, 1, 0])
    first = abs(2 / 3 - (0.9 + 0.95 + 0.99) / 3)
    expected = 3 / 4 * first + 1 / 4 * abs(0 - 0.55)
    assert expected_calibration_error(p, labels, bins=5) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError):
        expected_calibration_error(p[:0], labels[:0])


def test_the_temperature_is_found_again():
    """Labels drawn from softmax(z), shown as 3 z: the temperature is 3."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]
    temperature = fit_temperature(3 * z, labels)
    assert temperature == pytest.approx(3, abs=0.1)
    before = expected_calibration_error((3 * z).softmax(1), labels)
    after = expected_calibration_error((3 * z / temperature).softmax(1), labels)
    assert after < 0.01 < 0.1 < before


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_probabilities_can_be_trusted_whatever_the_number_of_pictures(shots):
    data = innerloop.data.glyphs(300)
    classes = innerloop.data.split_classes(data)["test"]
    sampler = EpisodeSampler(data, classes, n_way=20, k_shot=shots, k_query=10)
    found, truth = [], []
    for number in range(8):
        task = sampler.batch(number, 1).task(0)
        learnt = FewShotClassifier("glyphs-conv4", prepare="none", ink="light")
        learnt.fit(task.support_x.numpy(), task.support_y.numpy())
        found.append(torch.from_numpy(learnt.predict_proba(task.query_x.numpy())))
        truth.append(task.query_y)
    assert expected_calibration_error(torch.cat(found), torch.cat(truth)) < 0.04


def test_eight_threads_get_the_answers_of_one(episode):
    """As a web server asks: one fitted classifier, several requests at a time."""
    support, labels, query, _ = episode
    classifier = FewShotClassifier().fit(support, labels)
    right = classifier.predict_proba(query)
    for found in in_threads(lambda _: [classifier.predict_proba(query) for _ in range(5)]):
        assert all(np.array_equal(probabilities, right) for probabilities in found)


def many(start):
    """Pictures of five glyphs that no network has seen, ten each; and of others."""
    data = innerloop.data.glyphs(300)
    rows = innerloop.data.split_classes(data)["test"]
    own = np.concatenate([data.class_images(c)[start : start + 5, 0] for c in rows[:5]])
    others = np.concatenate([data.class_images(c)[:5, 0] for c in rows[10:15]])
    return own, np.repeat(list("abcde"), 5), others


@pytest.mark.parametrize("name", NAMES)
def test_none_of_these(name):
    support, labels, others = many(0)
    query, _, _ = many(5)
    classifier = FewShotClassifier(name, prepare="none").fit(support, labels)
    told, plain = classifier.predict(query, reject=0.1), classifier.predict(query)
    assert told.dtype == object
    kept = told != None  # noqa: E711
    assert (told[kept] == plain[kept]).all()
    assert kept.mean() > 0.6
    refused = [answer is None for answer in classifier.predict(others, reject=0.1)]
    assert np.mean(refused) >= 1 - kept.mean() - 1e-9
    # A larger allowed share refuses more pictures, those least like the classes first.
    more = np.array([answer is None for answer in classifier.predict(others, reject=0.3)])
    assert more.sum() >= sum(refused)
    familiar = classifier.familiarity(others)
    assert more.all() or familiar[more].max() < familiar[~more].min()


def test_a_promise_that_cannot_be_kept_is_said(episode):
    support, labels, query, _ = episode
    classifier = FewShotClassifier().fit(support, labels)
    for told in (classifier.predict, classifier.tell):
        with pytest.warns(
            UserWarning, match="an estimate: .* 5% .* takes 19 pictures .* there are 10"
        ) as said:
            told(query, reject=0.05)
        assert said[0].filename == __file__
    with pytest.raises(UserError, match="reject needs classes with two different pictures or more"):
        FewShotClassifier().fit(support[::2], labels[::2]).predict(query, reject=0.05)
    with pytest.raises(UserError, match="background= helps the heads of pretrained networks"):
        FewShotClassifier().fit(support, labels, background=query)
    with pytest.raises(UserError, match="head is for pretrained networks"):
        FewShotClassifier(head="ridge").fit(support, labels)
