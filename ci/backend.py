"""The PEP 517 build backend: first setuptools builds our files, then they are merged with stock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Optional

import fetch
import layout
import manifest
import merge
import metadata
import stage
import stock
from errors import BuildError

ROOT = Path(__file__).resolve().parent.parent

_NO_EDITABLE = """\
error: this distribution cannot be installed in editable mode: most of it is the stock Ray wheel.
Run `make dev` instead. It links the files of this tree into the Ray of a virtual environment
(./.venv, or the one that VENV= names), so that what you edit is what runs; `make undev` undoes it.
"""

_NO_SDIST = """\
error: there is no source distribution: the wheel is built from a clone of the repository.
Run `make wheel`, or `python -m build --wheel`.
"""


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Ends the program with a BuildError's text, which a traceback would bury."""
    try:
        yield
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """Builds the fork's wheel into ``wheel_directory``; returns its file name. See PEP 517."""
    with _plain_errors():
        return build(ROOT, Path(wheel_directory))


def build(root: Path, folder: Path) -> str:
    """Builds the tree at ``root``, the working directory, into a wheel in ``folder``.

    Returns:
        The wheel's file name.

    Raises:
        BuildError: the text says what is wrong and what to do.
    """
    listed = manifest.read(root)
    manifest.check_paths(listed, layout.overlay(root))
    locked, stock_path = fetch.for_this_python(root)
    manifest.check_stock(listed, stock.hashes(stock_path))
    manifest.check_notice(root, listed, locked.version)
    ours = stage.build(root)
    manifest.check_paths(listed.for_this_python(), ours)
    licenses = {name: (root / name).read_bytes() for name in metadata.LICENSES}
    return merge.merge(locked, stock_path, ours, licenses, folder)


def build_sdist(sdist_directory: str, config_settings: Optional[dict[str, Any]] = None) -> NoReturn:
    """Always refuses, with a text that says what to do."""
    raise SystemExit(_NO_SDIST)


def get_requires_for_build_editable(
    config_settings: Optional[dict[str, Any]] = None,
) -> NoReturn:
    """Always refuses, with a text that says what to do; asked first, so that nothing is built."""
    raise SystemExit(_NO_EDITABLE)


def build_editable(
    wheel_directory: str,
    config_settings: Optional[dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> NoReturn:
    """Always refuses, with a text that says what to do."""
    raise SystemExit(_NO_EDITABLE)
