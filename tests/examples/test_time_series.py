"""examples/time_series.py learns from real recordings."""

from __future__ import annotations

import numpy as np

from examples import time_series


def test_recordings_are_of_ten_people_and_seven_exercises():
    X, exercises, people = time_series.windows()
    assert X.shape == (len(exercises), 6, 100)
    assert X.dtype == np.float32
    assert len(set(people)) == 10
    assert len(set(exercises)) == 70
    assert all(name.startswith(person) for name, person in zip(exercises, people, strict=True))


def test_it_learns_the_exercises_of_people_that_it_never_saw():
    found = time_series.main(iterations=25, tasks=20)
    # Chance is a seventh.
    assert found["MAML"] > 0.4
    assert found["ProtoNet"] > 0.55
