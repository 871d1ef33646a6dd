"""The settings that mutmut gets, and how its results are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from trials import mutants

ROOT = Path(__file__).parent.parent


def test_modules_and_their_tests_exist():
    assert {"functional", "algorithms/maml", "tasks/sampler"} <= set(mutants.MODULES)
    assert all((mutants.SOURCE / f"{module}.py").exists() for module in mutants.MODULES)
    assert all((ROOT / path).exists() for path in [*mutants.TESTS, *mutants.COPIED])
    wanted = "only_mutate=\n    src/innerloop/functional.py\n    src/innerloop/tasks/plan.py\n"
    assert wanted in mutants.configuration(["functional", "tasks/plan"])


def test_fates_are_read_and_counted():
    listed = "    a.f__mutmut_1: killed\n    a.f__mutmut_2: no tests\n    a.f__mutmut_3: killed\n"
    found = mutants.fates(listed)
    assert found["a.f__mutmut_2"] == "no tests"
    assert mutants.report(found) == {
        "mutants": 3,
        "killed": 2,
        "no tests": 1,
        "names": {"survived": [], "no tests": ["a.f__mutmut_2"], "timeout": []},
    }


def test_mutants_have_the_names_that_mutmut_gives_them():
    pytest.importorskip("mutmut")
    names = mutants.mutants("algorithms/meta_sgd")
    assert names[0].startswith("innerloop.algorithms.meta_sgd.")
    assert len(names) == len(set(names)) > 1
