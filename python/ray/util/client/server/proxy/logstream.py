"""The log stream: what a session's server logs, passed on to its client."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator

import grpc

from ray.util.client import protocol
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.host import Attachment, Host, Hosts
from ray.util.client.server.proxy.starter import EXIT_SEEN_S
from ray.util.client.server.proxy.tasks import drop
from ray.util.client.session.proxied import Refused


class Logstream:
    """Serves ``RayletLogStreamer/Logstream``.

    Args:
        hosts: the sessions.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def handle(
        self, _: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Handles one stream. A generator by form only, for Ray's interceptors; yields nothing.

        A stream ends with its server; the client opens another, which waits for the next one.
        """
        try:
            host = await self._hosts.appears(rpc.caller_of(context))
            if host is None:
                raise Refused("NOT_FOUND", "No session of this client id is known here.")
            await _follow(host, context)
        except Refused as why:
            await rpc.refuse(context, why)
        return
        yield b""


async def _follow(host: Host, context: grpc.aio.ServicerContext) -> None:
    attachment = host.add_logs()
    try:
        carrying = asyncio.ensure_future(_carry(host, context))
        try:
            await asyncio.wait({carrying, attachment.broken}, return_when=asyncio.FIRST_COMPLETED)
            _raise_if_broken(attachment)
            if carrying.done():
                carrying.result()
        finally:
            drop(carrying)
    finally:
        host.drop_logs(attachment)


def _raise_if_broken(attachment: Attachment) -> None:
    why = attachment.broken.result() if attachment.broken.done() else None
    if why is not None:
        raise why


async def _carry(host: Host, context: grpc.aio.ServicerContext) -> None:
    server = await host.serving()
    metadata = rpc.onward(
        host.session.client_id,
        server.incarnation,
        server.process.key,
        rpc.users_metadata(context),
    )
    path = protocol.LOG_STREAMER["Logstream"].path
    upstream = server.channel.stream_stream(path)(metadata=metadata)
    settings = asyncio.ensure_future(_settings(context, upstream))
    try:
        while (data := await upstream.read()) is not grpc.aio.EOF:
            await context.write(data)
        asked = settings.done() and settings.result()
        if not asked:
            raise Refused("UNAVAILABLE", "The session's server has closed the log stream.")
    except grpc.aio.AioRpcError as e:
        # If the process has died, its session ends this stream with a better reason in a moment.
        await server.process.wait(EXIT_SEEN_S)
        raise Refused("UNAVAILABLE", f"The log stream broke: {e.details()}") from e
    finally:
        drop(settings)
        upstream.cancel()


async def _settings(context: grpc.aio.ServicerContext, upstream: grpc.aio.StreamStreamCall) -> bool:
    """Passes the client's settings on. Returns whether the client has ended the stream."""
    try:
        while (data := await context.read()) is not grpc.aio.EOF:
            await upstream.write(data)
        await upstream.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The reading side learns why.
        return False
    return True
