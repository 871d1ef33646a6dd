"""Which tests take the most processor time: `python -m tools.slowest NAME [pytest's options]`.

Runs pytest, with `-n` also in several processes, and writes `benchmarks/results/slowest_NAME.json`.
It measures the processor time of a test, of its fixtures and of the processes that it starts and
waits for, because other work on the machine hardly changes processor time.  (Runs that
`trials.kills` kills belong to a server of processes, and count when that server ends.)
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

# In the list.
MOST = 30
# By test; as a plugin of pytest this module fills it.
SECONDS: Counter[str] = Counter()


def _processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a test from its fixtures to their end."""
    before = _processor_seconds()
    try:
        return (yield)
    finally:
        SECONDS[item.nodeid] += _processor_seconds() - before


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one process of several: hand over."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["seconds"] = dict(SECONDS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what such a process has measured."""
    SECONDS.update(getattr(node, "workeroutput", {}).get("seconds", {}))


def main() -> None:
    """The command."""
    from benchmarks.reports import write_report

    # The same module as pytest's plugin, which `__main__` is not.
    from tools import slowest

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    options, others = parser.parse_known_args()
    # It has been imported, and has no assertions to show.
    ignored = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    status = pytest.main(["-W", ignored, "-p", "tools.slowest", *others])
    report = {
        "tests": len(slowest.SECONDS),
        "processor_seconds": round(slowest.SECONDS.total()),
        "slowest": {name: round(s, 1) for name, s in slowest.SECONDS.most_common(MOST)},
    }
    command = " ".join(["python -m tools.slowest", options.name, *others])
    write_report(f"slowest_{options.name}", report, command)
    sys.exit(status)


if __name__ == "__main__":
    main()
