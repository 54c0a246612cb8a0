"""What a proxier reads off stream messages, against protobuf itself."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ray.util.client import protocol
from ray.util.client.session import peek as p
from ray.util.client.session.errors import ProtocolError

KINDS = list(protocol.DataRequest.DESCRIPTOR.oneofs_by_name["type"].fields)


@pytest.mark.parametrize("field", KINDS, ids=lambda field: field.name)
@pytest.mark.parametrize("req_id", [0, 1, 300, 2**31 - 1, -1, -(2**31)])
def test_reads_the_id_and_the_kind(field, req_id):
    message = protocol.DataRequest(req_id=req_id)
    getattr(message, field.name).SetInParent()
    seen = p.peek(message.SerializeToString())
    assert (seen.req_id, seen.kind) == (req_id, field.number)


def test_the_kinds_have_the_numbers_of_the_protocol():
    for message in (protocol.DataRequest, protocol.DataResponse):
        numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
        assert numbers["put"] == p.PUT
        assert numbers["release"] == p.RELEASE
        assert numbers["connection_info"] == p.CONNECTION_INFO
        assert numbers["init"] == p.INIT
        assert numbers["connection_cleanup"] == p.CONNECTION_CLEANUP


def test_finds_the_message_inside():
    request = protocol.DataRequest(req_id=7)
    request.put.data = b"x" * 1000
    request.put.client_ref_id = b"ref"
    data = request.SerializeToString()
    seen = p.peek(data)
    assert protocol.PutRequest.FromString(data[seen.start : seen.end]) == request.put


def test_the_order_of_fields_does_not_matter():
    init = protocol.DataRequest()
    init.init.reconnect_grace_period = 3
    data = init.SerializeToString() + protocol.DataRequest(req_id=5).SerializeToString()
    assert p.peek(data)[:2] == (5, p.INIT)


def test_an_empty_message_has_no_kind():
    assert p.peek(b"") == (0, 0, 0, 0)


def test_unknown_fields_are_passed_over():
    unknown = bytes([0x82, 0x7d, 2, 1, 2, 0x89, 0x7d, *range(8), 0x95, 0x7d, *range(4)])
    data = unknown + protocol.DataRequest(req_id=9).SerializeToString()
    assert p.peek(data).req_id == 9


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08" + b"\xff" * 11,
        b"\x1a\x05abc",
        b"\x09abc",
        b"\x0d\x00",
        b"\x0b",
        b"\x0f",
        b"\x00\x00",
        b"\x0a\x01a",
        b"\x18\x01",
        b"\x1a\x00\x22\x00",
        b"\x1a\x00\x1a\x00",
    ],
    ids=[
        "cut off number",
        "endless number",
        "cut off bytes",
        "cut off fixed64",
        "cut off fixed32",
        "group",
        "wire type 7",
        "field 0",
        "request id of bytes",
        "kind of number",
        "two kinds",
        "one kind twice",
    ],
)
def test_garbage_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        p.peek(data)


@given(st.binary(max_size=64))
@example(b"GET / HTTP/1.1\r\n")
def test_whatever_comes_nothing_else_is_raised(data):
    try:
        seen = p.peek(data)
    except ProtocolError:
        return
    assert 0 <= seen.start <= seen.end <= len(data)


@given(st.binary(max_size=40), st.integers(-(2**31), 2**31 - 1), st.integers(0, 60))
def test_cut_anywhere_it_is_read_or_refused(body, req_id, at):
    request = protocol.DataRequest(req_id=req_id)
    request.put.data = body
    cut = request.SerializeToString()[:at]
    try:
        p.peek(cut)
    except ProtocolError:
        return
    assert protocol.DataRequest.FromString(cut).SerializeToString() in (cut, b"")
