"""Where the fork's files lie in the tree, and what they are called in the wheel.

Paths in the wheel are posix strings. An extension's name ends in ``{EXT_SUFFIX}``, which stands
for what the running Python appends (``.cpython-311-x86_64-linux-gnu.so``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKAGE = "ray/util/client"
EXT_SUFFIX = "{EXT_SUFFIX}"

_PYTHON = "python"
_CACHE = "src/cache"
_PROTOCOL = "src/protocol"

# What compilers, editors and tools leave beside sources.
_LEFTOVERS = frozenset({".c", ".o", ".orig", ".pyc", ".rej", ".so", ".swp"})


def _is_source(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.suffix not in _LEFTOVERS and not path.name.endswith("~")


def _sources(folder: Path) -> Iterator[Path]:
    """Sources under ``folder``, relative to it, sorted."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return iter(sorted(filter(_is_source, found)))


def descriptors(root: Path) -> dict[str, Path]:
    """Descriptor sets to be compiled: path in the wheel to the ``.proto``."""
    protos = sorted((root / _PROTOCOL).glob("*.proto"))
    return {f"{PACKAGE}/session/{proto.stem}.binpb": proto for proto in protos}


def extensions(root: Path) -> dict[str, Path]:
    """Extensions to be compiled: path in the wheel to the ``.pyx``."""
    modules = sorted((root / _CACHE).glob("*.pyx"))
    return {f"{PACKAGE}/cache/{module.stem}{EXT_SUFFIX}": module for module in modules}


def copied(root: Path) -> dict[str, Path]:
    """Files that go into the wheel as they are: path in the wheel to the file."""
    package = root / _PYTHON / PACKAGE
    files = {f"{PACKAGE}/{path.as_posix()}": package / path for path in _sources(package)}
    headers = (p for p in _sources(root / _CACHE) if p.suffix in {".pxd", ".pyi"})
    files.update({f"{PACKAGE}/cache/{p.as_posix()}": root / _CACHE / p for p in headers})
    for generated in descriptors(root):
        files.pop(generated, None)
    return files


def overlay(root: Path) -> set[str]:
    """Every path in the wheel that the tree at ``root`` makes."""
    return {*copied(root), *descriptors(root), *extensions(root)}
