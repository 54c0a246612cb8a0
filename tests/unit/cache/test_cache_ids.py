"""Arithmetic of request ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client.cache import INIT_REQ_ID, INT32_MAX, id_is_newer
from ray.util.client.cache._ids import (
    HALF_ROUND,
    id_of_serial,
    is_ignored,
    is_tracked,
    ring_distance,
)

IDS = st.integers(1, INT32_MAX)


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        (30, 29),
        (12345, 12344),
        (INT32_MAX, INT32_MAX - 1),
        (0, INT32_MAX - 4),
        (1, INT32_MAX),
        (1001, INT32_MAX - 123),
        (123, INT32_MAX),
        (1 + HALF_ROUND, 1),
        (1, 2 + HALF_ROUND),
    ],
)
def test_newer(newer, older):
    assert id_is_newer(newer, older)
    assert not id_is_newer(older, newer)


@given(IDS)
def test_id_is_not_newer_than_itself(req_id):
    assert not id_is_newer(req_id, req_id)


@given(IDS, IDS)
def test_distance_agrees_with_newer(one, other):
    distance = ring_distance(one, other)
    assert -HALF_ROUND <= distance <= HALF_ROUND
    assert (distance > 0) == id_is_newer(one, other)
    assert distance == -ring_distance(other, one)
    assert id_of_serial(other + INT32_MAX + distance) == one


@pytest.mark.parametrize(
    ("req_id", "tracked", "ignored"),
    [
        (INIT_REQ_ID, False, True),
        (0, False, True),
        (1, True, False),
        (INT32_MAX, True, False),
        (INT32_MAX + 1, False, False),
        (-2, False, False),
    ],
)
def test_kinds_of_ids(req_id, tracked, ignored):
    assert is_tracked(req_id) is tracked
    assert is_ignored(req_id) is ignored
