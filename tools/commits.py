"""Checks the subjects of commits: `python -m tools.commits [RANGE]`.

Each has 72 characters at most, ends without a full stop, and stands alone: a blank line follows.
With `--message FILE` it checks a message that is being written (see .pre-commit-config.yaml).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MOST = 72
# Subjects are kept short from here on; earlier ones stay as they are.
SINCE = "2026-11-27T19:30:00Z"


def faults(message: str) -> list[str]:
    """Problems of a commit message.

    Args:
        message: as git keeps it; or as it comes from an editor, with comments after `#`.
    """
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    while lines and not lines[0]:
        del lines[0]
    if not lines:
        return ["it is empty"]
    subject = lines[0]
    found = []
    if len(subject) > MOST:
        found.append(f"the subject has {len(subject)} characters; shorten it to {MOST}")
    if subject.endswith("."):
        found.append("the subject ends with a full stop")
    if len(lines) > 1 and lines[1]:
        found.append("no blank line follows the subject")
    return found


def messages(commits: str, folder: Path = Path(), since: str | None = None) -> dict[str, str]:
    """The messages of the commits in a range, by short name.

    Args:
        commits: as `git log` takes them.
        folder: of the repository.
        since: leave out what was committed before that time.

    Raises:
        SystemExit: git does not know the range, as in a clone without its history.
    """
    later = [] if since is None else [f"--since={since}"]
    command = ["git", "log", "--format=%h%n%B%x00", *later, commits]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(
            f"{done.stderr.strip()}\nThe whole history is needed: git fetch --unshallow"
        )
    each = (text.strip().partition("\n") for text in done.stdout.split("\0") if text.strip())
    return {name: message for name, _, message in each}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "range", nargs="?", help=f"as `git log` takes it; by default all since {SINCE}"
    )
    parser.add_argument("--message", type=Path, help="a file with the message to check instead")
    options = parser.parse_args()
    if options.message:
        found = {"this commit": options.message.read_text("utf-8")}
    elif options.range:
        found = messages(options.range)
    else:
        found = messages("HEAD", since=SINCE)
    wrong = [f"{name}: {fault}" for name, text in found.items() for fault in faults(text)]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
