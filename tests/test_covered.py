"""The figure of coverage is that of coverage's own report."""

from __future__ import annotations

import json
import sys

from benchmarks import reports
from tools import covered


def summary(statements, lines, branches, taken):
    values = (statements, lines, branches, taken)
    return {"summary": dict(zip(covered.COUNTED, values, strict=True))}


def test_files_are_counted_by_folder_and_together(tmp_path, monkeypatch):
    files = {
        "src/innerloop/tasks/plan.py": summary(10, 10, 4, 2),
        "src/innerloop/tasks/deep/er.py": summary(2, 1, 0, 0),
        "/elsewhere/innerloop/src/innerloop/errors.py": summary(4, 3, 0, 0),
    }
    (tmp_path / "report.json").write_text(json.dumps({"files": files}))
    monkeypatch.setattr(reports, "RESULTS", tmp_path)
    monkeypatch.setattr(reports, "matrix_product_rate", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["covered", str(tmp_path / "report.json")])
    covered.main()
    assert json.loads((tmp_path / "coverage.json").read_text())["runs"] == {
        "": {"statements": 4, "branches": 0, "percent": 75.0},
        "all": {"statements": 16, "branches": 4, "percent": 80.0},
        "tasks": {"statements": 12, "branches": 4, "percent": 81.25},
    }
