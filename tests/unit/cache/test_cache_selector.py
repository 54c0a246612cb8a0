"""Which implementation the package offers."""

import os
import subprocess
import sys

import pytest

from ray.util.client import cache
from ray.util.client.cache import _python

PROGRAM = """
import sys
{prelude}
from ray.util.client import cache
print(cache.IMPLEMENTATION, cache.OrderedResponseCache.__module__)
"""


def offered(prelude="", **environment):
    """Returns what a fresh interpreter prints about its cache."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(prelude=prelude)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_compiled_one_is_the_default(make_cache):
    if make_cache is _python.OrderedResponseCache:
        pytest.skip("asks for the compiled cache")
    assert offered(RAY_CLIENT_PURE_PYTHON_CACHE="") == [
        "cython",
        "ray.util.client.cache._cython",
    ]


def test_switch_to_python():
    expected = ["python", "ray.util.client.cache._python"]
    assert offered(RAY_CLIENT_PURE_PYTHON_CACHE="1") == expected


def test_python_stands_in_for_a_missing_extension():
    prelude = """
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "ray.util.client.cache._cython":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
"""
    expected = ["python", "ray.util.client.cache._python"]
    assert offered(prelude, RAY_CLIENT_PURE_PYTHON_CACHE="") == expected


def test_exports():
    assert all(hasattr(cache, name) for name in cache.__all__)
