"""The settings that mutmut gets, and how its results are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from trials import mutants

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("module", mutants.TESTS)
def test_modules_and_their_tests_exist(module):
    assert (ROOT / f"src/innerloop/{module}.py").exists()
    assert all((ROOT / test).exists() for test in mutants.TESTS[module])
    assert f"    src/innerloop/{module}.py\n" in mutants.configuration(module)


def test_fates_are_read():
    listed = (
        "    a.x_f__mutmut_1: killed\n    a.x_f__mutmut_2: no tests\n    a.x_f__mutmut_3: killed\n"
    )
    assert mutants.survivors(listed) == {
        "killed": ["a.x_f__mutmut_1", "a.x_f__mutmut_3"],
        "no tests": ["a.x_f__mutmut_2"],
    }
