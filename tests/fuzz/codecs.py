"""The proxier's readers of messages, chunks and metadata."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List, Optional, Tuple

from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from ray.util.client import protocol
from ray.util.client.cache import INT32_MAX, id_is_newer
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.bridge import Bridge
from ray.util.client.server.proxy.datapath import _understood
from ray.util.client.session import wire
from ray.util.client.session.chunks import ChunkAssembly
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import fields, peek
from ray.util.client.session.proxied import ProxiedSession, Refused
from ray.util.client.session.proxied_table import SessionTable
from ray.util.client.session.registrations import Registrations
from tests.fuzz import pieces

BUDGET = 4096


def _parsed(kind: Any, data: bytes) -> Optional[Any]:
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


# -- peek


def peeked(data: bytes) -> None:
    """What protobuf reads is seen alike, or refused."""
    try:
        seen = peek(data)
    except ProtocolError:
        seen = None
    if seen is not None:
        assert 0 <= seen.start <= seen.end <= len(data)
        for kind in (protocol.DataRequest, protocol.DataResponse):
            message = _parsed(kind, data)
            if message is not None:
                _same(message, seen, data)
    _same_fields(data)


def _same(message: Any, seen: Any, data: bytes) -> None:
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    name = message.WhichOneof("type")
    assert seen.req_id == message.req_id
    if name is None:
        assert seen.kind not in numbers.values()
        return
    assert seen.kind == numbers[name]
    inner = getattr(message, name)
    assert type(inner).FromString(data[seen.start : seen.end]) == inner or "nan" in str(inner)


def _same_fields(data: bytes) -> None:
    try:
        walked = [(f.number, f.wire_type) for f in fields(data)]
    except ProtocolError:
        return
    known = _parsed(empty_pb2.Empty, data)
    if known is not None:
        assert walked == [(f.field_number, f.wire_type) for f in UnknownFieldSet(known)]


def first_message(data: bytes) -> None:
    """A session's first message is understood or refused."""
    try:
        init = _understood(data)
    except (ProtocolError, DecodeError):
        return
    assert init.grace >= 0
    assert 0 <= init.after < wire.LAST_INCARNATION


def message_seeds() -> List[bytes]:
    found = []
    for kind in (protocol.DataRequest, protocol.DataResponse):
        for field in kind.DESCRIPTOR.oneofs_by_name["type"].fields:
            message = kind(req_id=300)
            getattr(message, field.name).SetInParent()
            found.append(message.SerializeToString())
    put = protocol.PutRequest(data=b"data", client_ref_id=b"ref", chunk_id=1, total_chunks=2)
    init = protocol.InitRequest(job_config=b"x", reconnect_grace_period=30, after=3)
    found.append(protocol.DataRequest(req_id=-1, put=put).SerializeToString())
    found.append(protocol.DataRequest(req_id=1, init=init).SerializeToString())
    return found


# -- a data stream's messages as they pass through the proxier


def passed_on(data: bytes) -> None:
    """Whatever passes, the session's books stay right."""
    session = ProxiedSession("fuzz")
    session.registrations = kept = Registrations(BUDGET)
    stream = SimpleNamespace(cleanup=None)
    bridge = Bridge(None, None, None, stream, session, lambda: 1)  # type: ignore[arg-type]
    for piece in pieces.split(data):
        handed, message = session.handed, piece[1:]
        try:
            if piece[:1] < b"\x80":
                bridge._look_at_request(message)
            else:
                bridge._look_at_answer(message)
        except (ProtocolError, DecodeError):
            pass  # The stream ends; here the next one goes on with the same books.
        assert 0 <= kept.used <= BUDGET
        now = session.handed
        assert now is None or 0 < now <= INT32_MAX
        assert handed is None or handed == now or id_is_newer(now, handed)
    for registration in kept:
        kept.drop(registration.id)
    left = list(kept._unanswered.values())
    assert kept.used == sum(entry.cost() for entry in left)


def bridge_seeds() -> List[bytes]:
    put = protocol.PutRequest(data=b"function", client_ref_id=b"ref", total_chunks=1)
    halves = [
        protocol.PutRequest(data=b"half", client_ref_id=b"ref", chunk_id=n, total_chunks=2)
        for n in range(2)
    ]
    answer = protocol.DataResponse(req_id=1, put=protocol.PutResponse(id=b"id", valid=True))
    release = protocol.DataRequest(req_id=2, release=protocol.ReleaseRequest(ids=[b"id"]))
    info = protocol.DataResponse(connection_info=protocol.ConnectionInfoResponse(num_clients=3))
    requests = [protocol.DataRequest(req_id=1, put=one) for one in (put, *halves)]

    def sequence(*messages: Any) -> bytes:
        sides = (b"\xff" if isinstance(m, protocol.DataResponse) else b"\0" for m in messages)
        return pieces.join(side + m.SerializeToString() for side, m in zip(sides, messages))

    return [
        sequence(requests[0], answer, release),
        sequence(requests[1], requests[2], answer, info),
        sequence(requests[0], requests[1], requests[1], requests[2], answer, answer),
    ]


# -- chunks


def _number(byte: int) -> int:
    return byte - 256 if byte > 250 else byte


def chunks(data: bytes) -> None:
    """An object comes out only if its chunks came in one after the other."""
    assembly, due = ChunkAssembly("put"), []
    req_id = count = 0
    for piece in pieces.split(data):
        if len(piece) < 3:
            continue
        chunk = (_number(piece[0]), _number(piece[1]), _number(piece[2]))
        fresh = not due and chunk[1] == 0 and chunk[2] >= 0
        follows = bool(due) and chunk == (req_id, len(due), count)
        repeats = bool(due) and chunk[::2] == (req_id, count) and 0 <= chunk[1] < len(due)
        try:
            whole = assembly.add(*chunk, piece[3:])
        except ProtocolError:
            assert not (fresh or follows or repeats)
            continue
        assert fresh or follows or repeats or chunk == (req_id, len(due), 0)
        if repeats:
            assert whole is None
            continue
        req_id, count = chunk[0], chunk[2] or 1
        due.append(piece[3:])
        if len(due) == count:
            assert whole == b"".join(due)
            due = []
        else:
            assert whole is None


def chunk_seeds() -> List[bytes]:
    whole = [b"\x01\x00\x01x"]
    three = [b"\x02\x00\x03a", b"\x02\x01\x03b", b"\x02\x02\x03c"]
    return [
        pieces.join(whole),
        pieces.join(three),
        pieces.join([*three[:2], *three, *whole]),
        pieces.join([*three[:1], *whole, *three[2:]]),
    ]


# -- metadata


class _Context:
    def __init__(self, metadata: List[Tuple[str, object]]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> List[Tuple[str, object]]:
        return self._metadata


_KEYS = (
    "client_id",
    "reconnecting",
    "x-users-own",
    wire.SECRET_KEY,
    wire.INCARNATION_KEY,
    wire.SERVER_KEY,
    wire.REASON_KEY,
)


def _value(raw: bytes) -> object:
    # As gRPC does it: text where that is possible. A repeated length byte makes long ones.
    if raw[:1] == b"*":
        raw = raw[1:] * 200
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def metadata(data: bytes) -> None:
    """Whoever calls is told apart, and let in or refused with a text that fits."""
    told = [
        (_KEYS[piece[0] % len(_KEYS)], _value(piece[1:])) for piece in pieces.split(data) if piece
    ]
    caller = rpc.caller_of(_Context(told))  # type: ignore[arg-type]
    assert caller.incarnation is None or 0 <= caller.incarnation
    reason = wire.reason_of(told)
    assert reason is None or isinstance(reason, str)
    rpc.users_metadata(_Context(told))  # type: ignore[arg-type]
    table = SessionTable()
    for call in (table.find, table.reconnect, table.open, table.find, table.open, table.reconnect):
        try:
            call(caller)
        except Refused as why:
            assert len(rpc.trimmed(why.text).encode()) < 8192
    assert len(table) == bool(caller.client_id)


def metadata_seeds() -> List[bytes]:
    return [
        pieces.join([b"\x00abc", b"\x01True", b"\x03secret", b"\x041"]),
        pieces.join([b"\x00*abc", b"\x04*9", b"\x06server-died"]),
        pieces.join([b"\x00", b"\x04-1", b"\x02\xff\xfe"]),
    ]
