"""The calls beside the data stream, passed on to the server of the caller's session."""

from __future__ import annotations

from typing import AsyncIterator, Awaitable, Callable, Optional

import grpc
from google.protobuf.message import DecodeError

from ray.util.client import protocol
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.gcs import Gcs
from ray.util.client.server.proxy.host import Host, Hosts
from ray.util.client.server.proxy.starter import EXIT_SEEN_S, LiveServer
from ray.util.client.server.proxy.tasks import on_call
from ray.util.client.session import wire
from ray.util.client.session.proxied import Refused, State

_BEFORE_SERVER = frozenset({State.NEW, State.STARTING})
# How a call ends whose server went away beneath it.
_CONNECTION_CODES = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
)

UnaryHandler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class Driver:
    """Serves ``RayletDriver``.

    Args:
        hosts: the sessions.
        gcs: answers key-value calls of clients that have no server yet: they upload packages.
    """

    def __init__(self, hosts: Hosts, gcs: Gcs) -> None:
        self._hosts = hosts
        self._gcs = gcs

    def unary(self, name: str) -> UnaryHandler:
        """The handler of the method ``name``, which answers with one message."""

        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                if name == "ClusterInfo" and _is_ping(request):
                    return protocol.ClusterInfoResponse(json="{}").SerializeToString()
                host = self._hosts.find(rpc.caller_of(context))
                if name in Gcs.METHODS and _without_server(host):
                    return await self._gcs.call(name, request)
                return await self._forward(name, request, context, _known(host))
            except Refused as why:
                await rpc.refuse(context, why)

        return handle

    async def get_object(
        self, request: bytes, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Handles ``GetObject``. A generator by form only, as the data stream's handler."""
        try:
            host = _known(self._hosts.find(rpc.caller_of(context)))
            await self._stream(request, context, host)
        except Refused as why:
            await rpc.refuse(context, why)
        return
        yield b""

    async def _forward(
        self, name: str, request: bytes, context: grpc.aio.ServicerContext, host: Host
    ) -> bytes:
        server = await _server(host)
        call = server.channel.unary_unary(protocol.DRIVER[name].path)(
            request, timeout=context.time_remaining(), metadata=_metadata(host, server, context)
        )
        try:
            code = await call.code()
            if code is grpc.StatusCode.OK:
                return await call
            raise await _failure(host, server, code, await call.details())
        finally:
            call.cancel()

    async def _stream(self, request: bytes, context: grpc.aio.ServicerContext, host: Host) -> None:
        server = await _server(host)
        call = server.channel.unary_stream(protocol.DRIVER["GetObject"].path)(
            request, timeout=context.time_remaining(), metadata=_metadata(host, server, context)
        )
        try:
            await on_call(_pass_on(call, context))
        except grpc.aio.AioRpcError as e:
            raise await _failure(host, server, e.code(), e.details()) from e
        finally:
            call.cancel()


async def _pass_on(call: grpc.aio.UnaryStreamCall, context: grpc.aio.ServicerContext) -> None:
    while (data := await call.read()) is not grpc.aio.EOF:
        await context.write(data)


def _is_ping(request: bytes) -> bool:
    try:
        asked = protocol.ClusterInfoRequest.FromString(request)
    except DecodeError as e:
        raise Refused("INVALID_ARGUMENT", "The request of ClusterInfo is malformed.") from e
    return asked.type == protocol.ClusterInfoType.PING


def _without_server(host: Optional[Host]) -> bool:
    return host is None or host.session.state in _BEFORE_SERVER


def _known(host: Optional[Host]) -> Host:
    if host is None:
        text = "No session of this client id is known here."
        raise Refused("NOT_FOUND", text, wire.REASON_SESSION_UNKNOWN)
    return host


async def _server(host: Host) -> LiveServer:
    if host.session.state is State.RECREATING:
        raise host.session.recreating()
    return await host.serving()


def _metadata(host: Host, server: LiveServer, context: grpc.aio.ServicerContext) -> rpc.Metadata:
    return rpc.onward(
        host.session.client_id,
        server.incarnation,
        server.process.key,
        rpc.users_metadata(context),
    )


async def _failure(
    host: Host, server: LiveServer, code: grpc.StatusCode, details: Optional[str]
) -> Refused:
    if code in _CONNECTION_CODES and await server.process.wait(EXIT_SEEN_S):
        return host.session.refusal() if host.session.ended else host.session.recreating()
    return Refused(code.name, details or "")
