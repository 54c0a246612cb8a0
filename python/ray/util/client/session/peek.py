"""Looks into serialised stream messages without parsing or copying what they carry.

A proxier passes bytes through; it needs a message's request id and kind, and a few small fields of
a few kinds. Whatever bytes come in, nothing but :class:`ProtocolError` is raised.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Optional, Tuple

from ray.util.client.session.errors import ProtocolError

# Field numbers of the kinds in DataRequest's and DataResponse's oneof, which agree where both have
# the kind (src/protocol/ray_client.proto).
PUT = 3
RELEASE = 4
CONNECTION_INFO = 5
INIT = 6
CONNECTION_CLEANUP = 8
_FIRST_KIND = 2
_LAST_KIND = 12
WAIT = 1000
WITHDRAW = 1001
BATCH = 1002
PICK = 1003
_OWN_KINDS = frozenset({WAIT, WITHDRAW, BATCH, PICK})
_REQ_ID = 1

_VARINT = 0
_FIXED64 = 1
_BYTES = 2
_FIXED32 = 5
_LONGEST_VARINT = 10


class Field(NamedTuple):
    """One field on the wire; ``data[start:end]`` is its content where it is length-delimited."""

    number: int
    wire_type: int
    value: int
    start: int
    end: int


class Peeked(NamedTuple):
    """What a stream message is: ``kind`` is the field number in the oneof, 0 where none is set.

    ``data[start:end]`` is the message inside.
    """

    req_id: int
    kind: int
    start: int
    end: int


def _varint(data: bytes, at: int, end: int) -> Tuple[int, int]:
    value = shift = 0
    for position in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise ProtocolError("a number in the message is cut off or too long")


def fields(data: bytes, start: int = 0, end: Optional[int] = None) -> Iterator[Field]:
    """Walks the fields of the message in ``data[start:end]`` in the order of the wire.

    Raises:
        ProtocolError: the bytes are no protobuf message.
    """
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        number, wire_type = tag >> 3, tag & 7
        if not number:
            raise ProtocolError("the message has a field without a number")
        value = 0
        begin = at
        if wire_type == _VARINT:
            value, at = _varint(data, at, stop)
        elif wire_type == _BYTES:
            length, begin = _varint(data, at, stop)
            at = begin + length
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        else:
            raise ProtocolError(f"the message has a field of unknown wire type {wire_type}")
        if at > stop:
            raise ProtocolError("the message is cut off")
        yield Field(number, wire_type, value, begin, at)


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def peek(data: bytes) -> Peeked:
    """Tells the request id and the kind of a serialised DataRequest or DataResponse.

    Raises:
        ProtocolError: the bytes are no such message, or set more than one kind. Protobuf would
            merge or override those; no client writes them, so they are refused.
    """
    req_id = kind = start = end = 0
    for field in fields(data):
        if field.number == _REQ_ID:
            if field.wire_type != _VARINT:
                raise ProtocolError("the message's request id is no number")
            req_id = _int32(field.value)
        elif _FIRST_KIND <= field.number <= _LAST_KIND or field.number in _OWN_KINDS:
            if field.wire_type != _BYTES:
                raise ProtocolError(f"field {field.number} of the message is malformed")
            if kind:
                raise ProtocolError("the message carries more than one request")
            kind, start, end = field.number, field.start, field.end
    return Peeked(req_id, kind, start, end)
