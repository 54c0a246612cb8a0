"""Memory: bounded over time, given back after a burst, visible to the garbage collector."""

import gc
import itertools
import tracemalloc
import weakref

import pytest

from ray.util.client.cache import INT32_MAX, CacheClosedError, CacheError


class Response:
    """A response of which weak references can be kept."""


@pytest.fixture
def traced():
    gc.collect()
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def send(cache, count, first=1):
    for i in range(first, first + count):
        req_id = (i - 1) % INT32_MAX + 1
        cache.check_cache(req_id)
        cache.update_cache(req_id, b"")
        if not i % 32:
            cache.cleanup(req_id)


@pytest.mark.slow
def test_a_million_acknowledged_requests_leave_nothing(cache):
    """Not traced: that would take minutes, and what counts is that nothing is left."""
    first = INT32_MAX - 500_000
    send(cache, 1_000_000, first)
    assert cache.entry_count <= 32
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        send(cache, 20_000, first + 1_000_000)
        assert tracemalloc.get_traced_memory()[0] - before < 32 * 1024
    finally:
        tracemalloc.stop()
    assert cache.entry_count <= 32


def test_burst_is_given_back(cache, traced):
    send(cache, 3200)
    before = traced()
    for req_id in range(3201, 50_001):
        cache.check_cache(req_id)
        cache.update_cache(req_id, b"")
    assert traced() - before > 1_000_000
    for req_id in range(3201, 50_001, 32):
        cache.cleanup(req_id)
    send(cache, 60_000, 50_001)  # a dict shrinks when it next grows
    assert traced() - before < 64 * 1024


def test_dropped_responses_die(make_cache):
    cache = make_cache(max_entries=2)
    alive = weakref.WeakSet()
    for req_id in range(1, 6):
        response = Response()
        alive.add(response)
        cache.check_cache(req_id)
        cache.update_cache(req_id, response)
    del response
    assert len(alive) == 2
    cache.cleanup(4)
    assert len(alive) == 1
    cache.update_cache(5, "other")
    assert len(alive) == 0


@pytest.mark.parametrize("end", ["close", "del"])
def test_responses_die_with_the_cache(make_cache, end):
    cache = make_cache()
    cache.check_cache(1)
    response = Response()
    cache.update_cache(1, response)
    response = weakref.ref(response)
    assert response() is not None
    if end == "close":
        cache.close()
    else:
        del cache
    assert response() is None


def test_cycle_through_a_cached_error_is_collected(make_cache):
    """A failed request's traceback holds the frame that holds the cache."""

    def fail():
        cache = make_cache()
        cache.check_cache(1)
        try:
            raise ValueError("bad")
        except ValueError as error:
            cache.update_cache(1, error)
        return weakref.ref(cache)

    gc.collect()
    remains = fail()
    gc.collect()
    assert remains() is None


@pytest.mark.parametrize("event", ["cleanup", "replace", "evict", "close"])
def test_dying_response_may_use_the_cache(make_cache, event):
    """A finalizer runs in the middle of a call, and finds a cache that is whole."""
    cache = make_cache(max_entries=4)
    ids = itertools.count(100)
    seen = []

    class Meddler:
        def __del__(self):
            seen.append(cache.entry_count)
            try:
                # Own ids: a finalizer that waits for the call that it interrupts waits for ever.
                for req_id in itertools.islice(ids, 4):
                    cache.check_cache(req_id)
                    cache.update_cache(req_id, req_id)
                cache.cleanup(4)
            except CacheError as error:
                seen.append(type(error))

    for req_id in range(1, 5):
        cache.check_cache(req_id)
        cache.update_cache(req_id, Meddler())
    events = {
        "cleanup": lambda: cache.cleanup(4),
        "replace": lambda: cache.update_cache(1, "other"),
        "evict": lambda: cache.check_cache(1000),
        "close": cache.close,
    }
    events[event]()
    assert seen
    assert (CacheClosedError in seen) == (event == "close")
    assert cache.entry_count == len(dict(cache.cache)) <= 4
    assert all(value in (req_id, None) for req_id, value in cache.cache.items())
    cache.cleanup(2000)
    assert (cache.entry_count, cache.byte_count) == (0, 0)
