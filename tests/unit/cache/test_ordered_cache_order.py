"""Ids out of order, with holes, and across the roll-over."""

import random

import pytest

from ray.util.client.cache import INT32_MAX, AcknowledgedError, EntryState

WRAPPING = [INT32_MAX - 2, INT32_MAX - 1, INT32_MAX, 1, 2, 3]


def fill(cache, req_ids):
    for req_id in req_ids:
        assert cache.check_cache(req_id) is None
        cache.update_cache(req_id, req_id)


@pytest.mark.parametrize("req_id", [1, 2**30 - 1, 2**30, 2**30 + 5, INT32_MAX - 1, INT32_MAX])
def test_fresh_cache_takes_any_id(cache, req_id):
    fill(cache, [req_id])
    assert cache.check_cache(req_id) == req_id
    cache.cleanup(req_id)
    assert len(cache.cache) == 0
    assert cache.state(req_id) is EntryState.ACKNOWLEDGED


def test_fresh_cache_takes_ids_from_all_over_the_ring(cache):
    everywhere = [5, 2**30, INT32_MAX, 2**30 + 7, 2**29, 1]
    fill(cache, everywhere)
    assert [cache.check_cache(req_id) for req_id in everywhere] == everywhere
    assert sorted(cache.cache) == sorted(everywhere)


@pytest.mark.parametrize("first", [5, INT32_MAX, 2**30])
@pytest.mark.parametrize("acknowledged", [5, 2**29, 2**30, 2**30 + 7, INT32_MAX - 1, INT32_MAX])
def test_first_acknowledgement_sets_what_is_old(cache, first, acknowledged):
    """Before it, ids more than half a round apart may be cached; then each is old or not."""
    others = [5, 2**29, 2**30, 2**30 + 3, 3 * 2**29, INT32_MAX]
    fill(cache, [first, *(x for x in others if x != first)])
    cache.cleanup(acknowledged)
    newer = [x for x in others if 0 < (x - acknowledged) % INT32_MAX <= INT32_MAX // 2]
    assert sorted(cache.cache) == sorted(newer)
    assert [cache.check_cache(req_id) for req_id in newer] == newer
    for req_id in set(others) - set(newer):
        with pytest.raises(AcknowledgedError):
            cache.check_cache(req_id)


def test_roll_over_before_the_first_acknowledgement(cache):
    fill(cache, WRAPPING)
    assert list(cache.cache) == WRAPPING
    cache.cleanup(1)
    assert list(cache.cache) == [2, 3]
    for req_id in WRAPPING[:4]:
        with pytest.raises(AcknowledgedError):
            cache.check_cache(req_id)


def test_roll_over_after_an_acknowledgement(cache):
    cache.cleanup(INT32_MAX - 3)
    fill(cache, WRAPPING)
    for count, req_id in enumerate(WRAPPING, 1):
        cache.cleanup(req_id)
        assert list(cache.cache) == WRAPPING[count:]
        assert cache.last_received == req_id
    with pytest.raises(AcknowledgedError):
        cache.check_cache(INT32_MAX)


def test_many_rounds(cache):
    step = 2**29
    req_id = 1
    for _ in range(50):
        fill(cache, [req_id])
        assert cache.check_cache(req_id) == req_id
        cache.cleanup(req_id)
        assert len(cache.cache) == 0
        req_id = (req_id + step - 1) % INT32_MAX + 1


def test_order_of_arrival_does_not_keep_entries(cache):
    """Stock stops at the first newer id, and leaves what stands behind it."""
    fill(cache, [20, 3, 11, 7, 15, 1])
    cache.cleanup(11)
    assert list(cache.cache) == [15, 20]


def test_holes(cache):
    ids = list(range(7, 2000, 7))
    fill(cache, ids)
    assert all(cache.check_cache(req_id) == req_id for req_id in ids)
    assert not any(cache.has_entry(req_id + 1) for req_id in ids)
    cache.cleanup(1000)
    assert list(cache.cache) == [req_id for req_id in ids if req_id > 1000]


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_arrival_and_completion(cache, seed):
    rng = random.Random(seed)
    ids = [(INT32_MAX - 300 + i) % INT32_MAX + 1 for i in rng.sample(range(600), 300)]
    for req_id in ids:
        assert cache.check_cache(req_id) is None
    for req_id in rng.sample(ids, len(ids)):
        cache.update_cache(req_id, req_id)
    assert all(cache.check_cache(req_id) == req_id for req_id in ids)
    in_order = sorted(ids, key=lambda x: (x + 300) % INT32_MAX)
    cache.cleanup(in_order[150])
    assert list(cache.cache) == in_order[151:]


def test_descending_arrival(cache):
    fill(cache, range(500, 0, -1))
    assert list(cache.cache) == list(range(1, 501))
    cache.cleanup(250)
    assert list(cache.cache) == list(range(251, 501))
