"""Gets the locked stock wheel onto this machine, and never hands out one with another hash.

``python ci/fetch.py`` prints the path of the wheel for the running interpreter.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import lock
from errors import BuildError

OFFLINE = "RAY_STOCK_WHEEL"
FOLDER = "build/stock"


def sha256(path: Path) -> str:
    """The file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check(path: Path, wheel: lock.StockWheel) -> None:
    """Raises BuildError unless the file at ``path`` is the locked wheel, byte for byte."""
    found = sha256(path)
    if found != wheel.sha256:
        raise BuildError(
            f"{path} is not the stock wheel that is locked.\n"
            f"sha256 is   {found}\n"
            f"locked is   {wheel.sha256} ({wheel.file})\n"
            f"Get {wheel.file} of ray {wheel.version} as PyPI has it. If an index of yours serves\n"
            f"another file under that name, point {OFFLINE} at a good copy."
        )


def _given(path: Path, wheel: lock.StockWheel) -> Path:
    if not path.is_file():
        raise BuildError(
            f"{OFFLINE} names {path}, which is no file.\n"
            f"Point it at a copy of {wheel.file}, or unset it to have the wheel downloaded."
        )
    check(path, wheel)
    return path


def _download(wheel: lock.StockWheel, folder: Path) -> None:
    digits = wheel.python[2:]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={digits[0]}.{digits[1:]}", f"--abi={wheel.python}"]
    command += [f"--platform={wheel.platform}", f"--dest={folder}", f"ray=={wheel.version}"]
    result = subprocess.run(command, stdout=sys.stderr, check=False)
    if result.returncode or not (folder / wheel.file).is_file():
        raise BuildError(
            f"pip could not download {wheel.file} (its output is above).\n"
            f"Without a network, fetch the file elsewhere and set {OFFLINE}=/path/to/{wheel.file}."
        )


def fetch(root: Path, wheel: lock.StockWheel) -> Path:
    """The path of the locked wheel: ``RAY_STOCK_WHEEL`` if set, else downloaded once and kept.

    Raises:
        BuildError: it cannot be had, or what was had does not have the locked hash.
    """
    given = os.environ.get(OFFLINE)
    if given:
        return _given(Path(given).expanduser().resolve(), wheel)
    kept = root / FOLDER / wheel.file
    if kept.is_file() and sha256(kept) == wheel.sha256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own, so that a download that breaks off or is wrong is never taken for good.
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        _download(wheel, Path(folder))
        check(Path(folder, wheel.file), wheel)
        os.replace(Path(folder, wheel.file), kept)
    return kept


def for_this_python(root: Path) -> tuple[lock.StockWheel, Path]:
    """The locked wheel for the running interpreter, and its path. Raises BuildError as above."""
    wheel = lock.pick(lock.read(root), lock.this_python(), lock.this_platform())
    return wheel, fetch(root, wheel)


def main() -> None:
    try:
        print(for_this_python(Path(__file__).resolve().parent.parent)[1])
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
