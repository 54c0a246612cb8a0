"""The log stream: what a session's servers log and its workers print, passed on to its client."""

from __future__ import annotations

import asyncio
import logging
from typing import AsyncIterator, Mapping, NamedTuple, Optional, Union

import grpc
from google.protobuf.message import DecodeError

from ray.util.client import protocol
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.host import Attachment, Host, Hosts
from ray.util.client.server.proxy.starter import EXIT_SEEN_S, LiveServer
from ray.util.client.server.proxy.tasks import drop, on_call
from ray.util.client.session import wire
from ray.util.client.session.loglines import Dropped, Piece
from ray.util.client.session.printed import Style
from ray.util.client.session.proxied import Refused

# How many earlier jobs of its session a client may tell; the newest count.
_TOLD_JOBS = 1000
_STREAMS = {False: (-1, "stdout"), True: (-2, "stderr")}


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

        A stream outlives the session's servers, and gives way to a newer one of the same client.
        """
        try:
            host = await self._hosts.appears(rpc.caller_of(context))
            if host is None:
                text = "No session of this client id is known here."
                raise Refused("NOT_FOUND", text, wire.REASON_SESSION_UNKNOWN)
            await _Stream(host, context).run()
        except Refused as why:
            await rpc.refuse(context, why)
        return
        yield b""


class _Stream:
    def __init__(self, host: Host, context: grpc.aio.ServicerContext) -> None:
        self._host = host
        self._output = host.output
        self._context = context
        # What is logged and what is printed come side by side, but are written one at a time.
        self._writing = asyncio.Lock()
        self._settings: Optional[_Settings] = None
        self._half_closed = False
        self._told = asyncio.Event()

    async def run(self) -> None:
        """Returns when the stream has ended well.

        Raises:
            Refused: it has ended, and the client is to be told this.
            asyncio.CancelledError: the client is gone.
        """
        attachment = self._host.add_logs()
        try:
            # At once: gRPC would not notice having sent it with a first record that is broken off
            # on its way, would send it again with the status, and that ends no stream.
            await self._context.send_initial_metadata(())
            await self._until_end(attachment)
        finally:
            self._host.drop_logs(attachment)

    async def _until_end(self, attachment: Attachment) -> None:
        reading = asyncio.ensure_future(self._read())
        logged = asyncio.ensure_future(self._pass_logged())
        printed = asyncio.ensure_future(self._pass_printed())
        try:
            watched = {reading, logged, printed, attachment.broken}
            while watched & {logged, printed}:
                done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if attachment.broken in done:
                    _raise_if_broken(attachment)
                    return
                for task in done:
                    task.result()
        finally:
            for task in (reading, logged, printed):
                drop(task)

    # -- from the client

    async def _read(self) -> None:
        while (data := await self._context.read()) is not grpc.aio.EOF:
            settings = _understood(data)
            if settings.shown is not None:
                self._output.forget(settings.shown)
            if settings.jobs:
                self._output.add_jobs(settings.jobs)
            self._output.want(settings.enabled)
            self._settings = settings
            self._tell()
        self._half_closed = True
        self._tell()
        self._output.wake()

    def _tell(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    # -- what servers log

    async def _pass_logged(self) -> None:
        server: Optional[LiveServer] = None
        while not (server is not None and self._half_closed):
            server = await self._host.serving(server)
            await self._pass_from(server)

    async def _pass_from(self, server: LiveServer) -> None:
        """Returns when the server has died, or has answered the client's half-close."""
        upstream = self._open(server)
        settings = asyncio.ensure_future(self._pass_settings(upstream))
        try:
            await on_call(self._pass_records(upstream))
            if self._half_closed:
                return
            trouble = "The session's server has closed the log stream."
        except grpc.aio.AioRpcError as e:
            trouble = f"The log stream broke: {e.details()}"
        finally:
            drop(settings)
            upstream.cancel()
        if not await server.process.wait(EXIT_SEEN_S):
            raise Refused("UNAVAILABLE", trouble)

    async def _pass_records(self, upstream: grpc.aio.StreamStreamCall) -> None:
        while (data := await upstream.read()) is not grpc.aio.EOF:
            await self._write(data)

    def _open(self, server: LiveServer) -> grpc.aio.StreamStreamCall:
        metadata = rpc.onward(
            self._host.session.client_id,
            server.incarnation,
            server.process.key,
            rpc.users_metadata(self._context),
        )
        if server.facts.job:
            metadata = (*metadata, (wire.OUTPUT_KEY, "proxier"))
        path = protocol.LOG_STREAMER["Logstream"].path
        return server.channel.stream_stream(path)(metadata=metadata)

    async def _pass_settings(self, upstream: grpc.aio.StreamStreamCall) -> None:
        passed: Optional[_Settings] = None
        try:
            while True:
                latest = self._settings
                if latest is not None and not latest.asks_the_same(passed):
                    passed = latest
                    await upstream.write(latest.message)
                elif self._half_closed:
                    await upstream.done_writing()
                    return
                else:
                    await self._told.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reading side learns why.
            return

    # -- what workers print

    async def _pass_printed(self) -> None:
        while self._settings is None:
            if self._half_closed:
                return
            await self._told.wait()
        shown = self._settings.shown
        have = shown or 0
        told: Mapping[str, Style] = {}
        while True:
            next_one = self._output.after(have)
            if shown is not None and told != self._output.jobs:
                told = self._output.jobs
                await self._write(_jobs_data(told))
            elif next_one is not None:
                have = next_one.number
                if shown is None:
                    # This client can't tell what it has shown, and must not see anything twice.
                    self._output.forget(have)
                await self._write(_log_data(next_one))
            elif self._half_closed:
                return
            else:
                await self._output.changed()

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._context.write(data)


class _Settings(NamedTuple):
    """What a client asks for, in a serialised LogSettingsRequest too.

    ``shown``: see there; None from a client that does not tell. ``jobs``: see ``outputs`` there.
    """

    message: bytes
    enabled: bool
    level: int
    shown: Optional[int]
    jobs: Mapping[str, Style]

    def asks_the_same(self, other: Optional[_Settings]) -> bool:
        return other is not None and (self.enabled, self.level) == (other.enabled, other.level)


def _understood(data: bytes) -> _Settings:
    try:
        request = protocol.LogSettingsRequest.FromString(data)
    except DecodeError as e:
        raise Refused("INVALID_ARGUMENT", "A message of the log stream is malformed.") from e
    shown = request.shown if request.HasField("shown") else None
    jobs = {told.job: Style(told.node_ip, told.colour) for told in request.outputs[-_TOLD_JOBS:]}
    return _Settings(data, request.enabled, request.loglevel, shown, jobs)


def _jobs_data(jobs: Mapping[str, Style]) -> bytes:
    data = protocol.LogData(level=_STREAMS[False][0])
    for job, style in jobs.items():
        data.outputs.add(job=job, node_ip=style.node_ip, colour=style.colour)
    return data.SerializeToString()


def _log_data(what: Union[Piece, Dropped]) -> bytes:
    if isinstance(what, Piece):
        level, name = _STREAMS[what.is_err]
        data = protocol.LogData(msg=what.text, level=level, name=name)
    else:
        data = protocol.LogData(level=logging.WARNING, name=__name__)
        data.msg = (
            f"{what.lines} lines that workers printed were dropped: they came faster than this "
            "connection takes them, or while it was interrupted."
        )
    data.seq = what.number
    return data.SerializeToString()


def _raise_if_broken(attachment: Attachment) -> None:
    why = attachment.broken.result()
    if why is not None:
        raise why
