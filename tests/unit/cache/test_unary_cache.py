"""The cache for unary calls."""

import pytest

from ray.util.client.cache import (
    INT32_MAX,
    AlreadyAnsweredError,
    CacheClosedError,
    CacheFullError,
    EvictedError,
    ResponseCache,
    SupersededError,
    UnknownRequestError,
    WaitTimeoutError,
)

WITHIN = 60  # seconds; only to end a hang


@pytest.fixture
def unary():
    return ResponseCache()


def call(cache, thread_id, req_id):
    assert cache.check_cache(thread_id, req_id) is None
    cache.update_cache(thread_id, req_id, f"response {req_id}")


def test_duplicate_gets_the_response(unary):
    call(unary, "t", 15)
    assert unary.check_cache("t", 15) == "response 15"


def test_next_call_of_a_thread_takes_the_place_of_the_last(unary):
    call(unary, "t", 1)
    call(unary, "u", 2)
    call(unary, "t", 3)
    assert unary.cache == {"t": (3, "response 3"), "u": (2, "response 2")}
    with pytest.raises(SupersededError, match="gone on to request 3"):
        unary.check_cache("t", 1)
    with pytest.raises(SupersededError):
        unary.update_cache("t", 1, "response")


def test_ids_roll_over(unary):
    call(unary, "t", INT32_MAX)
    call(unary, "t", 1)
    with pytest.raises(SupersededError):
        unary.check_cache("t", INT32_MAX)


def test_error_is_returned(unary):
    error = ValueError("bad")
    unary.check_cache("t", 1)
    unary.update_cache("t", 1, error)
    assert unary.check_cache("t", 1) is error


def test_each_request_is_answered_once(unary):
    with pytest.raises(UnknownRequestError):
        unary.update_cache("t", 1, "response")
    call(unary, "t", 1)
    with pytest.raises(AlreadyAnsweredError, match="Request 1 has been answered before"):
        unary.update_cache("t", 1, "other")
    assert unary.check_cache("t", 1) == "response 1"


def test_waiter_gets_the_response(unary, pool, waiting):
    unary.check_cache("t", 1)
    wait = pool.submit(unary.check_cache, "t", 1)
    assert waiting.acquire(timeout=WITHIN)
    assert unary.cache == {"t": (1, None)}
    unary.update_cache("t", 1, "response")
    assert wait.result(WITHIN) == "response"


def test_newer_request_ends_the_wait(unary, pool, waiting):
    unary.check_cache("t", 123)
    wait = pool.submit(unary.check_cache, "t", 123)
    assert waiting.acquire(timeout=WITHIN)
    call(unary, "t", 124)
    assert isinstance(wait.exception(WITHIN), SupersededError)


def test_close_ends_the_wait(unary, pool, waiting):
    unary.check_cache("t", 1)
    wait = pool.submit(unary.check_cache, "t", 1)
    assert waiting.acquire(timeout=WITHIN)
    unary.close(ConnectionError("server died"))
    unary.close()
    assert isinstance(wait.exception(WITHIN), CacheClosedError)
    for late in (lambda: unary.check_cache("t", 2), lambda: unary.update_cache("t", 1, "x")):
        with pytest.raises(CacheClosedError, match="server died"):
            late()
    assert unary.cache == {}


def test_wait_times_out(unary):
    unary.check_cache("t", 1)
    with pytest.raises(WaitTimeoutError):
        unary.check_cache("t", 1, timeout=0)


def test_threads_are_bounded():
    cache = ResponseCache(max_threads=2)
    cache.check_cache("runs", 1)
    call(cache, "t", 2)
    call(cache, "u", 3)
    assert list(cache.cache) == ["runs", "u"]
    with pytest.raises(EvictedError):
        cache.check_cache("t", 2)
    call(cache, "t", 4)
    assert list(cache.cache) == ["runs", "t"]


def test_thread_that_called_last_is_kept():
    cache = ResponseCache(max_threads=2)
    for req_id, thread_id in enumerate(["t", "u", "t", "v"], 1):
        call(cache, thread_id, req_id)
    assert list(cache.cache) == ["t", "v"]


def test_full_of_running_calls():
    cache = ResponseCache(max_threads=1)
    cache.check_cache("t", 1)
    with pytest.raises(CacheFullError):
        cache.check_cache("u", 2)
    cache.update_cache("t", 1, "response")
    assert cache.check_cache("u", 2) is None


def test_bound_must_be_positive():
    with pytest.raises(ValueError, match="max_threads"):
        ResponseCache(max_threads=0)
