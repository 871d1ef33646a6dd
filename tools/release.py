"""Makes a release: `python -m tools.release 0.2.0 [--dry-run]`.

In a fresh clone of the last commit, it writes the version and the date into the files that state
them, runs all checks, builds the files to publish, commits and tags.  Only then does it bring the
commit and the tag into this repository, and the files into `dist/`.  With `--dry-run` it shows the
changes instead.  It pushes and uploads nothing, and prints the steps that are left.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Where the version stands: a pattern with one group for what is before it.
VERSIONS = {
    "pyproject.toml": r'^(version = ")[^"]+',
    "src/innerloop/__init__.py": r'^(__version__ = ")[^"]+',
    "CITATION.cff": r"^(version: )\S+",
}
UNRELEASED = "## Unreleased"


def git(folder: Path, *words: str) -> str:
    """What a command of git prints.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def numbers(version: str) -> tuple[int, int, int]:
    """A semantic version as numbers.

    Raises:
        SystemExit: it is none.
    """
    if not (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)):
        raise SystemExit(f"{version!r} is no version: write it as 1.2.3")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def current(folder: Path) -> str:
    """The version of a checkout."""
    text = (folder / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    if not found:
        raise SystemExit("pyproject.toml has no version")
    return found[1]


def write_version(folder: Path, version: str, date: str) -> None:
    """Change a checkout to be that version, released on that day.

    Raises:
        SystemExit: the version is not above the last one, has nothing in CHANGELOG.md, or does not
            stand where it should.
    """
    last = current(folder)
    if numbers(version) <= numbers(last):
        raise SystemExit(f"{version} is not above {last}")
    log = (folder / "CHANGELOG.md").read_text("utf-8")
    head, mark, rest = log.partition(f"\n{UNRELEASED}\n")
    news = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not mark or not re.search(r"^- ", news, re.MULTILINE):
        raise SystemExit(f"CHANGELOG.md says of no change under {UNRELEASED!r}")
    texts = {"CHANGELOG.md": f"{head}\n{UNRELEASED}\n\n## {version} - {date}\n{rest}"}
    for name, pattern in VERSIONS.items():
        text, times = re.subn(
            pattern,
            rf"\g<1>{version}",
            (folder / name).read_text("utf-8"),
            count=1,
            flags=re.MULTILINE,
        )
        if not times:
            raise SystemExit(f"{name} has no version")
        texts[name] = text
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


def release(repository: Path, version: str, checks: str, dry_run: bool, out: Path) -> str:
    """A release of the repository's last commit.

    Args:
        repository: a clean checkout, on a branch.
        version: such as `"0.2.0"`.
        checks: a command for the shell, run in the clone once the version is written.
        dry_run: leave the repository and `out` as they are.
        out: the folder for what is published.

    Returns:
        The changes, as git shows them.

    Raises:
        SystemExit: something is in the way, or a check failed.
    """
    if git(repository, "status", "--porcelain"):
        raise SystemExit("there are changes that are not committed: commit or stash them")
    tag = f"v{version}"
    if git(repository, "tag", "--list", tag):
        raise SystemExit(f"there is a tag {tag} already")
    if not dry_run and out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty: move away what is in it")
    branch = git(repository, "symbolic-ref", "--short", "HEAD")
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "innerloop"
        git(repository, "clone", "--quiet", "--branch", branch, str(repository), str(clone))
        for key in ("user.name", "user.email"):
            git(clone, "config", key, git(repository, "config", key))
        write_version(clone, version, datetime.date.today().isoformat())
        git(clone, "commit", "--quiet", "--all", "--message", f"Release {version}")
        git(clone, "tag", "--annotate", tag, "--message", f"innerloop {version}")
        if subprocess.run(checks, shell=True, cwd=clone).returncode:
            raise SystemExit(f"the checks failed ({checks}): nothing is released")
        build = [sys.executable, "-m", "tools.wheels", str(clone / "dist")]
        if subprocess.run(build, cwd=clone).returncode:
            raise SystemExit("the build failed: nothing is released")
        if not dry_run:
            git(repository, "pull", "--quiet", "--ff-only", str(clone), branch)
            git(repository, "fetch", "--quiet", str(clone), "tag", tag)
            shutil.copytree(clone / "dist", out, dirs_exist_ok=True)
        return git(clone, "show", "--format=%s", "HEAD")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="leave this repository as it is")
    parser.add_argument("--checks", default="bash .ci/run", help="a command for the shell")
    options = parser.parse_args()
    out = ROOT / "dist"
    print(release(ROOT, options.version, options.checks, options.dry_run, out))
    if options.dry_run:
        print("\nThis was a dry run: no commit, no tag, no files.")
        return
    files = " ".join(shlex.quote(str(file)) for file in sorted(out.iterdir()))
    print(f"\nReleased.  What is left:\n  git push --follow-tags\n  upload {files}")


if __name__ == "__main__":
    main()
