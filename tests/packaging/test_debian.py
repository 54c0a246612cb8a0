"""Installing Debian packages for tests: only what is missing, only where it is possible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ci" / "debian.py"

# Stands in for both programs: logs its call, and knows of one installed package.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in
    *there) printf 'install ok installed' ;;
    *broken) exit 1 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dpkg-query", "apt-get"):
        program = folder / name
        program.write_text(FAKE.format(log=tmp_path / "log"))
        program.chmod(0o755)
    return folder


def _run(path: str, *packages: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *packages],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _log(programs: Path) -> str:
    return (programs.parent / "log").read_text()


def test_nothing_is_done_where_all_is_there(programs: Path) -> None:
    assert _run(f"{programs}:{os.environ['PATH']}", "there") == ""
    assert "apt-get" not in _log(programs)


def test_without_debian_it_says_what_is_not_installed(tmp_path: Path) -> None:
    assert "wanted not installed" in _run(str(tmp_path), "wanted")


def test_what_is_missing_is_installed_by_root_alone(programs: Path) -> None:
    said = _run(f"{programs}:{os.environ['PATH']}", "there", "wanted")
    if os.geteuid() == 0:
        assert said == ""
        assert _log(programs).splitlines()[-1].endswith("--no-install-recommends wanted")
    else:
        assert said == "not root: wanted not installed\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="installs as root only")
def test_a_failure_is_told_and_is_no_failure_of_the_caller(programs: Path) -> None:
    assert "broken not installed" in _run(f"{programs}:{os.environ['PATH']}", "broken")
