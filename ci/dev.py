"""Links the tree's files into the Ray of a virtual environment, and undoes it.

``python ci/dev.py link VENV`` keeps the files that were there aside; ``… unlink VENV`` puts them
back. Both may be run again: the second ``link`` takes up files that came or went.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import layout
import stage
from errors import BuildError

_ASIDE = "replaced-by-dev"
_BUILT = "build/dev"
_ASK = (
    "import json, sysconfig as s;"
    "print(json.dumps([s.get_path('purelib'), s.get_config_var('EXT_SUFFIX')]))"
)


def site_packages(venv: Path) -> Path:
    """Where ``venv`` keeps its packages.

    Raises:
        BuildError: it is no virtual environment, has no Ray, or another Python than this one.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        raise BuildError(f"{venv} is no virtual environment. Make one with `make venv`.")
    command = [python, "-c", _ASK]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    folder, suffix = json.loads(answer)
    if suffix != sysconfig.get_config_var("EXT_SUFFIX"):
        raise BuildError(f"{venv} has another Python ({suffix}). Name that one with PYTHON=.")
    if not Path(folder, "ray", "__init__.py").is_file():
        raise BuildError(f"there is no Ray in {venv}. Install one first (`make venv`).")
    return Path(folder)


def _built(root: Path) -> dict[str, Path]:
    """Builds what has to be built: path in the wheel to the file, kept under ``build/dev``."""
    copied = layout.copied(root)
    files = {}
    for path, content in stage.build(root).items():
        if path not in copied:
            files[path] = root / _BUILT / path
            files[path].parent.mkdir(parents=True, exist_ok=True)
            # A new file, not new bytes in one that a running Ray may have mapped.
            files[path].unlink(missing_ok=True)
            files[path].write_bytes(content)
    return files


def link(root: Path, venv: Path) -> None:
    """Links every file of the overlay into ``venv``. Raises BuildError."""
    packages = site_packages(venv)
    files = {**layout.copied(root), **_built(root)}
    unlink(venv)
    # Made even if nothing is put into it: shows that the environment is linked.
    (venv / _ASIDE).mkdir()
    for path, source in files.items():
        place, aside = packages / path, venv / _ASIDE / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() or place.is_symlink():
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, aside)
        place.symlink_to(source)


def unlink(venv: Path) -> None:
    """Takes the links out of ``venv`` and puts back what they replaced. Raises BuildError.

    A wheel installs no symbolic links, so each that is found is one of ``link``'s.
    """
    packages = site_packages(venv)
    for place in sorted((packages / layout.PACKAGE).rglob("*")):
        if place.is_symlink():
            place.unlink()
            aside = venv / _ASIDE / place.relative_to(packages)
            if aside.exists():
                os.replace(aside, place)
    # What is left here was replaced by a pip install since.
    shutil.rmtree(venv / _ASIDE, ignore_errors=True)
    _prune(packages / layout.PACKAGE)


def _prune(folder: Path) -> None:
    """Removes the folders that ``link`` made; byte code of modules that are gone goes with them."""
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    for inner, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(inner):
            os.rmdir(inner)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["link", "unlink"])
    parser.add_argument("venv", type=Path)
    arguments = parser.parse_args()
    venv = arguments.venv.resolve()
    root = Path(__file__).resolve().parent.parent
    os.chdir(root)
    try:
        link(root, venv) if arguments.action == "link" else unlink(venv)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
