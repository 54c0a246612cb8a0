"""Both implementations of the ordered cache, and a way to know that somebody waits."""

from __future__ import annotations

import importlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray.util.client.cache._wait import Wait


def ordered_cache_class(implementation: str) -> type:
    """Returns the class, and skips (where CI wants it: fails) if it was not compiled."""
    try:
        module = importlib.import_module(f"ray.util.client.cache._{implementation}")
    except ModuleNotFoundError:
        if os.environ.get("REQUIRE_CYTHON") == "1":
            pytest.fail("the compiled cache is missing although REQUIRE_CYTHON=1")
        pytest.skip("the compiled cache is not built")
    return module.OrderedResponseCache


@pytest.fixture(params=["python", "cython"])
def make_cache(request: pytest.FixtureRequest) -> type:
    """The OrderedResponseCache class of each implementation in turn."""
    return ordered_cache_class(request.param)


@pytest.fixture
def cache(make_cache: type):
    """An empty cache with default bounds."""
    return make_cache()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A semaphore that is released each time a duplicate is about to block."""
    blocked = threading.Semaphore(0)
    result = Wait.result

    def announced(self: Wait, *args):
        blocked.release()
        return result(self, *args)

    monkeypatch.setattr(Wait, "result", announced)
    return blocked


@pytest.fixture
def pool():
    """Threads to wait in."""
    with ThreadPoolExecutor(max_workers=8) as executor:
        yield executor
