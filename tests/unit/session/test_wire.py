"""What is read from the metadata of calls, which anybody may have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client.session import wire

VALUES = st.one_of(st.text(max_size=30), st.binary(max_size=30), st.none(), st.integers())
METADATA = st.one_of(
    st.none(),
    st.lists(
        st.tuples(st.sampled_from([wire.INCARNATION_KEY, wire.REASON_KEY, "client_id"]), VALUES),
        max_size=5,
    ),
)


@given(st.integers(0, wire.LAST_INCARNATION))
def test_an_incarnation_is_read_as_it_was_written(number: int) -> None:
    assert wire.incarnation_of([("a", "1"), (wire.INCARNATION_KEY, str(number))]) == number


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "1.5", " 1", "\u00b2", "9" * 11, "9" * 5000, b"1"]
)
def test_what_is_no_number_is_no_incarnation(value: object) -> None:
    assert wire.incarnation_of([(wire.INCARNATION_KEY, value)]) is None


@given(METADATA)
def test_any_metadata_can_be_read(metadata) -> None:
    number, reason = wire.incarnation_of(metadata), wire.reason_of(metadata)
    assert number is None or number >= 0
    assert reason is None or isinstance(reason, str)


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_only_what_both_can_is_shared(ours, theirs) -> None:
    assert set(wire.shared(ours, theirs)) == set(ours) & set(theirs)
