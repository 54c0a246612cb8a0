"""Large requests go in pieces and lose nothing on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client import chunking, protocol


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(chunking, "OBJECT_TRANSFER_CHUNK_SIZE", 10)


def together(pieces, field):
    bodies = [getattr(p, field) for p in pieces]
    assert [b.chunk_id for b in bodies] == list(range(len(bodies)))
    assert {b.total_chunks for b in bodies} == {len(bodies)}
    return b"".join(b.data for b in bodies)


@given(data=st.binary(max_size=64))
def test_put(data):
    put = protocol.PutRequest(data=data, client_ref_id=b"ref", register_as=b"name")
    pieces = list(chunking.messages(protocol.DataRequest(req_id=7, put=put)))
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
        data=data,
        options=protocol.TaskOptions(pickled_options=b"o"),
    )
    pieces = list(chunking.messages(protocol.DataRequest(req_id=3, task=task)))
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


def test_a_message_may_be_cut_again_after_an_interruption():
    request = protocol.DataRequest(req_id=1, put=protocol.PutRequest(data=b"0123456789abcdef"))
    half = chunking.messages(request)
    next(half)
    assert together(list(chunking.messages(request)), "put") == b"0123456789abcdef"


def test_other_requests_go_as_they_are():
    request = protocol.DataRequest(req_id=1, connection_info=protocol.ConnectionInfoRequest())
    assert list(chunking.messages(request)) == [request]
