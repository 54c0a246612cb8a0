"""The wheel under test, the stock wheel it is made from, and copies of the tree to break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Last, so that nothing else is hidden by the short names of the build's modules.
sys.path.append(str(ROOT / "ci"))

import fetch  # noqa: E402

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _setting(name: str) -> Path:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set; run these tests with `make test TESTS=tests/packaging`")
    return Path(value)


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The fork's wheel, as `make wheel` built it from this tree."""
    return _setting("RECONNECT_WHEEL")


@pytest.fixture(scope="session")
def build_python() -> Path:
    """An interpreter that has what the build needs."""
    return _setting("RECONNECT_BUILD_PYTHON")


@pytest.fixture(scope="session")
def stock_wheel() -> Path:
    """The locked stock wheel."""
    return fetch.for_this_python(ROOT)[1]


@pytest.fixture
def members(wheel: Path) -> dict[str, zipfile.ZipInfo]:
    """The fork's members by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {member.filename: member for member in archive.infolist()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, in another place than the original."""

    def skip(folder: str, names: list[str]) -> set[str]:
        top = {n for n in names if Path(folder) == ROOT and n in {"build", "dist", "tests"}}
        return top | {n for n in names if n.startswith(".") or n == "__pycache__"}

    copy = tmp_path / "elsewhere"
    shutil.copytree(ROOT, copy, ignore=skip)
    return copy


@pytest.fixture
def run_pip(tree: Path, build_python: Path, stock_wheel: Path) -> Run:
    """Runs pip in the copied tree, without a network; returns the process with its output."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
        clean.update({fetch.OFFLINE: str(stock_wheel), **environment})
        return subprocess.run(
            [build_python, "-m", "pip", *arguments],
            cwd=tree,
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def build_wheel(tree: Path, run_pip: Run) -> Run:
    """Builds the copied tree's wheel into its ``dist``."""

    def build(**environment: str) -> subprocess.CompletedProcess[str]:
        return run_pip(
            "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir=dist", ".", **environment
        )

    return build
