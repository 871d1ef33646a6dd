"""Run all trials and write `research/reports.md`: `python -m research.reports`."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from research.reports import classify, pictures, tasks
from research.reports.listed import REPORTS, places
from research.reports.trial import TRIALS

TABLE = Path(__file__).parents[1] / "reports.md"
MODULES = (pictures, tasks, classify)

HEAD = (
    "# Reports of other libraries' users, tried on innerloop\n\n"
    "{number} public reports about the steps from files and arrays to a trained network and its "
    "answers: of libraries for few-shot learning, and of users of Pillow, NumPy, torchvision, "
    "scikit-learn and PyTorch. Each is tried here by a function of `research/reports/`; "
    "`tests/test_reports.py` fails if it comes out otherwise. `python -m research.reports` runs "
    "all and writes this page.\n\n"
    "| reports | what was reported | what was tried here | what came |\n|---|---|---|---|\n"
)


def table() -> str:
    """The page, from the list and the trials."""
    rows = [
        f"| {sources} | {reported} | {TRIALS[name].tried} | {TRIALS[name].came} |"
        for reported, name, sources in REPORTS
    ]
    return HEAD.format(number=len(places())) + "\n".join(rows) + "\n"


def main() -> None:
    """Run the command line."""
    failed = 0
    for name in sys.argv[1:] or TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                TRIALS[name].run(Path(folder))
                print(f"{name}: {TRIALS[name].came}", flush=True)
            except Exception:  # whatever it was, the others are tried
                failed += 1
                print(f"{name} failed: {traceback.format_exc()}", flush=True)
    if not failed and not sys.argv[1:]:
        TABLE.write_text(table(), "utf-8")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
