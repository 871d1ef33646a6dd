"""The table of public reports is true: each report is tried."""

from __future__ import annotations

import pytest
from research.reports.__main__ import TABLE, table
from research.reports.listed import REPORTS, places
from research.reports.trial import TRIALS


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", TRIALS)
def test_it_comes_out_as_the_table_says(name, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    TRIALS[name].run(tmp_path / "work")


def test_the_table_is_that_of_the_list():
    assert TABLE.read_text("utf-8") == table()
    assert len(places()) == len(set(places())) >= 100
    assert {name for _, name, _ in REPORTS} == set(TRIALS)
