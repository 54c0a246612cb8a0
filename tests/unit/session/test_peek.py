"""What a proxier reads off stream messages, against protobuf itself."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import pytest
from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray.util.client import protocol
from ray.util.client.session import peek as p
from ray.util.client.session.errors import ProtocolError
from tests.support.messages import messages

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
    unknown = bytes([0x82, 0x7D, 2, 1, 2, 0x89, 0x7D, *range(8), 0x95, 0x7D, *range(4)])
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


# -- against protobuf

STREAMED = st.sampled_from([protocol.DataRequest, protocol.DataResponse])


def parsed(kind: Any, data: bytes) -> Optional[Any]:
    """The message as protobuf reads it; None if it refuses the bytes."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def agrees(kind: Any, data: bytes) -> bool:
    """Whether what is seen is what protobuf reads. A message that either refuses does agree."""
    message = parsed(kind, data)
    try:
        seen = p.peek(data)
    except ProtocolError:
        return True
    if message is None:
        return True
    name = message.WhichOneof("type")
    numbers = {field.name: field.number for field in kind.DESCRIPTOR.fields}
    if name is None:
        # A kind of the other direction, or of no message at all.
        return seen.req_id == message.req_id and seen.kind not in numbers.values()
    inner = type(getattr(message, name)).FromString(data[seen.start : seen.end])
    return (seen.req_id, seen.kind, inner) == (
        message.req_id,
        numbers[name],
        getattr(message, name),
    )


@given(st.data(), STREAMED)
def test_every_valid_message_is_seen_as_protobuf_reads_it(data, kind):
    message = data.draw(messages(kind))
    raw = message.SerializeToString(deterministic=True)
    seen = p.peek(raw)
    assert seen.req_id == message.req_id
    assert bool(seen.kind) == (message.WhichOneof("type") is not None)
    assert agrees(kind, raw)


@given(st.data(), STREAMED)
@settings(max_examples=300)
def test_changed_bytes_are_seen_as_protobuf_reads_them_or_refused(data, kind):
    raw = bytearray(data.draw(messages(kind)).SerializeToString(deterministic=True))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    assert agrees(kind, bytes(raw))


def unknown_fields(data: bytes) -> Optional[List[Tuple[int, int, Any]]]:
    message = parsed(empty_pb2.Empty, data)
    if message is None:
        return None
    return [(f.field_number, f.wire_type, f.data) for f in UnknownFieldSet(message)]


def content(data: bytes, field: p.Field) -> Any:
    if field.wire_type == 0:
        return field.value & (2**64 - 1)
    raw = data[field.start : field.end]
    return raw if field.wire_type == 2 else int.from_bytes(raw, "little")


@given(st.binary(max_size=40))
@settings(max_examples=500)
def test_fields_are_walked_as_protobuf_walks_them(data):
    known = unknown_fields(data)
    try:
        walked = [(f.number, f.wire_type, content(data, f)) for f in p.fields(data)]
    except ProtocolError:
        return
    if known is not None:
        assert walked == known


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1)), max_size=6))
def test_numbers_of_any_size_are_read(pairs):
    def varint(value):
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    data = b"".join(varint(number << 3) + varint(value) for number, value in pairs)
    assert [(f.number, f.value) for f in p.fields(data)] == pairs
    assert unknown_fields(data) == [(number, 0, value) for number, value in pairs]
