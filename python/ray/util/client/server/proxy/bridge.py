"""Passes the messages of a data stream on, both ways, and keeps an eye on what passes."""

from __future__ import annotations

import asyncio
from typing import Callable, Optional, Set

import grpc

from ray.util.client import protocol
from ray.util.client.limits import GRPC_UNRECOVERABLE_ERRORS
from ray.util.client.server.proxy.host import Attachment
from ray.util.client.server.proxy.starter import EXIT_SEEN_S
from ray.util.client.server.proxy.tasks import drop, on_call
from ray.util.client.session import wire
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import (
    CONNECTION_CLEANUP,
    CONNECTION_INFO,
    PUT,
    RELEASE,
    peek,
)
from ray.util.client.session.proxied import ProxiedSession, Refused

# How long a server may take to end the stream of a client that has taken its leave.
_FAREWELL_S = 10.0


class Bridge:
    """One client's data stream and one server's, joined. One message each way is under way.

    Args:
        context: the client's side.
        upstream: the server's side.
        server_gone: tells whether the server's process has exited.
        attachment: tells when the stream is to end for another reason, and is told whether the
            session ends with it.
        session: learns of what is registered and which requests were passed on.
        clients: tells how many clients there are, for the answers that carry the number.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext,
        upstream: grpc.aio.StreamStreamCall,
        server_gone: Callable[[], bool],
        attachment: Attachment,
        session: ProxiedSession,
        clients: Callable[[], int],
    ) -> None:
        self._context = context
        self._upstream = upstream
        self._server_gone = server_gone
        self._attachment = attachment
        self._session = session
        self._registrations = session.registrations
        self._clients = clients
        self._half_closed = False

    async def run(self) -> None:
        """Returns when the stream has ended well.

        Raises:
            Refused: it has ended, and the client is to be told this.
            asyncio.CancelledError: the client is gone.
        """
        to_server = asyncio.ensure_future(self._to_server())
        to_client = asyncio.ensure_future(self._to_client())
        try:
            await self._until_end(to_server, to_client)
        except ProtocolError as e:
            self._attachment.cleanup = f"its client sent what is no request: {e}"
            raise Refused("INVALID_ARGUMENT", f"A message is not understood: {e}.") from e
        finally:
            drop(to_server)
            drop(to_client)
            self._upstream.cancel()

    async def _until_end(self, to_server: asyncio.Future, to_client: asyncio.Future) -> None:
        broken = self._attachment.broken
        watched: Set[asyncio.Future] = {to_server, to_client, broken}
        limit: Optional[float] = None
        while to_client in watched:
            done, watched = await asyncio.wait(
                watched, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if broken in done:
                self._raise_broken()
                return
            if not done:
                return
            for task in done:
                task.result()
            if self._half_closed and self._attachment.cleanup is not None:
                limit = _FAREWELL_S
        if not self._half_closed and self._attachment.cleanup is None:
            raise Refused("UNAVAILABLE", "The session's server has closed the data stream.")

    def _raise_broken(self) -> None:
        why = self._attachment.broken.result()
        if why is not None:
            raise why

    async def _to_server(self) -> None:
        try:
            await on_call(self._pass_requests())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The other direction learns why.
            return

    async def _pass_requests(self) -> None:
        while (data := await self._context.read()) is not grpc.aio.EOF:
            if self._server_gone():
                # Not handed over: the client may safely send it to the next server. But for a
                # goodbye, after which it does not come back.
                if peek(data).kind == CONNECTION_CLEANUP:
                    self._look_at_request(data)
                return
            self._look_at_request(data)
            await self._upstream.write(data)
        self._half_closed = True
        await self._upstream.done_writing()

    async def _to_client(self) -> None:
        try:
            await on_call(self._pass_answers())
        except grpc.aio.AioRpcError as e:
            await self._server_broke_off(e)

    async def _pass_answers(self) -> None:
        while (data := await self._upstream.read()) is not grpc.aio.EOF:
            await self._context.write(self._look_at_answer(data))

    async def _server_broke_off(self, error: grpc.aio.AioRpcError) -> None:
        if self._attachment.cleanup is not None:
            return  # Taking its client's leave, it has ended before the stream's end was passed on.
        details = error.details() or ""
        # A stream that was given up may reach the server behind the one that followed it.
        superseded = wire.reason_of(error.trailing_metadata()) == wire.REASON_SUPERSEDED
        if error.code() in GRPC_UNRECOVERABLE_ERRORS and not superseded:
            self._attachment.cleanup = f"its server refused to go on: {details}"
            raise Refused(error.code().name, details)
        # If the process has died, its session knows better what to say, in a moment.
        await asyncio.wait({self._attachment.broken}, timeout=EXIT_SEEN_S)
        if self._attachment.broken.done():
            self._raise_broken()
        raise Refused(
            "UNAVAILABLE",
            f"The connection to the session's server broke: {error.code().name}: {details}",
        )

    def _look_at_request(self, data: bytes) -> None:
        seen = peek(data)
        self._session.hand(seen.req_id)
        if seen.kind == PUT:
            self._registrations.saw_put(data, seen)
        elif seen.kind == RELEASE:
            self._registrations.saw_release(data, seen)
        elif seen.kind == CONNECTION_CLEANUP:
            self._attachment.cleanup = "its client has disconnected"

    def _look_at_answer(self, data: bytes) -> bytes:
        seen = peek(data)
        if seen.kind == PUT:
            self._registrations.saw_put_answer(data, seen)
        elif seen.kind == CONNECTION_INFO:
            # A specific server has one client; users mean the cluster's.
            message = protocol.DataResponse.FromString(data)
            message.connection_info.num_clients = self._clients()
            message.connection_info.handed = self._session.handed or 0
            return message.SerializeToString()
        return data
