"""The measurement of tests, on two of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = """
import time

def test_works():
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass

def test_waits():
    time.sleep(0.5)
"""


def test_work_counts_and_waiting_does_not(tmp_path):
    (tmp_path / "test_two.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    code = f"""
import sys
from pathlib import Path
from benchmarks import reports
reports.RESULTS = Path({str(tmp_path)!r})
reports.matrix_product_rate = lambda: 0
from tools import slowest
sys.argv = ["slowest", "two", "-n", "2", "-p", "no:cacheprovider", {str(tmp_path)!r}]
slowest.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (first, seconds), (_, less) = json.loads((tmp_path / "slowest_two.json").read_text("utf-8"))[
        "runs"
    ]["slowest"].items()
    assert first.endswith("test_works")
    assert seconds > 0.25 > less
