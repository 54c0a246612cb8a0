"""Brings a session's next server up: from the runtime environment to the answered init."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any, Callable, Coroutine, FrozenSet, Iterable, Iterator, Optional

import grpc

from ray.util.client import protocol
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.channel import open_channel
from ray.util.client.server.proxy.job_config import BadJobConfig, RuntimeEnvSpec, runtime_env_of
from ray.util.client.server.proxy.launcher import Launcher, NotReady
from ray.util.client.server.proxy.ports import NoFreePort, Ports
from ray.util.client.server.proxy.process import ServerProcess
from ray.util.client.server.proxy.runtime_env import RuntimeEnvAgent, RuntimeEnvFailed
from ray.util.client.server.proxy.tasks import drop, on_call
from ray.util.client.server.proxy.warm import (
    REFILL_AFTER_DEATH_S,
    REFILL_S,
    CannotStart,
    Listening,
    WarmServers,
)
from ray.util.client.session import wire
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import INIT, peek
from ray.util.client.session.printed import Style
from ray.util.client.session.proxied import ProxiedSession, SavedInit, ServerFacts
from ray.util.client.session.registrations import Registration

logger = logging.getLogger(__name__)

# Requests of the proxier's own carry this id, which servers neither cache nor count.
INIT_REQ_ID = -1
# A process that dies on the way up is replaced this often before anybody is told.
ATTEMPTS = 3
# A server that a session gets after a death must answer within this, or is replaced in its turn.
# A first one may take as long as its client will wait.
INIT_TIMEOUT_S = 120.0
# How much later than the end of its connections a process's exit may be seen.
EXIT_SEEN_S = 1.0
# Starting Python and importing Ray keeps a core busy. More starts at a time would only make all of
# them slow, until they miss their deadlines.
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)


class StartFailed(Exception):
    """No server came up.

    Attributes:
        text: why.
        answer: the serialised DataResponse of a server that refused the init; else None.
    """

    def __init__(self, text: str, answer: Optional[bytes] = None) -> None:
        super().__init__(text)
        self.text, self.answer = text, answer


@dataclass(eq=False)
class LiveServer:
    """A server that has answered its init.

    Attributes:
        stream: the data stream on which it did, for the first client stream to go on with; None
            once it has been taken.
        answer: the serialised DataResponse to the init.
    """

    incarnation: int
    port: int
    process: ServerProcess
    channel: grpc.aio.Channel
    stream: Optional[grpc.aio.StreamStreamCall]
    answer: bytes
    facts: ServerFacts

    def take_stream(self) -> Optional[grpc.aio.StreamStreamCall]:
        """The stream on which the init was answered, for whoever asks first."""
        stream, self.stream = self.stream, None
        return stream


class Starter:
    """Starts servers and does away with them; owns their ports.

    Args:
        host: where servers listen.
        launcher: starts the processes.
        agent: sets runtime environments up.
        ports: what servers listen on.
        warm: how many servers to keep ready.
        connect: makes the channel to the server at a host and a port.
    """

    def __init__(
        self,
        host: str,
        launcher: Launcher,
        agent: RuntimeEnvAgent,
        ports: Ports,
        warm: int = 0,
        connect: Callable[[str, int], grpc.aio.Channel] = open_channel,
    ) -> None:
        self._host = host
        self._connect = connect
        self._launcher = launcher
        self._agent = agent
        self._ports = ports
        # Sessions that have lost their server don't stand in line behind new ones.
        self._first_slots = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._later_slots = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._warm = WarmServers(warm, self._make_warm, self._end_warm)

    def begin(self) -> None:
        """Begins to keep servers ready."""
        self._warm.begin()

    async def close(self) -> None:
        """Ends the servers that are ready."""
        await self._warm.close()

    async def start(self, session: ProxiedSession, users: rpc.Metadata) -> LiveServer:
        """Starts the session's server. When cancelled, nothing of it is left.

        Args:
            session: not changed here.
            users: the metadata of the session's first data stream.

        Raises:
            StartFailed: after all attempts that made sense.
        """
        spec = await self._spec(session)
        trouble = ""
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(session, users, spec)
            except _Died as e:
                trouble = str(e)
                logger.warning(
                    "Server of client %s did not come up (attempt %d of %d): %s",
                    session.client_id,
                    attempt + 1,
                    ATTEMPTS,
                    trouble,
                )
        raise StartFailed(f"Starting Ray client server failed: {trouble}")

    async def packages(self, session: ProxiedSession) -> FrozenSet[str]:
        """The cluster's packages that the session's runtime environment is made of.

        None where the environment can't be read; starting a server tells why.
        """
        try:
            return (await self._spec(session)).packages
        except StartFailed:
            return frozenset()

    async def dispose(self, server: LiveServer, gently: bool) -> None:
        """Ends the server, reaps it and frees its port. To be called once for each."""
        await server.channel.close()
        await self._dispose(server.process, server.port, gently)

    async def _dispose(self, process: ServerProcess, port: int, gently: bool) -> None:
        await process.end(gently)
        self._ports.give_back(port)

    async def _spec(self, session: ProxiedSession) -> RuntimeEnvSpec:
        init = protocol.DataRequest.FromString(_saved(session).message).init
        try:
            return await asyncio.to_thread(runtime_env_of, init.job_config)
        except BadJobConfig as e:
            raise StartFailed(str(e)) from e

    async def _attempt(
        self, session: ProxiedSession, users: rpc.Metadata, spec: RuntimeEnvSpec
    ) -> LiveServer:
        first = session.incarnation == session.first
        rest_s = REFILL_S if first else REFILL_AFTER_DEATH_S
        listening = self._warm.take(rest_s) if spec.empty else None
        if listening is None:
            listening = await self._fresh(session, spec)
        port, process = listening.port, listening.process
        logger.info(
            "Server number %d of client %s listens on port %d, pid %d.",
            session.incarnation,
            session.client_id,
            port,
            process.pid,
        )
        server = await self._connected(session, listening)
        try:
            await _answer_init(server, session, users)
            return server
        except BaseException:
            # Also when cancelled: the process must not outlive the wish for it.
            await asyncio.shield(self.dispose(server, gently=False))
            raise

    async def _connected(self, session: ProxiedSession, listening: Listening) -> LiveServer:
        port, process = listening.port, listening.process
        try:
            channel = self._connect(self._host, port)
        except BaseException as e:
            await asyncio.shield(self._end_warm(listening))
            if isinstance(e, OSError):  # TLS files are just being replaced, say.
                raise _Died(f"it can't be connected to: {e}") from e
            raise
        return LiveServer(session.incarnation, port, process, channel, None, b"", ServerFacts())

    async def _fresh(self, session: ProxiedSession, spec: RuntimeEnvSpec) -> Listening:
        try:
            port = self._ports.take()
        except NoFreePort as e:
            raise StartFailed(str(e)) from e
        try:
            context = await self._context(spec, port)
            first = session.incarnation == session.first
            async with self._first_slots if first else self._later_slots:
                return Listening(port, await self._launch(port, context))
        except BaseException:
            self._ports.give_back(port)
            raise

    async def _context(self, spec: RuntimeEnvSpec, port: int) -> Optional[str]:
        if spec.empty:
            return None
        try:
            return await self._agent.set_up(spec, f"ray_client_server_{port}")
        except RuntimeEnvFailed as e:
            raise StartFailed(str(e)) from e

    async def _launch(
        self, port: int, context: Optional[str], warm: bool = False
    ) -> ServerProcess:
        try:
            process = await self._launcher.launch(port, context, warm)
        except OSError as e:
            raise _Died(str(e)) from e
        try:
            await self._launcher.wait_ready(process, port)
            return process
        except BaseException as e:
            await asyncio.shield(process.end(gently=False))
            if isinstance(e, NotReady):
                raise _Died(str(e)) from e
            raise

    async def _make_warm(self) -> Listening:
        try:
            port = self._ports.take()
        except NoFreePort as e:
            raise CannotStart(str(e)) from e
        try:
            async with self._first_slots:
                return Listening(port, await self._launch(port, None, warm=True))
        except BaseException as e:
            self._ports.give_back(port)
            if isinstance(e, _Died):
                raise CannotStart(str(e)) from e
            raise

    async def _end_warm(self, server: Listening) -> None:
        await self._dispose(server.process, server.port, gently=False)


class _Died(Exception):
    """One attempt's process did not make it."""


class _Broke(Exception):
    """The server ended the stream on which it was to answer."""


def _saved(session: ProxiedSession) -> SavedInit:
    assert session.init is not None, "a server is started only after the init"
    return session.init


def _init_message(session: ProxiedSession, first: bool) -> bytes:
    saved = _saved(session)
    if first:
        return saved.message
    message = protocol.DataRequest.FromString(saved.message)
    # A stock server caches by request id and takes no reserved one.
    message.req_id = INIT_REQ_ID if session.facts.capabilities else saved.req_id
    message.init.namespace = session.facts.namespace
    return message.SerializeToString()


async def _answer_init(server: LiveServer, session: ProxiedSession, users: rpc.Metadata) -> None:
    """Gets the init answered.

    Raises:
        _Died: it was not; the text says why.
        StartFailed: the server has refused it.
    """
    try:
        await _while_it_lives(server.process, _initialise(server, session, users))
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.TimeoutError, _Broke) as e:
        raise _Died(await _cause(server.process, e)) from e


async def _initialise(server: LiveServer, session: ProxiedSession, users: rpc.Metadata) -> None:
    path = protocol.DATA_STREAMER["Datapath"].path
    metadata = rpc.onward(
        session.client_id, session.incarnation, server.process.key, users, reconnecting=False
    )
    stream = server.channel.stream_stream(path)(metadata=metadata, wait_for_ready=True)
    first = session.incarnation == session.first
    await stream.write(_init_message(session, first))
    server.answer = await asyncio.wait_for(_read(stream), None if first else INIT_TIMEOUT_S)
    server.facts = _understood(server.answer, first)
    if not first and wire.CAP_REGISTER_AS in server.facts.capabilities:
        await _register_again(stream, session)
    server.stream = stream


async def _while_it_lives(process: ServerProcess, work: Coroutine[Any, Any, None]) -> None:
    """Does ``work``, which may wait for a connection to the process for as long as it takes.

    Raises:
        _Broke: the process has ended first.
        Exception: what the work raises.
    """
    working = asyncio.ensure_future(on_call(work))
    ending = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Broke("it died before it answered the init.")
        working.result()
    finally:
        drop(working)
        drop(ending)


async def _read(stream: grpc.aio.StreamStreamCall) -> bytes:
    message = await stream.read()
    if message is grpc.aio.EOF:
        raise _Broke("it closed its data stream.")
    return message


def _understood(answer: bytes, first: bool) -> ServerFacts:
    try:
        if peek(answer).kind != INIT:
            raise _Broke("it did not answer the init.")
    except ProtocolError as e:
        raise _Broke(f"it answered what is not understood: {e}.") from e
    init = protocol.DataResponse.FromString(answer).init
    if not init.ok:
        # A first client sees the server's own words; later there is no init to answer.
        raise StartFailed(init.msg, answer if first else None)
    output = init.worker_output
    style = Style(output.node_ip, output.colour)
    return ServerFacts(frozenset(init.capabilities), init.namespace, output.job, style)


async def _register_again(stream: grpc.aio.StreamStreamCall, session: ProxiedSession) -> None:
    kept = list(session.registrations)
    # Answers are read while requests are written: a server whose answers nobody takes stops.
    writing = asyncio.ensure_future(_write_all(stream, kept))
    try:
        for registration in kept:
            answer = protocol.DataResponse.FromString(await _read(stream))
            if not answer.put.valid:
                logger.warning(
                    "A function of client %s could not be registered again.", session.client_id
                )
                session.registrations.drop(registration.id)
        await writing
    finally:
        drop(writing)


async def _write_all(stream: grpc.aio.StreamStreamCall, kept: Iterable[Registration]) -> None:
    for registration in kept:
        for message in _puts(registration):
            await stream.write(message)


def _puts(registration: Registration) -> Iterator[bytes]:
    size = len(registration.data)
    total = max(1, -(-size // OBJECT_TRANSFER_CHUNK_SIZE))
    for chunk_id in range(total):
        start = chunk_id * OBJECT_TRANSFER_CHUNK_SIZE
        request = protocol.DataRequest(req_id=INIT_REQ_ID)
        request.put.data = registration.data[start : start + OBJECT_TRANSFER_CHUNK_SIZE]
        request.put.client_ref_id = registration.client_ref_id
        request.put.register_as = registration.id
        request.put.chunk_id = chunk_id
        request.put.total_chunks = total
        request.put.total_size = size
        yield request.SerializeToString()


async def _cause(process: ServerProcess, trouble: Exception) -> str:
    # A connection breaks a moment before the exit of the process at its other end is seen.
    if await process.wait(EXIT_SEEN_S):
        return process.obituary()
    if isinstance(trouble, grpc.aio.AioRpcError):
        return f"it broke its data stream: {trouble.code().name}: {trouble.details()}"
    return str(trouble) or f"it did not answer within {INIT_TIMEOUT_S:g} s."
