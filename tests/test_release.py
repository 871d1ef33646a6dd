"""The release script, in repositories that it may spoil."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import release

import innerloop

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="no git")
LOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0\n\n- All.\n"
# In the place of the real one, which takes a minute.
BUILD = """
import pathlib, sys
out = pathlib.Path(sys.argv[1])
out.mkdir()
(out / "innerloop.whl").write_text("built")
"""


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    for name, text in {
        "pyproject.toml": '[project]\nname = "innerloop"\nversion = "0.1.0"\n',
        "src/innerloop/__init__.py": '__version__ = "0.1.0"\n',
        "CITATION.cff": "version: 0.1.0\nlicense: MIT\n",
        "CHANGELOG.md": LOG,
        "tools/__init__.py": "",
        "tools/wheels.py": BUILD,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for words in (
        "init --quiet --initial-branch main",
        "config user.name somebody",
        "config user.email somebody@example.org",
        "add .",
        "commit --quiet --message Begin",
    ):
        release.git(folder, *words.split())
    return folder


def state(folder):
    return [
        release.git(folder, *words.split()) for words in ("log --format=%s", "tag", "status -s")
    ]


def test_a_release_is_a_commit_a_tag_and_files(repository, tmp_path):
    check = "grep -q 0.2.0 pyproject.toml src/innerloop/__init__.py CITATION.cff"
    release.release(repository, "0.2.0", check, False, tmp_path / "dist")
    assert state(repository) == ["Release 0.2.0\nBegin", "v0.2.0", ""]
    assert (tmp_path / "dist/innerloop.whl").read_text() == "built"
    log = (repository / "CHANGELOG.md").read_text()
    head, released, rest = log.partition("\n## 0.2.0 - 20")
    assert head == "# Changelog\n\n## Unreleased\n"
    assert released
    assert rest.partition("\n")[2] == LOG.partition("Unreleased\n")[2]


def test_a_dry_run_shows_the_changes_and_leaves_everything(repository, tmp_path):
    before = state(repository)
    shown = release.release(repository, "0.2.0", "true", True, tmp_path / "dist")
    assert '+version = "0.2.0"' in shown
    assert state(repository) == before
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("version", "checks", "spoil", "message"),
    [
        ("0.2", "true", None, "as 1.2.3"),
        ("0.1.0", "true", None, "not above 0.1.0"),
        ("0.2.0", "false", None, "checks failed"),
        ("0.2.0", "true", lambda f: (f / "CITATION.cff").write_text("x"), "not committed"),
        ("0.2.0", "true", lambda f: release.git(f, "tag", "v0.2.0"), "a tag v0.2.0 already"),
    ],
)
def test_what_is_in_the_way_stops_it(repository, tmp_path, version, checks, spoil, message):
    if spoil:
        spoil(repository)
    before = state(repository)
    with pytest.raises(SystemExit, match=message):
        release.release(repository, version, checks, False, tmp_path / "dist")
    assert state(repository) == before
    assert not (tmp_path / "dist").exists()


def test_a_release_needs_news(repository):
    (repository / "CHANGELOG.md").write_text(LOG.replace("- A thing.\n", ""))
    with pytest.raises(SystemExit, match="says of no change"):
        release.write_version(repository, "0.2.0", "2027-01-01")


def test_versions_of_this_repository_stand_where_they_are_looked_for(tmp_path):
    for name in (*release.VERSIONS, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert release.current(tmp_path) == innerloop.__version__
    release.write_version(tmp_path, "99.0.0", "2027-01-01")
    assert all("99.0.0" in (tmp_path / name).read_text("utf-8") for name in release.VERSIONS)


def test_the_command_says_what_it_does():
    done = subprocess.run(
        [sys.executable, "-m", "tools.release", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
