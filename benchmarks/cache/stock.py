"""Stock Ray's ordered cache, out of the stock wheel: what ours is measured against."""

from __future__ import annotations

import ast
import os
import zipfile
from pathlib import Path

MEMBER = "ray/util/client/common.py"
WANTED = ("_id_is_newer", "OrderedResponseCache")
PRELUDE = """
import threading
from collections import OrderedDict
from typing import *
INT32_MAX = 2**31 - 1
"""


def find_stock_wheel() -> Path:
    """Returns the stock wheel: $RAY_STOCK_WHEEL, or the one that the build has fetched.

    Raises:
        FileNotFoundError: there is none.
    """
    named = os.environ.get("RAY_STOCK_WHEEL")
    if named:
        return Path(named)
    folder = Path(__file__).parents[2] / "build" / "stock"
    wheels = sorted(folder.glob("ray-2.60.0-cp*.whl"))
    if not wheels:
        raise FileNotFoundError(
            f"No stock wheel in {folder}: run `make wheel`, or name one with RAY_STOCK_WHEEL."
        )
    return wheels[0]


def stock_cache_class() -> type:
    """Returns stock's OrderedResponseCache, made from its own source without the rest of Ray."""
    with zipfile.ZipFile(find_stock_wheel()) as wheel:
        tree = ast.parse(wheel.read(MEMBER))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in WANTED]
    namespace: dict[str, object] = {}
    exec(PRELUDE, namespace)
    exec(compile(tree, MEMBER, "exec"), namespace)
    return namespace["OrderedResponseCache"]
