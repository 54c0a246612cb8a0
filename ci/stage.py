"""Runs the first stage, an ordinary setuptools build, and hands out what it built."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import native
import stock

# 2020-01-01, the time that members of stock's wheel carry.
_EPOCH = "1577836800"


def fix_time() -> None:
    """Gives everything that is built from here on one time, the caller's or the default."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", _EPOCH)


def build(root: Path) -> Mapping[str, bytes]:
    """Builds the tree at ``root``, the working directory: path in the wheel to its content.

    Raises:
        BuildError: a compiler is missing or refuses a source.
    """
    from setuptools import build_meta

    fix_time()
    work = root / native.WORK
    # Left from another state of the tree, files would get into the wheel.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        name = build_meta.build_wheel(folder)
        with zipfile.ZipFile(Path(folder, name)) as wheel:
            info = stock.dist_info(wheel.namelist()) + "/"
            return {n: wheel.read(n) for n in wheel.namelist() if not n.startswith(info)}
