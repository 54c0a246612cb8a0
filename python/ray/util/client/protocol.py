"""Message classes, stubs and handlers built from ``src/protocol/ray_client.proto`` at run time.

The build ships the compiled descriptor set instead of generated code, which ties a wheel to one
protobuf release. The classes live in a descriptor pool of their own and never meet stock's, whose
bytes they share. On the wire the services keep stock's names (``ray.rpc.RayletDriver`` …).

Serialisers go by duck typing, so that a caller may pass messages of stock's ``ray_client_pb2``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ray.util.client.session import wire

_PACKAGE = "ray.rpc.reconnect"
_WIRE_PACKAGE = "ray.rpc"


def _load_pool() -> descriptor_pool.DescriptorPool:
    raw = resources.files("ray.util.client.session").joinpath("ray_client.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(raw)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


_pool = _load_pool()


def _message(name: str) -> Any:
    descriptor = _pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    # protobuf before 4.22
    return message_factory.MessageFactory(_pool).GetPrototype(descriptor)


AcknowledgeRequest = _message("AcknowledgeRequest")
ClientListNamedActorsRequest = _message("ClientListNamedActorsRequest")
ClientListNamedActorsResponse = _message("ClientListNamedActorsResponse")
ClientPinRuntimeEnvURIRequest = _message("ClientPinRuntimeEnvURIRequest")
ClientPinRuntimeEnvURIResponse = _message("ClientPinRuntimeEnvURIResponse")
ClientTask = _message("ClientTask")
ClientTaskTicket = _message("ClientTaskTicket")
ClusterInfoRequest = _message("ClusterInfoRequest")
ClusterInfoResponse = _message("ClusterInfoResponse")
ClusterInfoType = _message("ClusterInfoType")
ConnectionCleanupRequest = _message("ConnectionCleanupRequest")
ConnectionCleanupResponse = _message("ConnectionCleanupResponse")
ConnectionInfoRequest = _message("ConnectionInfoRequest")
ConnectionInfoResponse = _message("ConnectionInfoResponse")
DataRequest = _message("DataRequest")
DataResponse = _message("DataResponse")
GetRequest = _message("GetRequest")
GetResponse = _message("GetResponse")
InitRequest = _message("InitRequest")
InitResponse = _message("InitResponse")
KVDelRequest = _message("KVDelRequest")
KVDelResponse = _message("KVDelResponse")
KVExistsRequest = _message("KVExistsRequest")
KVExistsResponse = _message("KVExistsResponse")
KVGetRequest = _message("KVGetRequest")
KVGetResponse = _message("KVGetResponse")
KVListRequest = _message("KVListRequest")
KVListResponse = _message("KVListResponse")
KVPutRequest = _message("KVPutRequest")
KVPutResponse = _message("KVPutResponse")
LogData = _message("LogData")
LogSettingsRequest = _message("LogSettingsRequest")
PickRequest = _message("PickRequest")
PrepRuntimeEnvRequest = _message("PrepRuntimeEnvRequest")
PrepRuntimeEnvResponse = _message("PrepRuntimeEnvResponse")
PutRequest = _message("PutRequest")
PutResponse = _message("PutResponse")
ReleaseRequest = _message("ReleaseRequest")
ReleaseResponse = _message("ReleaseResponse")
RequestBatch = _message("RequestBatch")
ResponseBatch = _message("ResponseBatch")
TaskOptions = _message("TaskOptions")
TerminateRequest = _message("TerminateRequest")
TerminateResponse = _message("TerminateResponse")
WaitRequest = _message("WaitRequest")
WaitResponse = _message("WaitResponse")
WithdrawRequest = _message("WithdrawRequest")
WorkerOutput = _message("WorkerOutput")


class Method(NamedTuple):
    """One gRPC method: its path on the wire, its message classes, and which sides stream."""

    path: str
    request: Any
    response: Any
    client_streams: bool
    server_streams: bool

    @property
    def kind(self) -> str:
        """gRPC's name of the method's shape, such as ``unary_stream``."""
        sides = ("unary", "stream")
        return f"{sides[self.client_streams]}_{sides[self.server_streams]}"


def _methods(service: str) -> dict[str, Method]:
    raw = descriptor_pb2.FileDescriptorProto()
    descriptor = _pool.FindServiceByName(f"{_PACKAGE}.{service}")
    descriptor.file.CopyToProto(raw)
    declared = next(s for s in raw.service if s.name == service)
    return {
        m.name: Method(
            path=f"/{_WIRE_PACKAGE}.{service}/{m.name}",
            request=_message(m.input_type.rsplit(".", 1)[1]),
            response=_message(m.output_type.rsplit(".", 1)[1]),
            client_streams=m.client_streaming,
            server_streams=m.server_streaming,
        )
        for m in declared.method
    }


DRIVER = _methods("RayletDriver")
DATA_STREAMER = _methods("RayletDataStreamer")
LOG_STREAMER = _methods("RayletLogStreamer")


def serialize(message: Any) -> bytes:
    """Serialises any protobuf message, ours or stock's.

    Raises:
        TypeError: it is no message. gRPC then ends the call, where it would else wait for ever.
    """
    data = message.SerializeToString()
    if not isinstance(data, bytes):
        raise TypeError(f"{type(message).__name__} is not a message of the protocol")
    return data


class Stub:
    """Calls of one service over a channel, sync or asyncio, one attribute a method.

    Args:
        channel: a ``grpc.Channel`` or ``grpc.aio.Channel``.
        methods: one of ``DRIVER``, ``DATA_STREAMER``, ``LOG_STREAMER``.
    """

    def __init__(self, channel: Any, methods: dict[str, Method]) -> None:
        for name, method in methods.items():
            make = getattr(channel, method.kind)
            call = make(
                method.path,
                request_serializer=serialize,
                response_deserializer=method.response.FromString,
            )
            setattr(self, name, call)


def _guarded(behaviour: Callable, key: str, streams: bool) -> Callable:
    def check(context: Any) -> None:
        shown = dict(context.invocation_metadata()).get(wire.SERVER_KEY, "")
        if not hmac.compare_digest(str(shown).encode(), key.encode()):
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "This server belongs to another Ray Client proxy server. Connect to that one "
                "(port 10001 by default).",
            )

    def answer(request: Any, context: Any) -> Any:
        check(context)
        return behaviour(request, context)

    def stream(request: Any, context: Any) -> Any:
        check(context)
        yield from behaviour(request, context)

    return stream if streams else answer


def handler(
    methods: dict[str, Method], servicer: Any, key: str | None = None
) -> grpc.GenericRpcHandler:
    """Makes the gRPC handler that calls ``servicer``'s methods of the same names.

    A method that the servicer lacks is answered with UNIMPLEMENTED.

    Args:
        methods: one of ``DRIVER``, ``DATA_STREAMER``, ``LOG_STREAMER``.
        servicer: sync.
        key: what callers must show (``wire.SERVER_KEY``); None admits everybody.
    """
    service = next(iter(methods.values())).path.split("/")[1]
    found: dict[str, Any] = {}
    for name, method in methods.items():
        behaviour: Callable = getattr(servicer, name, None)  # type: ignore[assignment]
        if behaviour is None:
            continue
        if key is not None:
            behaviour = _guarded(behaviour, key, method.server_streams)
        make = getattr(grpc, f"{method.kind}_rpc_method_handler")
        found[name] = make(
            behaviour,
            request_deserializer=method.request.FromString,
            response_serializer=serialize,
        )
    return grpc.method_handlers_generic_handler(service, found)
