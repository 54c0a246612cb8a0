"""Installing, going back to stock, uninstalling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import fetch
import pytest
import stock

_REPORT = """
import importlib.metadata, json, sys
import ray, grpc
from ray.util.client import cache
from ray.util.client.cache import _cython
print(json.dumps({
    "label": importlib.metadata.version("ray"),
    "version": ray.__version__,
    "file": ray.__file__,
    "implementation": cache.IMPLEMENTATION,
    "extension": _cython.__file__,
    "module": cache.OrderedResponseCache.__module__,
}))
"""


class Venv:
    """A virtual environment of its own."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.folder = folder
        self.packages = folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"

    def python(self, *arguments: object) -> str:
        command = [self.folder / "bin" / "python", *map(str, arguments)]
        result = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def pip(self, *arguments: object) -> None:
        self.python("-m", "pip", "--quiet", *arguments)

    def files(self) -> set[str]:
        """What belongs to Ray: paths of files, of programs too, relative to the environment."""
        found = [*self.packages.glob("ray*/**/*"), *(self.folder / "bin").iterdir()]
        names = {str(path.relative_to(self.folder)) for path in found if path.is_file()}
        return {n for n in names if not n.startswith("bin/") or n[4:] in {"ray", "serve", "tune"}}


@pytest.mark.slow
def test_install_of_the_one_file(wheel, tmp_path):
    """With its dependencies, from nothing; what is loaded is compiled; uninstall leaves nothing."""
    venv = Venv(tmp_path / "env")
    venv.pip("install", wheel)
    report = json.loads(venv.python("-c", _REPORT))
    assert report["label"] == "2.60.0+reconnect.1"
    assert report["version"] == "2.60.0"
    assert Path(report["file"]).is_relative_to(venv.packages)
    assert report["implementation"] == "cython"
    assert report["module"] == "ray.util.client.cache._cython"
    assert report["extension"].endswith(".so")

    venv.pip("uninstall", "--yes", "ray")
    assert venv.files() == set()
    assert not (venv.packages / "ray").exists()


@pytest.mark.slow
def test_stock_to_fork_and_back(wheel, stock_wheel, tmp_path):
    venv = Venv(tmp_path / "env")
    # No byte code, so that files can be compared with what the wheels hold.
    install = ("install", "--no-deps", "--no-compile", "--no-index")
    venv.pip(*install, stock_wheel)
    before = venv.files()
    venv.pip(*install, wheel)
    assert (venv.packages / "ray/util/client/session/wire.py").is_file()
    venv.pip(*install, stock_wheel)
    assert venv.files() == before
    client = {n: h for n, h in stock.hashes(stock_wheel).items() if "util/client/" in n}
    for name, digest in client.items():
        assert fetch.sha256(venv.packages / name) == digest, name
