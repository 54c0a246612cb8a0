"""The life of a request in the ordered cache, without waiting and far from the bounds."""

import pytest

from ray.util.client.cache import (
    INIT_REQ_ID,
    INT32_MAX,
    UNTRACKED_REQ_ID,
    AcknowledgedError,
    CacheClosedError,
    EntryState,
    InvalidRequestIdError,
    UnknownRequestError,
)


def answer(cache, *req_ids):
    for req_id in req_ids:
        assert cache.check_cache(req_id) is None
        cache.update_cache(req_id, f"response {req_id}")


def test_duplicate_gets_the_response(cache):
    answer(cache, 15)
    assert cache.check_cache(15) == "response 15"
    assert cache.check_cache(15) == "response 15"


def test_response_is_handed_back_itself(cache):
    response = object()
    cache.check_cache(1)
    cache.update_cache(1, response)
    assert cache.check_cache(1) is response


def test_acknowledgement_drops_everything_up_to_it(cache):
    answer(cache, *range(1, 21))
    cache.cleanup(10)
    assert list(cache.cache) == list(range(11, 21))
    assert cache.last_received == 10
    for req_id in (1, 10):
        with pytest.raises(AcknowledgedError, match="acknowledged all responses up to 10"):
            cache.check_cache(req_id)
    answer(cache, *range(21, 31))
    cache.cleanup(30)
    assert len(cache.cache) == 0


def test_late_acknowledgements_change_nothing(cache):
    answer(cache, *range(1, 31))
    cache.cleanup(20)
    for late in (17, 3, 20):
        cache.cleanup(late)
    assert cache.last_received == 20
    assert list(cache.cache) == list(range(21, 31))


def test_acknowledgement_of_requests_not_seen_here(cache):
    cache.cleanup(10)
    with pytest.raises(AcknowledgedError):
        cache.check_cache(10)
    answer(cache, 11)


def test_update_needs_a_check(cache):
    with pytest.raises(UnknownRequestError, match="no entry for request 3"):
        cache.update_cache(3, "response")
    answer(cache, 3)
    cache.cleanup(3)
    with pytest.raises(AcknowledgedError):
        cache.update_cache(3, "response")


def test_second_outcome_replaces_the_first(cache):
    answer(cache, 1)
    cache.update_cache(1, b"other")
    assert cache.check_cache(1) == b"other"
    assert cache.byte_count == len(b"other")


def test_error_as_outcome_is_returned(cache):
    error = ValueError("bad")
    cache.check_cache(1)
    cache.update_cache(1, error)
    assert cache.check_cache(1) is error
    assert cache.state(1) is EntryState.FAILED


def test_none_as_outcome_is_told_from_pending(cache):
    cache.check_cache(1)
    assert cache.state(1) is EntryState.PENDING
    cache.update_cache(1, None)
    assert cache.state(1) is EntryState.DONE
    assert cache.check_cache(1) is None


def test_invalidate_fails_what_is_pending_and_nothing_else(cache):
    error = RuntimeError("stream broke")
    assert cache.invalidate(error) is False
    answer(cache, 1)
    assert cache.invalidate(error) is False
    cache.check_cache(2)
    assert cache.invalidate(error) is True
    assert cache.check_cache(2) is error
    assert cache.check_cache(1) == "response 1"
    assert cache.invalidate(ValueError("later")) is True
    assert cache.check_cache(2) is error
    cache.cleanup(2)
    assert cache.invalidate(error) is False


@pytest.mark.parametrize("req_id", [INIT_REQ_ID, UNTRACKED_REQ_ID])
def test_reserved_ids_are_ignored(cache, req_id):
    answer(cache, 5)
    for _ in range(2):
        assert cache.check_cache(req_id) is None
        cache.update_cache(req_id, "init response")
        cache.cleanup(req_id)
    assert not cache.has_entry(req_id)
    assert req_id not in cache.cache
    assert cache.state(req_id) is EntryState.UNTRACKED
    assert dict(cache.cache) == {5: "response 5"}
    cache.cleanup(INT32_MAX // 4)
    assert cache.check_cache(req_id) is None
    cache.close()
    assert cache.check_cache(req_id) is None


@pytest.mark.parametrize("req_id", [-2, -INT32_MAX, INT32_MAX + 1, 2**40])
def test_ids_that_nobody_mints_are_refused(cache, req_id):
    calls = (
        lambda: cache.check_cache(req_id),
        lambda: cache.update_cache(req_id, "response"),
        lambda: cache.cleanup(req_id),
        lambda: cache.has_entry(req_id),
        lambda: cache.state(req_id),
    )
    for call in calls:
        with pytest.raises(InvalidRequestIdError, match=str(req_id)):
            call()
    assert req_id not in cache.cache
    assert len(cache.cache) == 0


def test_states(cache):
    assert cache.state(1) is EntryState.NEW
    cache.check_cache(1)
    assert cache.state(1) is EntryState.PENDING
    cache.update_cache(1, "response")
    assert cache.state(1) is EntryState.DONE
    cache.cleanup(1)
    assert cache.state(1) is EntryState.ACKNOWLEDGED
    cache.close()
    assert cache.state(1) is EntryState.CLOSED


def test_view(cache):
    answer(cache, 2, 1)
    cache.check_cache(3)
    view = cache.cache
    assert list(view) == [1, 2, 3]
    assert dict(view) == {1: "response 1", 2: "response 2", 3: None}
    assert 3 in view and 4 not in view and "3" not in view
    assert cache.has_entry(3) and not cache.has_entry(4)
    with pytest.raises(KeyError):
        view[4]
    assert "response 2" in repr(view)
    cache.cleanup(2)
    assert len(view) == cache.entry_count == 1


def test_closed_cache_refuses_and_names_why(cache):
    answer(cache, 1)
    reason = ConnectionError("grace period over")
    cache.close(reason)
    cache.close(ValueError("too late to count"))
    for call in (lambda: cache.check_cache(1), lambda: cache.update_cache(2, "response")):
        with pytest.raises(CacheClosedError, match="grace period over") as caught:
            call()
        assert caught.value.__cause__ is reason
    cache.cleanup(1)
    assert cache.last_received == 0
    assert not cache.has_entry(1)
    assert len(cache.cache) == 0 and cache.byte_count == 0
    assert cache.invalidate(ValueError()) is True


def test_all_refusals_are_runtime_errors(cache):
    cache.cleanup(1)
    with pytest.raises(RuntimeError):
        cache.check_cache(1)
    with pytest.raises(RuntimeError):
        cache.update_cache(2, "response")
