"""Duplicates that wait: every wait ends."""

import pytest

from ray.util.client.cache import (
    AcknowledgedError,
    CacheClosedError,
    EntryState,
    WaitTimeoutError,
)

WITHIN = 60  # seconds; only to end a hang


def start_waits(pool, waiting, cache, req_id, count=1, timeout=None):
    futures = [pool.submit(cache.check_cache, req_id, timeout) for _ in range(count)]
    for _ in futures:
        assert waiting.acquire(timeout=WITHIN)
    return futures


@pytest.mark.parametrize("count", [1, 5])
def test_waiters_get_the_response(cache, pool, waiting, count):
    cache.check_cache(15)
    waits = start_waits(pool, waiting, cache, 15, count)
    response = object()
    cache.update_cache(15, response)
    assert all(wait.result(WITHIN) is response for wait in waits)


def test_waiters_get_the_error_as_a_value(cache, pool, waiting):
    error = ValueError("bad")
    cache.check_cache(1)
    (wait,) = start_waits(pool, waiting, cache, 1)
    cache.update_cache(1, error)
    assert wait.result(WITHIN) is error


def test_waiters_get_a_response_that_is_none(cache, pool, waiting):
    cache.check_cache(1)
    (wait,) = start_waits(pool, waiting, cache, 1)
    cache.update_cache(1, None)
    assert wait.result(WITHIN) is None
    assert cache.state(1) is EntryState.DONE


def test_invalidation_ends_waits(cache, pool, waiting):
    error = RuntimeError("stream broke")
    for req_id in (1, 2):
        cache.check_cache(req_id)
    waits = start_waits(pool, waiting, cache, 1) + start_waits(pool, waiting, cache, 2, 2)
    assert cache.invalidate(error) is True
    assert all(wait.result(WITHIN) is error for wait in waits)


def test_acknowledgement_ends_waits(cache, pool, waiting):
    cache.check_cache(123)
    waits = start_waits(pool, waiting, cache, 123, 2)
    cache.cleanup(130)
    errors = [wait.exception(WITHIN) for wait in waits]
    assert [type(error) for error in errors] == [AcknowledgedError] * 2
    assert [(error.req_id, error.acknowledged) for error in errors] == [(123, 130)] * 2
    assert errors[0] is not errors[1]


def test_close_ends_waits(cache, pool, waiting):
    reason = ConnectionError("server died")
    for req_id in (1, 2):
        cache.check_cache(req_id)
    waits = start_waits(pool, waiting, cache, 1, 2) + start_waits(pool, waiting, cache, 2)
    cache.close(reason)
    for wait in waits:
        error = wait.exception(WITHIN)
        assert isinstance(error, CacheClosedError)
        assert error.__cause__ is reason


def test_response_too_large_to_keep_still_reaches_waiters(make_cache, pool, waiting):
    cache = make_cache(max_bytes=10)
    cache.check_cache(1)
    (wait,) = start_waits(pool, waiting, cache, 1)
    cache.update_cache(1, b"x" * 100)
    assert wait.result(WITHIN) == b"x" * 100
    assert cache.state(1) is EntryState.EVICTED


def test_waiters_get_the_response_even_if_it_is_evicted_at_once(make_cache, pool, waiting):
    cache = make_cache(max_entries=1)
    cache.check_cache(1)
    (wait,) = start_waits(pool, waiting, cache, 1)
    cache.update_cache(1, "response")
    cache.check_cache(2)
    assert wait.result(WITHIN) == "response"
    assert cache.state(1) is EntryState.EVICTED


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_wait_times_out_and_the_request_goes_on(cache, timeout):
    cache.check_cache(1)
    for _ in range(2):
        with pytest.raises(WaitTimeoutError, match="Request 1 is still being run"):
            cache.check_cache(1, timeout)
    assert cache.state(1) is EntryState.PENDING
    cache.update_cache(1, "response")
    assert cache.check_cache(1, timeout=timeout) == "response"


def test_wait_with_time_left_gets_the_response(cache, pool, waiting):
    cache.check_cache(1)
    (wait,) = start_waits(pool, waiting, cache, 1, timeout=WITHIN)
    cache.update_cache(1, "response")
    assert wait.result(WITHIN) == "response"


def test_waits_outlive_growth_and_stragglers(cache, pool, waiting):
    """The ring is moved and shifted under the waiters' feet."""
    for req_id in (500, 510):
        cache.check_cache(req_id)
    waits = start_waits(pool, waiting, cache, 500) + start_waits(pool, waiting, cache, 510)
    for req_id in [*range(501, 510), *range(499, 0, -1), *range(511, 1500)]:
        cache.check_cache(req_id)
        cache.update_cache(req_id, req_id)
    cache.cleanup(400)
    cache.update_cache(510, "late")
    cache.update_cache(500, "later")
    assert [wait.result(WITHIN) for wait in waits] == ["later", "late"]
