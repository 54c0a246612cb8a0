"""`make dev` and `make undev`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import layout
import pytest


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A virtual environment with a stand-in for stock Ray."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    package = _packages(folder) / layout.PACKAGE
    package.mkdir(parents=True)
    (_packages(folder) / "ray" / "__init__.py").write_text("")
    (package / "protocol.py").write_text("stock = True\n")
    return folder


def _packages(venv: Path) -> Path:
    return venv / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"


def _content(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_text() for p in files}


@pytest.fixture
def dev(tree, build_python, venv):
    def run(action: str, folder: Path = venv) -> subprocess.CompletedProcess[str]:
        command = [build_python, "ci/dev.py", action, folder]
        return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)

    return run


def test_link_and_unlink(tree, venv, dev):
    package, before = _packages(venv), _content(_packages(venv))
    result = dev("link")
    assert result.returncode == 0, result.stderr
    links = {str(p.relative_to(package)): p for p in package.rglob("*") if p.is_symlink()}
    names = {name.replace(layout.EXT_SUFFIX, "") for name in layout.overlay(tree)}
    assert {name.split(".cpython-")[0] for name in links} == names
    protocol = links[f"{layout.PACKAGE}/protocol.py"]
    assert protocol.resolve() == (tree / "python" / layout.PACKAGE / "protocol.py").resolve()

    assert dev("unlink").returncode == 0
    assert _content(package) == before
    assert not any(p.is_symlink() for p in package.rglob("*"))


def test_linking_again_follows_the_tree(tree, venv, dev):
    before = _content(_packages(venv))
    extra = tree / "python" / layout.PACKAGE / "extra.py"
    extra.write_text("")
    assert dev("link").returncode == 0
    extra.unlink()
    assert dev("link").returncode == 0
    assert not (_packages(venv) / layout.PACKAGE / "extra.py").is_symlink()
    assert dev("unlink").returncode == 0
    assert _content(_packages(venv)) == before


def test_environment_without_ray_is_refused(venv, dev):
    (_packages(venv) / "ray" / "__init__.py").unlink()
    result = dev("link")
    assert result.returncode != 0
    assert "there is no Ray in" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_no_environment_is_refused(tmp_path, dev):
    result = dev("link", tmp_path / "nothing")
    assert result.returncode != 0
    assert "is no virtual environment" in result.stderr
