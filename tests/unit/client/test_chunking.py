"""Large requests go in pieces, small ones together, and nothing is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client import chunking, protocol
from ray.util.client.session.client import Kind, Request


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(chunking, "OBJECT_TRANSFER_CHUNK_SIZE", 10)
    monkeypatch.setattr(chunking, "_INLINE_BYTES", 16)


def request_of(req_id, kind=Kind.JOURNALED, data=None, **bodies):
    message = protocol.DataRequest(req_id=req_id, **bodies)
    request = Request(req_id, kind, message)
    if data is not None:
        request.payload = chunking.carry(getattr(message, message.WhichOneof("type")), data)
    return request


def sent(*requests, batches=False):
    return list(chunking.outgoing(requests, batches))


def together(pieces, field):
    bodies = [getattr(p, field) for p in pieces]
    assert [b.chunk_id for b in bodies] == list(range(len(bodies)))
    assert {b.total_chunks for b in bodies} == {len(bodies)}
    return b"".join(b.data for b in bodies)


@given(data=st.binary(max_size=64))
def test_put(data):
    put = protocol.PutRequest(client_ref_id=b"ref", register_as=b"name")
    pieces = sent(request_of(7, data=data, put=put))
    assert together(pieces, "put") == data
    assert {(p.req_id, p.put.client_ref_id, p.put.register_as) for p in pieces} == {
        (7, b"ref", b"name")
    }
    assert {p.put.total_size for p in pieces} == {len(data)}


@given(data=st.binary(max_size=64))
def test_task(data):
    task = protocol.ClientTask(
        type=protocol.ClientTask.METHOD,
        name="m",
        payload_id=b"actor",
        client_id="c",
        options=protocol.TaskOptions(pickled_options=b"o"),
    )
    pieces = sent(request_of(3, data=data, task=task))
    assert together(pieces, "task") == data
    for p in pieces:
        t = p.task
        assert (t.type, t.name, t.payload_id, t.client_id, t.options.pickled_options) == (
            protocol.ClientTask.METHOD,
            "m",
            b"actor",
            "c",
            b"o",
        )


@given(data=st.binary(max_size=64))
def test_data_that_comes_in_the_message_is_taken_out_of_it(data):
    put = protocol.PutRequest(data=data)
    payload = chunking.unload(put)
    assert (payload is None) == (len(data) <= 16)
    assert (put.data if payload is None else payload) == data
    assert payload is None or put.data == b""


def test_a_message_may_be_cut_again_after_an_interruption():
    request = request_of(1, data=b"0123456789abcdefghij", put=protocol.PutRequest())
    half = chunking.outgoing([request], False)
    next(half)
    assert together(sent(request), "put") == b"0123456789abcdefghij"


def test_other_requests_go_as_they_are():
    request = request_of(1, connection_info=protocol.ConnectionInfoRequest())
    assert sent(request) == [request.message]


def small(req_id, kind=Kind.JOURNALED):
    return request_of(req_id, kind, data=b"x", task=protocol.ClientTask(name=str(req_id)))


def test_small_requests_go_together_in_their_order():
    requests = [small(5), small(0, Kind.WITHDRAW), small(6), small(0, Kind.ACKNOWLEDGE)]
    (message,) = sent(*requests, batches=True)
    assert message.req_id == 6
    assert list(message.batch.requests) == [request.message for request in requests]


def test_a_batch_without_ids_has_none():
    (message,) = sent(small(0, Kind.RELEASE), small(0, Kind.WITHDRAW), batches=True)
    assert message.req_id == 0


def test_what_a_proxier_must_see_and_what_is_large_goes_alone():
    large = request_of(3, data=b"0123456789abcdefghij", put=protocol.PutRequest())
    requests = [small(1), small(2), large, small(4, Kind.QUERY), small(5), small(6, Kind.INIT)]
    messages = sent(*requests, batches=True)
    assert [message.WhichOneof("type") for message in messages] == [
        *("batch", "put", "put", "task", "task", "task"),
    ]
    assert [message.req_id for message in messages] == [2, 3, 3, 4, 5, 6]


def test_a_server_that_takes_no_batches_gets_none():
    requests = [small(1), small(2)]
    assert sent(*requests) == [request.message for request in requests]


def test_a_batch_has_a_bound(monkeypatch):
    monkeypatch.setattr(chunking, "_MAX_BATCH_BYTES", 30)
    messages = sent(*(small(n) for n in range(1, 20)), batches=True)
    sizes = [len(message.batch.requests) for message in messages]
    assert len(sizes) > 3 and sum(sizes) + sizes.count(0) == 19
