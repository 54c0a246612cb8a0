"""The wheel's platform tag: stock's, unless our extensions need a newer C library."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What the names of PEP 600's predecessors stand for.
_OLD_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}

_NEEDED = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)")


def needed_glibc(extension: bytes) -> tuple[int, int]:
    """The newest glibc that a shared library asks for, read off the symbol versions it names."""
    versions = ((int(major), int(minor)) for major, minor in _NEEDED.findall(extension))
    return max(versions, default=(0, 0))


def platform_tag(stock_tag: str, extensions: Iterable[bytes]) -> str:
    """``stock_tag``, raised if an extension needs more than the glibc that it promises."""
    policy, machine = stock_tag.split("_", 1)
    needed = max(map(needed_glibc, extensions), default=(0, 0))
    if needed <= _OLD_NAMES[policy]:
        return stock_tag
    return f"manylinux_{needed[0]}_{needed[1]}_{machine}"
