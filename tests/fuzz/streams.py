"""A specific server's handling of a data stream's requests, over a stand-in for Ray."""

from __future__ import annotations

from typing import Any, Callable, List

from google.protobuf.message import DecodeError

from ray.util.client import protocol
from ray.util.client.cache import INIT_REQ_ID, CacheError
from ray.util.client.server.datapath import DataStream
from ray.util.client.server.gathering import Values
from ray.util.client.server.sessions import Session
from ray.util.client.session.errors import ProtocolError
from tests.fuzz import pieces
from tests.unit.server.dataservicer_support import FakeServicer

_FOREVER = 1000.0


class _Servicer(FakeServicer):
    """Answers at once."""

    def get(self, request: Any, client_id: str, context: Any) -> Any:
        return iter([protocol.GetResponse(valid=True, data=b"x", total_chunks=1)])

    def when_ready(self, request: Any, client_id: str, callback: Callable[[Any], None]) -> None:
        if request.ids[0][:1] == b"u":
            raise ValueError("not found")
        callback(b"value")

    def when_all_ready(self, request: Any, client_id: str, callback: Callable[[Any], None]) -> None:
        if not request.ids:
            raise ValueError("nothing to get")
        callback(Values(list(request.ids)))

    def wait_now(self, request: Any) -> Any:
        return protocol.WaitResponse(valid=True, ready_object_ids=request.object_ids)


def data_stream(data: bytes) -> None:
    """Requests of any kind and order are answered each once, or end the stream with an error."""
    servicer, session = _Servicer(), Session("fuzz", 1)
    flags = data[0] if data else 0
    if flags & 1:
        session.initialised, session.grace_s = True, _FOREVER if flags & 2 else 0.0
    stream = DataStream(servicer, None, protocol.ConnectionInfoResponse)
    session.begin(stream)
    asked = _asked(data[1:])
    for request in asked:
        stream.inbox.put_request(request, request.ByteSize())
    stream.inbox.end()
    ids = {request.req_id for request in asked}
    try:
        for response in stream.responses(session):
            assert response.req_id in ids
            assert response.WhichOneof("type")
    except (ProtocolError, CacheError):
        pass
    finally:
        stream.inbox.close()
    if flags & 3 == 3:
        _each_once(servicer, asked)
    assert session.cache.entry_count <= len(asked)


def _asked(data: bytes) -> List[Any]:
    asked = []
    for piece in pieces.split(data):
        try:
            asked.append(protocol.DataRequest.FromString(piece))
        except DecodeError:
            break  # gRPC ends the stream.
    return asked


def _each_once(servicer: _Servicer, asked: List[Any]) -> None:
    for kind, done in (("put", servicer.puts), ("task", servicer.tasks)):
        wanted = [request for request in asked if request.WhichOneof("type") == kind]
        again = sum(_repeatable(kind, request) for request in wanted)
        assert len(done) <= len({request.req_id for request in wanted}) + again


def _repeatable(kind: str, request: Any) -> bool:
    untracked = request.req_id in (0, INIT_REQ_ID)
    return untracked or (kind == "put" and bool(request.put.register_as))


def seeds() -> List[bytes]:
    made = protocol.DataRequest
    init = made(req_id=1, init=protocol.InitRequest(reconnect_grace_period=30))
    put = made(req_id=2, put=protocol.PutRequest(data=b"x", total_chunks=1))
    task = made(req_id=3, task=protocol.ClientTask(data=b"x", total_chunks=1))
    halves = [
        made(req_id=4, put=protocol.PutRequest(data=b"x", chunk_id=n, total_chunks=2))
        for n in range(2)
    ]
    get = made(req_id=5, get=protocol.GetRequest(ids=[b"a"], asynchronous=True))
    parts = made(req_id=6, get=protocol.GetRequest(ids=[b"a", b"b"], asynchronous=True, parts=True))
    acknowledge = made(acknowledge=protocol.AcknowledgeRequest(req_id=3))
    wait = made(req_id=7, wait=protocol.WaitRequest(object_ids=[b"a"], num_returns=1))
    withdraw = made(withdraw=protocol.WithdrawRequest(req_id=6))
    others = []
    for name in ("terminate", "list_named_actors", "prep_runtime_env", "connection_info"):
        request = made(req_id=8)
        getattr(request, name).SetInParent()
        others.append(request)
    cleanup = made()
    cleanup.connection_cleanup.SetInParent()
    histories = [
        [init, put, task, *halves, acknowledge, cleanup],
        [put, put, task, task, acknowledge, put],
        [halves[0], halves[0], halves[1], halves[1], get, parts, withdraw],
        [*others, wait, get, put],
    ]
    return [
        bytes([flags]) + pieces.join(request.SerializeToString() for request in history)
        for history in histories
        for flags in (0, 1, 3)
    ]
