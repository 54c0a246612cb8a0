"""The lock: which stock wheels the fork may be built on, by Python and platform.

``python ci/lock.py`` says whether this interpreter can build the fork. It runs on any Python 3.
"""

import json
import pathlib
import platform
import sys
import sysconfig
from typing import List, NamedTuple

from errors import BuildError

FILE = "ci/stock.lock.json"


class StockWheel(NamedTuple):
    """One locked wheel."""

    version: str
    python: str
    platform: str
    file: str
    sha256: str


def read(root: pathlib.Path) -> List[StockWheel]:
    """All locked wheels of the tree at ``root``."""
    raw = json.loads((root / FILE).read_text(encoding="utf-8"))
    return [StockWheel(version=raw["version"], **wheel) for wheel in raw["wheels"]]


def this_python() -> str:
    """The tag of the running interpreter, such as ``cp311``; ``cp313t`` if it has no GIL."""
    name = {"cpython": "cp"}.get(sys.implementation.name, sys.implementation.name)
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{name}{sys.version_info[0]}{sys.version_info[1]}{threads}"


def this_platform() -> str:
    """The tag of the running platform; for Linux with glibc the one that stock's wheels carry."""
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if tag.startswith("linux_"):
        libc = "manylinux2014" if platform.libc_ver()[0] == "glibc" else "linux_without_glibc"
        return tag.replace("linux", libc, 1)
    return tag


def pick(wheels: List[StockWheel], python: str, platform_tag: str) -> StockWheel:
    """The locked wheel for one interpreter.

    Raises:
        BuildError: there is none; the text lists those that there are and the ways out.
    """
    for wheel in wheels:
        if (wheel.python, wheel.platform) == (python, platform_tag):
            return wheel
    locked = ", ".join(f"{w.python} on {w.platform}" for w in wheels)
    raise BuildError(
        f"no stock Ray wheel is locked for {python} on {platform_tag}.\n"
        f"Locked are: {locked}.\n"
        "Build with a CPython of that list (make PYTHON=python3.11), on another platform inside a\n"
        "container (docker run --platform linux/amd64 python:3.11). To support a new combination\n"
        f"add the file name and sha256 of the wheel that PyPI has for it to {FILE}."
    )


def main() -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    try:
        pick(read(root), this_python(), this_platform())
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
