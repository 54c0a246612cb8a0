"""The data stream: it begins, carries and ends a session."""

from __future__ import annotations

import asyncio
import logging
from typing import AsyncIterator, Awaitable, Optional, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ray.util.client import protocol
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.bridge import Bridge
from ray.util.client.server.proxy.host import Attachment, Host, Hosts
from ray.util.client.server.proxy.starter import LiveServer
from ray.util.client.server.proxy.tasks import drop
from ray.util.client.session import wire
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import CONNECTION_INFO, INIT, peek
from ray.util.client.session.proxied import Refused, SavedInit, State
from ray.util.client.session.proxied_table import unknown_session

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Datapath:
    """Serves ``RayletDataStreamer/Datapath``.

    Args:
        hosts: the sessions.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def handle(
        self, _: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Handles one stream. A generator by form only, for Ray's interceptors; yields nothing."""
        try:
            host = self._hosts.open(rpc.caller_of(context))
            await _Stream(host, context, self._hosts).run()
        except Refused as why:
            await rpc.refuse(context, why)
        return
        yield b""


class _Stream:
    def __init__(self, host: Host, context: grpc.aio.ServicerContext, hosts: Hosts) -> None:
        self._host = host
        self._context = context
        self._hosts = hosts
        self._attachment: Attachment = host.attach()
        self._init_req_id: Optional[int] = None

    async def run(self) -> None:
        try:
            await self._attachment.turn()
            if self._host.session.state is State.NEW:
                if not await self._begin():
                    return
            server = await self._server()
            if server is not None:
                await self._carry(server)
        finally:
            self._host.detach(self._attachment)

    async def _begin(self) -> bool:
        data = await self._or_broken(self._context.read())
        if data is grpc.aio.EOF:
            self._attachment.cleanup = "its client left before it had begun"
            return False
        try:
            if peek(data).kind == CONNECTION_INFO:
                self._attachment.cleanup = "its client means an earlier session"
                raise unknown_session()
            init = _understood(data)
        except (ProtocolError, DecodeError) as e:
            self._attachment.cleanup = "its client did not begin with an init"
            text = f"The first message of a session has to be an init request: {e}."
            raise Refused("INVALID_ARGUMENT", text) from e
        self._init_req_id = init.req_id
        self._host.begin(init, rpc.users_metadata(self._context))
        return True

    async def _server(self) -> Optional[LiveServer]:
        try:
            return await self._or_broken(self._host.serving())
        except Refused:
            # Whoever sent the init is told of a failed start in the answer to it.
            session = self._host.session
            if self._init_req_id is None or session.state is not State.CLOSED:
                raise
            await self._context.write(self._host.first_answer or self._failure())
            return None

    def _failure(self) -> bytes:
        answer = protocol.DataResponse(req_id=self._init_req_id)
        answer.init.ok = False
        answer.init.msg = self._host.session.ending
        return answer.SerializeToString()

    async def _carry(self, server: LiveServer) -> None:
        session = self._host.session
        upstream = server.take_stream() or self._open(server)
        told = ((wire.INCARNATION_KEY, str(server.incarnation)),)
        bridge = Bridge(
            self._context,
            upstream,
            server.process.exited,
            self._attachment,
            session,
            lambda: len(self._hosts),
        )
        try:
            await self._context.send_initial_metadata(told)
            if self._init_req_id is not None and self._host.first_answer is not None:
                await self._context.write(self._host.first_answer)
            await bridge.run()
        finally:
            upstream.cancel()

    def _open(self, server: LiveServer) -> grpc.aio.StreamStreamCall:
        metadata = rpc.onward(
            self._host.session.client_id,
            server.incarnation,
            server.process.key,
            rpc.users_metadata(self._context),
            reconnecting=True,
        )
        path = protocol.DATA_STREAMER["Datapath"].path
        return server.channel.stream_stream(path)(metadata=metadata)

    async def _or_broken(self, work: Awaitable[T]) -> T:
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait(
                {working, self._attachment.broken}, return_when=asyncio.FIRST_COMPLETED
            )
            if self._attachment.broken.done():
                why = self._attachment.broken.result()
                assert why is not None, "a data stream is broken for a reason"
                raise why
            return working.result()
        finally:
            drop(working)


def _understood(data: bytes) -> SavedInit:
    seen = peek(data)
    if seen.kind != INIT:
        raise ProtocolError("another kind of message came")
    init = protocol.DataRequest.FromString(data).init
    if init.after >= wire.LAST_INCARNATION:
        raise ProtocolError(f"no session can have had {init.after} servers")
    return SavedInit(data, seen.req_id, max(0, init.reconnect_grace_period), init.after)
