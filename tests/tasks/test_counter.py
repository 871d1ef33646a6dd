"""Counter-based random numbers."""

from __future__ import annotations

import numpy as np

from innerloop.tasks.counter import _mix, make_key, random_bits, random_uniform


def test_any_part_of_the_stream_is_the_same_alone():
    whole = random_bits(make_key(3, "val"), 2, 0, 50, 7)
    assert np.array_equal(random_bits(make_key(3, "val"), 2, 20, 5, 7), whole[20:25])
    assert np.array_equal(random_bits(make_key(3, "val"), 2, 0, 50, 3), whole[:, :3])
    for key, stream in ((make_key(4, "val"), 2), (make_key(3, "test"), 2), (make_key(3, "val"), 1)):
        assert (random_bits(key, stream, 0, 50, 7) != whole).all()


def test_uniform_numbers_are_uniform():
    u = random_uniform(make_key(0, "train"), 0, 0, 1000, 100)
    assert 0 <= u.min() < 1e-3 < 0.999 < u.max() < 1
    counts, _ = np.histogram(u, 20)
    # Standard deviation of a count is 69.
    assert abs(counts - 5000).max() < 300
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.02


def test_numbers_stay_the_same_from_release_to_release():
    assert random_bits(make_key(0, "train"), 0, 0, 2, 2).tolist() == GOLDEN
    assert random_bits(make_key(7, "val"), 5, 10**9, 1, 1).item() == GOLDEN_LATER


GOLDEN = [[14980057030888350253, 7459509664547748060], [7485227485656431222, 4474750042801347163]]
GOLDEN_LATER = 12712208947199536192


def test_what_is_given_is_not_changed():
    x = np.arange(5, dtype=np.uint64)
    _mix(x)
    assert np.array_equal(x, np.arange(5))
