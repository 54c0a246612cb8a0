"""Bounds on entries and bytes, and what is evicted to keep them."""

import pytest

from ray.util.client.cache import AcknowledgedError, CacheFullError, EntryState, EvictedError
from ray.util.client.cache._sizes import FLAT_SIZE


class Message:
    """Tells its size as a protobuf message does."""

    def __init__(self, size):
        self._size = size

    def ByteSize(self):
        return self._size


def fill(cache, req_ids, response=b"x"):
    for req_id in req_ids:
        assert cache.check_cache(req_id) is None
        cache.update_cache(req_id, response)


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"max_bytes": 0}, {"max_bytes": -1}])
def test_bounds_must_be_positive(make_cache, bounds):
    with pytest.raises(ValueError, match=next(iter(bounds))):
        make_cache(**bounds)


def test_oldest_answered_request_makes_room(make_cache):
    cache = make_cache(max_entries=3)
    fill(cache, [1, 2, 3, 4])
    assert list(cache.cache) == [2, 3, 4]
    assert cache.state(1) is EntryState.EVICTED
    with pytest.raises(EvictedError, match="max_entries or max_bytes"):
        cache.check_cache(1)
    with pytest.raises(EvictedError):
        cache.update_cache(1, b"again")
    assert cache.check_cache(2) == b"x"


def test_running_requests_are_not_evicted(make_cache):
    cache = make_cache(max_entries=3)
    cache.check_cache(1)
    fill(cache, [2, 3, 4, 5])
    assert list(cache.cache) == [1, 4, 5]
    cache.update_cache(1, b"late")
    assert cache.check_cache(1) == b"late"


def test_failed_requests_are_evicted_too(make_cache):
    cache = make_cache(max_entries=1)
    cache.check_cache(1)
    cache.invalidate(ValueError())
    fill(cache, [2])
    assert list(cache.cache) == [2]


def test_full_of_running_requests(make_cache):
    cache = make_cache(max_entries=3)
    for req_id in (1, 2, 3):
        cache.check_cache(req_id)
    with pytest.raises(CacheFullError, match="Request 4 was refused: 3 requests") as caught:
        cache.check_cache(4)
    assert caught.value.limit == 3
    assert cache.state(4) is EntryState.NEW
    cache.cleanup(1)
    assert cache.check_cache(4) is None


def test_acknowledged_wins_over_evicted(make_cache):
    cache = make_cache(max_entries=1)
    fill(cache, [1, 2])
    cache.cleanup(1)
    with pytest.raises(AcknowledgedError):
        cache.check_cache(1)


def test_straggler_below_the_evicted_is_refused_unless_it_is_cached(make_cache):
    cache = make_cache(max_entries=2)
    cache.check_cache(1)
    fill(cache, [5, 6])
    with pytest.raises(EvictedError):
        cache.check_cache(3)
    cache.update_cache(1, b"one")
    assert cache.check_cache(1) == b"one"


def test_never_acknowledging_client_stays_bounded(make_cache):
    cache = make_cache(max_entries=100)
    fill(cache, range(1, 5001))
    assert list(cache.cache) == list(range(4901, 5001))
    cache.cleanup(4950)
    assert list(cache.cache) == list(range(4951, 5001))


def test_bytes_are_bounded(make_cache):
    cache = make_cache(max_bytes=10)
    fill(cache, [1, 2, 3], b"123")
    assert cache.byte_count == 9
    fill(cache, [4], b"12345")
    assert list(cache.cache) == [3, 4]
    assert cache.byte_count == 8
    with pytest.raises(EvictedError):
        cache.check_cache(2)
    cache.cleanup(4)
    assert cache.byte_count == 0


def test_the_response_that_came_last_is_kept(make_cache):
    cache = make_cache(max_bytes=10)
    cache.check_cache(1)
    fill(cache, [2, 3], b"12345")
    cache.update_cache(1, b"12345")
    assert dict(cache.cache) == {1: b"12345", 3: b"12345"}


def test_response_larger_than_the_cache(make_cache):
    cache = make_cache(max_bytes=10)
    fill(cache, [1], b"123")
    fill(cache, [2], b"x" * 11)
    assert cache.state(2) is EntryState.EVICTED
    assert cache.has_entry(2) and cache.cache[2] is None
    with pytest.raises(EvictedError):
        cache.check_cache(2)
    assert cache.check_cache(1) == b"123"
    assert cache.byte_count == 3
    cache.update_cache(2, b"small")
    assert cache.check_cache(2) == b"small"


@pytest.mark.parametrize(
    ("response", "size"),
    [
        (b"12345", 5),
        (bytearray(6), 6),
        (memoryview(b"1234").cast("I"), 4),
        ("text", 4),
        (Message(77), 77),
        (Message(0), 0),
        (object(), FLAT_SIZE),
        (None, FLAT_SIZE),
        (ValueError("x"), FLAT_SIZE),
    ],
)
def test_sizes(cache, response, size):
    for req_id in (1, 2, 3):
        fill(cache, [req_id], response)
        assert cache.byte_count == req_id * size


def test_given_size_counts(cache):
    cache.check_cache(1)
    cache.update_cache(1, Message(77), size=5)
    cache.check_cache(2)
    cache.update_cache(2, b"xxx", 100)
    assert cache.byte_count == 105


@pytest.mark.parametrize("outcome", [{"resp": b"x", "size": -1}, {"resp": Message(-1)}])
def test_negative_sizes_are_refused(cache, outcome):
    cache.check_cache(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="-1 bytes"):
            cache.update_cache(1, **outcome)
    assert cache.state(1) is EntryState.PENDING


def test_invalidation_costs_no_bytes(make_cache):
    cache = make_cache(max_bytes=10)
    for req_id in range(1, 100):
        cache.check_cache(req_id)
    cache.invalidate(ValueError("x"))
    assert cache.byte_count == 0
