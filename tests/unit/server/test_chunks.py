"""Cutting objects into chunks and putting chunks together."""

from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ray.util.client.session.chunks import ChunkAssembly, cut
from ray.util.client.session.errors import ProtocolError


@given(data=st.binary(min_size=1, max_size=200), chunk_size=st.integers(1, 50))
def test_what_is_cut_is_put_together_again(data: bytes, chunk_size: int) -> None:
    assembly = ChunkAssembly("put")
    got = [
        assembly.add(1, c.number, c.of, data[c.start : c.end]) for c in cut(len(data), chunk_size)
    ]
    assert got[-1] == data
    assert got[:-1] == [None] * (len(got) - 1)


def test_no_chunk_is_larger_than_asked_for() -> None:
    assert [(c.start, c.end) for c in cut(11, 5)] == [(0, 5), (5, 10), (10, 11)]
    assert [c.of for c in cut(10, 5)] == [2, 2]


def test_a_transfer_goes_on_where_it_was() -> None:
    assert [c.number for c in cut(20, 5, first=2)] == [2, 3]


@given(repeats=st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_repeated_chunks_are_passed_over(repeats: List[int]) -> None:
    assembly = ChunkAssembly("put")
    got = []
    for index, times in enumerate(repeats[:-1]):
        got += [assembly.add(1, index, 4, b"%d" % index) for _ in range(times)]
    assert assembly.add(1, 3, 4, b"3") == b"0123"
    assert set(got) == {None}


def test_a_count_of_zero_stands_for_one_chunk() -> None:
    assert ChunkAssembly("put").add(1, 0, 0, b"x") == b"x"


def test_what_still_comes_of_an_abandoned_request_is_passed_over() -> None:
    assembly = ChunkAssembly("put")
    assembly.add(1, 0, 3, b"a")
    assembly.abandon(1)
    assert assembly.add(1, 1, 3, b"b") is None
    assert assembly.add(1, 2, 3, b"c") is None
    assert [assembly.add(2, index, 2, b"d") for index in range(2)] == [None, b"dd"]


def test_an_abandoned_request_may_be_followed_by_one_of_the_same_id() -> None:
    assembly = ChunkAssembly("put")
    assembly.add(-1, 0, 3, b"a")
    assembly.abandon(-1)
    assert [assembly.add(-1, index, 2, b"d") for index in range(2)] == [None, b"dd"]
    assert assembly.add(-1, 0, 1, b"e") == b"e"


def test_the_next_request_begins_anew() -> None:
    assembly = ChunkAssembly("task")
    assembly.add(1, 0, 2, b"a")
    assert assembly.add(1, 1, 2, b"b") == b"ab"
    assert assembly.add(2, 0, 2, b"c") is None
    assert assembly.add(2, 1, 2, b"d") == b"cd"


@pytest.mark.parametrize(
    "chunk, text",
    [
        ((1, 2, 3), "out of order"),
        ((2, 1, 3), "put 1 was not complete"),
        ((1, 1, 4), "an earlier one said 3"),
        ((1, -1, 3), "has no chunk"),
    ],
)
def test_a_wrong_chunk_is_an_error_and_changes_nothing(chunk: tuple, text: str) -> None:
    assembly = ChunkAssembly("put")
    assembly.add(1, 0, 3, b"a")
    with pytest.raises(ProtocolError, match=text):
        assembly.add(*chunk, b"x")
    assert assembly.add(1, 1, 3, b"b") is None
    assert assembly.add(1, 2, 3, b"c") == b"abc"


def test_a_first_chunk_must_be_chunk_0() -> None:
    with pytest.raises(ProtocolError, match="out of order"):
        ChunkAssembly("put").add(1, 1, 2, b"x")


def test_an_index_beyond_the_count_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        ChunkAssembly("put").add(1, 1, 1, b"x")


class Transfers(RuleBasedStateMachine):
    """A sender that keeps to the rules gets its objects through, whatever else is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.assembly = ChunkAssembly("put")
        self.req_id = 0
        self.chunks: List[bytes] = []
        self.sent = 0

    under_way = precondition(lambda self: self.sent)

    @precondition(lambda self: not self.sent)
    @rule(chunks=st.lists(st.binary(max_size=5), min_size=1, max_size=5), zero=st.booleans())
    def begin(self, chunks: List[bytes], zero: bool) -> None:
        self.req_id += 1
        self.chunks = chunks
        count = 0 if zero and len(chunks) == 1 else len(chunks)
        self.sent = 1
        self.check(self.assembly.add(self.req_id, 0, count, chunks[0]))

    @under_way
    @rule()
    def go_on(self) -> None:
        chunk = self.chunks[self.sent]
        self.sent += 1
        self.check(self.assembly.add(self.req_id, self.sent - 1, len(self.chunks), chunk))

    @under_way
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.sent - 1))
        # Only the first sending counts.
        assert self.assembly.add(self.req_id, index, len(self.chunks), b"changed") is None

    @rule(req=st.integers(-1, 1), index=st.integers(-2, 6), count=st.integers(-1, 6))
    def break_the_rules(self, req: int, index: int, count: int) -> None:
        same = req == 0 and (count or 1) == len(self.chunks)
        fits = same and 0 <= index <= self.sent if self.sent else index == 0 and count >= 0
        if fits:
            return
        with pytest.raises(ProtocolError):
            self.assembly.add(self.req_id + req, index, count, b"nonsense")

    def check(self, whole: Optional[bytes]) -> None:
        if self.sent < len(self.chunks):
            assert whole is None
        else:
            assert whole == b"".join(self.chunks)
            self.sent = 0


Transfers.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_any_transfers = Transfers.TestCase
