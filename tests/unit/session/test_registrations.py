"""Which functions a proxier keeps for a session's next server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client import protocol
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import peek
from ray.util.client.session.registrations import Registration, Registrations


def put(kept, req_id, data, ref=b"\xccref", chunk=0, total=1):
    request = protocol.DataRequest(req_id=req_id)
    request.put.data = data
    request.put.client_ref_id = ref
    request.put.chunk_id = chunk
    request.put.total_chunks = total
    raw = request.SerializeToString()
    kept.saw_put(raw, peek(raw))


def answer(kept, req_id, ref_id, valid=True):
    response = protocol.DataResponse(req_id=req_id)
    response.put.id = ref_id
    response.put.valid = valid
    raw = response.SerializeToString()
    kept.saw_put_answer(raw, peek(raw))


def release(kept, *ids):
    request = protocol.DataRequest()
    request.release.ids.extend(ids)
    raw = request.SerializeToString()
    kept.saw_release(raw, peek(raw))


def test_an_answered_put_is_kept():
    kept = Registrations()
    put(kept, 1, b"function")
    assert list(kept) == []
    answer(kept, 1, b"id")
    assert list(kept) == [Registration(b"id", b"\xccref", b"function")]


def test_the_order_of_registration_is_kept():
    kept = Registrations()
    for n in range(5):
        put(kept, n, b"f%d" % n)
        answer(kept, n, b"id%d" % n)
    assert [registration.data for registration in kept] == [b"f%d" % n for n in range(5)]


def test_plain_objects_are_not_kept():
    kept = Registrations()
    put(kept, 1, b"an object", ref=b"")
    answer(kept, 1, b"id")
    assert (list(kept), kept.used) == ([], 0)


def test_what_its_client_restores_by_itself_is_not_kept():
    kept = Registrations()
    request = protocol.PutRequest(data=b"function", client_ref_id=b"\xccref", register_as=b"token")
    raw = protocol.DataRequest(req_id=1, put=request).SerializeToString()
    kept.saw_put(raw, peek(raw))
    answer(kept, 1, b"id")
    assert (len(kept), kept.used) == (0, 0)


def test_chunks_are_joined():
    kept = Registrations()
    for chunk, data in enumerate((b"ab", b"cd", b"e")):
        put(kept, 1, data, chunk=chunk, total=3)
    answer(kept, 1, b"id")
    assert [registration.data for registration in kept] == [b"abcde"]


def test_a_transfer_that_begins_again_begins_anew():
    kept = Registrations()
    put(kept, 1, b"ab", chunk=0, total=2)
    put(kept, 1, b"ab", chunk=0, total=2)
    put(kept, 1, b"cd", chunk=1, total=2)
    put(kept, 1, b"cd", chunk=1, total=2)
    answer(kept, 1, b"id")
    assert [registration.data for registration in kept] == [b"abcd"]


def test_refused_puts_are_forgotten():
    kept = Registrations()
    put(kept, 1, b"function")
    answer(kept, 1, b"id", valid=False)
    assert (list(kept), kept.used) == ([], 0)


def test_answers_to_other_puts_mean_nothing():
    kept = Registrations()
    answer(kept, 1, b"id")
    assert list(kept) == []


def test_released_ones_are_dropped():
    kept = Registrations()
    for n, ref_id in enumerate((b"a", b"b", b"c")):
        put(kept, n, ref_id * 10)
        answer(kept, n, ref_id)
    release(kept, b"a", b"c", b"never seen")
    assert [registration.id for registration in kept] == [b"b"]


def test_the_same_id_again_replaces():
    kept = Registrations()
    for n in range(2):
        put(kept, n, b"f%d" % n)
        answer(kept, n, b"id")
    used = kept.used
    assert [registration.data for registration in kept] == [b"f1"]
    release(kept, b"id")
    assert (kept.used, used > 0) == (0, True)


def test_what_is_over_the_budget_is_dropped_and_counted():
    kept = Registrations(budget=2000)
    put(kept, 1, b"x" * 1000)
    answer(kept, 1, b"a")
    put(kept, 2, b"x" * 1000)
    answer(kept, 2, b"b")
    assert ([registration.id for registration in kept], kept.refused) == ([b"a"], 1)


def test_a_malformed_put_is_a_protocol_error():
    raw = b"\x1a\x02\x0a\x05"
    with pytest.raises(ProtocolError):
        Registrations().saw_put(raw, peek(raw))


STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 3), st.binary(max_size=900), st.integers(0, 2)),
    st.tuples(st.just("answer"), st.integers(0, 3), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("release"), st.integers(0, 3)),
)


@given(st.lists(STEP, max_size=40))
def test_never_more_than_the_budget_and_nothing_leaks(steps):
    kept = Registrations(budget=4000)
    for step, *args in steps:
        if step == "put":
            req_id, data, chunk = args
            put(kept, req_id, data, chunk=chunk, total=3)
        elif step == "answer":
            req_id, ref_id, valid = args
            answer(kept, req_id, b"id%d" % ref_id, valid)
        else:
            release(kept, b"id%d" % args[0])
        assert 0 <= kept.used <= 4000
    for n in range(4):
        answer(kept, n, b"gone", valid=False)
        release(kept, b"id%d" % n)
    assert (kept.used, len(kept)) == (0, 0)
