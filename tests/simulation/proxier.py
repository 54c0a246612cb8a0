"""The proxier's process: the product's hosts, starter, bridges and tables on simulated gRPC."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from ray.util.client import protocol
from ray.util.client.server.proxy.datapath import Datapath
from ray.util.client.server.proxy.host import Hosts
from ray.util.client.server.proxy.launcher import NotReady
from ray.util.client.server.proxy.starter import Starter
from ray.util.client.server.proxy.unary import Driver
from tests.simulation.cluster import Cluster
from tests.simulation.network import CANCELLED, OK, Metadata, Route, Status, Wire
from tests.simulation.server import ServerProcess
from tests.simulation.world import Process, World

EOF = grpc.aio.EOF
# How soon the loop hears of a child's exit, at most (seconds).
EXIT_HEARD_S = 0.01
# How long a server takes to leave when it is asked to, at most: sometimes longer than is waited.
LEAVES_S = 6.0
# How long a server may take to listen.
READY_TIMEOUT_S = 30.0


class _Aborted(Exception):
    """Ends a handler, as gRPC's own does."""


class _Queue:
    """Messages for one reader, and how they end."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future | None = None

    def add(self, item: Any) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def take(self) -> Any:
        while not self._items:
            self._reader = self._process.future()
            await self._reader
        return self._items.popleft()

    def peek(self) -> Any:
        return self._items[0] if self._items else None


class _Context:
    """A data stream's ServicerContext: the client's side of it."""

    def __init__(self, process: Process, wire: Wire, metadata: Metadata) -> None:
        self._process = process
        self._wire = wire
        self._metadata = metadata
        self._queue = _Queue(process)
        self.task: asyncio.Task | None = None

    # As a wire's callee.

    def took(self, data: bytes) -> None:
        self._queue.add(data)

    def half_closed(self) -> None:
        self._queue.add(EOF)

    def cancelled(self) -> None:
        if self.task is not None and self._process.alive:
            self.task.cancel()

    # As gRPC's.

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> None:
        return None

    async def read(self) -> Any:
        item = await self._queue.take()
        if item is not EOF:
            self._wire.read()
        return item

    async def write(self, data: bytes) -> None:
        self._wire.answer(data)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        self._wire.finish(Status(code, details, trailing))
        raise _Aborted()


class _Upstream:
    """A data stream to a server, as gRPC's StreamStreamCall."""

    def __init__(self, process: Process, route: Route) -> None:
        self._process = process
        self._queue = _Queue(process)
        self._room: asyncio.Future | None = None
        self._status: Status | None = None
        self.wire = Wire(route, self)

    # As a wire's caller.

    def took(self, data: bytes) -> None:
        self._queue.add(data)

    def room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def ended(self, status: Status) -> None:
        self._status = status
        self._queue.add(status)
        self.room()

    # As gRPC's.

    async def write(self, data: bytes) -> None:
        while self._status is None and not self.wire.has_room:
            self._room = self._process.future()
            await self._room
        if self._status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        self.wire.send(data)

    async def read(self) -> Any:
        if isinstance(self._queue.peek(), Status):
            return self._end()
        item = await self._queue.take()
        if isinstance(item, Status):
            self._queue.add(item)
            return self._end()
        return item

    def _end(self) -> Any:
        assert self._status is not None
        if self._status.code is grpc.StatusCode.OK:
            return EOF
        if self._status is CANCELLED:
            raise asyncio.CancelledError()
        raise _rpc_error(self._status)

    async def done_writing(self) -> None:
        if self._status is None:
            self.wire.half_close()

    def cancel(self) -> None:
        if self._status is None and self._process.alive:
            self.wire.cancel()
            self.ended(CANCELLED)


def _rpc_error(status: Status) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(status.code, (), status.trailing, status.details)


class _UnaryUpstream:
    """A unary call to a server, as gRPC's UnaryUnaryCall."""

    def __init__(self, process: Process, route: Route) -> None:
        self._process = process
        self._done: asyncio.Future = process.future()
        self.wire = Wire(route, self)
        self._answer = b""

    def took(self, data: bytes) -> None:
        self._answer = data

    def room(self) -> None:
        pass

    def ended(self, status: Status) -> None:
        if not self._done.done():
            self._done.set_result(status)

    async def code(self) -> grpc.StatusCode:
        return (await asyncio.shield(self._done)).code

    async def details(self) -> str:
        return (await asyncio.shield(self._done)).details

    def __await__(self) -> Any:
        if False:
            yield
        return self._answer

    def cancel(self) -> None:
        if not self._done.done() and self._process.alive:
            self.wire.cancel()
            self._done.set_result(CANCELLED)


class _UnaryCallee:
    """A server's end of a unary call."""

    def __init__(self, server: ServerProcess, wire: Wire, name: str, metadata: Metadata) -> None:
        self._server, self._wire, self._name, self._metadata = server, wire, name, metadata
        server.unary[self] = None

    def took(self, data: bytes) -> None:
        self._server.unary.pop(self, None)
        answer, status = self._server.call(self._name, data, self._metadata)
        self._wire.answer(answer)
        self._wire.finish(status)

    def half_closed(self) -> None:
        pass

    def cancelled(self) -> None:
        self._server.unary.pop(self, None)

    def callee_died(self) -> None:
        self._wire.callee_died()


class _Limbo:
    """Where a call stands that waits for a server to be ready which never will be."""

    def took(self, data: bytes) -> None:
        pass

    def half_closed(self) -> None:
        pass

    def cancelled(self) -> None:
        pass


class _Channel:
    """Connections to one port."""

    def __init__(self, proxier: ProxierProcess, port: int) -> None:
        self._proxier = proxier
        self._port = port
        self._calls: list[Any] = []

    def stream_stream(self, path: str) -> Callable[..., _Upstream]:
        def call(metadata: Metadata, wait_for_ready: bool = False) -> _Upstream:
            made = _Upstream(self._proxier.process, self._proxier.inward)
            self._calls.append(made)
            server = self._proxier.servers[self._port]
            limbo = _Limbo() if wait_for_ready else None
            made.wire.open(lambda wire: server.accept(wire, metadata) if server.listens else limbo)
            return made

        return call

    def unary_unary(self, path: str) -> Callable[..., _UnaryUpstream]:
        name = path.rsplit("/", 1)[1]

        def call(request: bytes, timeout: Any, metadata: Metadata) -> _UnaryUpstream:
            made = _UnaryUpstream(self._proxier.process, self._proxier.inward)
            self._calls.append(made)
            server = self._proxier.servers[self._port]
            made.wire.open(
                lambda wire: _UnaryCallee(server, wire, name, metadata) if server.listens else None
            )
            made.wire.send(request)
            return made

        return call

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()


class _Child:
    """A server's process as its proxier sees it."""

    def __init__(self, process: Process, server: ServerProcess, key: str) -> None:
        self.key = key
        self.pid = server.number
        self.log_name = None
        self._server = server
        self._exit: asyncio.Future = process.future()
        self._process = process
        self._listening: asyncio.Future = process.future()
        server.when_dead(self._died)
        server.when_listening(lambda: self._listening.set_result(None))

    def _died(self) -> None:
        world = self._process.world
        world.after(world.random() * EXIT_HEARD_S, self._heard)

    def _heard(self) -> None:
        if self._process.alive and not self._exit.done():
            self._exit.set_result(-9)

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    def exited(self) -> bool:
        return not self._server.alive

    async def wait(self, timeout: float | None = None) -> bool:
        await asyncio.wait({self._exit}, timeout=timeout)
        return self._exit.done()

    async def ready(self, timeout: float) -> None:
        """Waits until it listens, or is gone."""
        await asyncio.wait(
            {self._exit, self._listening}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )

    async def end(self, gently: bool) -> None:
        if gently and self.alive:
            world = self._process.world
            world.after(world.random() * LEAVES_S, self._server.kill)
            await self.wait(5.0)
        if self.alive:
            self._server.kill()
        await self.wait()

    def obituary(self) -> str:
        return "it was killed"


class Starts:
    """How the servers' starts go, by the plan's wish.

    Attributes:
        takes: seconds, on average.
        fail: how many of the next ones fail.
    """

    def __init__(self, takes: float) -> None:
        self.takes = takes
        self.fail = 0


class _Launcher:
    """Starts simulated processes."""

    def __init__(self, proxier: ProxierProcess) -> None:
        self._proxier = proxier

    async def launch(self, port: int, context: Any, warm: bool = False) -> _Child:
        proxier = self._proxier
        world, starts = proxier.world, proxier.starts
        server = ServerProcess(world, proxier.cluster, port)
        proxier.servers[port] = server
        proxier.spawned(server)
        if starts.fail:
            starts.fail -= 1
            world.after(world.about(starts.takes), server.kill)
        else:
            world.after(world.about(starts.takes), server.listen)
        return _Child(proxier.process, server, f"key-{port}")

    async def wait_ready(self, process: _Child, port: int) -> None:
        await process.ready(READY_TIMEOUT_S)
        if not process.alive:
            raise NotReady("it died")
        if not self._proxier.servers[port].listens:
            raise NotReady("it did not listen in time")


class _Ports:
    """Numbers that are never used twice, so that a process is known by its port."""

    def __init__(self, proxier: ProxierProcess) -> None:
        self._proxier = proxier
        self.taken: set[int] = set()

    def take(self) -> int:
        port = self._proxier.next_port()
        self.taken.add(port)
        return port

    def give_back(self, port: int) -> None:
        self.taken.remove(port)


class _Packages:
    async def keep(self, uris: Any) -> None:
        pass


class _Gcs:
    """Answers for sessions that have no server yet, or none any more."""

    async def call(self, name: str, request: bytes) -> bytes:
        return protocol.DRIVER[name].response().SerializeToString()


class _Output:
    """What a session's workers print: nothing."""

    def begin(self, first: int) -> None:
        pass

    def add_jobs(self, jobs: Any) -> None:
        pass

    def close(self) -> None:
        pass


class _Outputs:
    def open(self) -> _Output:
        return _Output()


class ProxierProcess:
    """The process that clients connect to.

    Args:
        world: the world.
        cluster: where its servers' drivers work.
        inward: the route to its servers.
        starts: how starts go.
        warm: how many servers it keeps ready.
        next_port: gives a number that no process of this world has had.
        spawned: is told of each server's process.
    """

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        inward: Route,
        starts: Starts,
        warm: int,
        next_port: Callable[[], int],
        spawned: Callable[[ServerProcess], None],
    ) -> None:
        self.world = world
        self.spawned = spawned
        self.cluster = cluster
        self.inward = inward
        self.starts = starts
        self.next_port = next_port
        self.process = Process(world, "proxier")
        self.servers: dict[int, ServerProcess] = {}
        self.alive = True
        self._contexts: dict[Wire, _Context] = {}
        self.ports = _Ports(self)
        self.starter = Starter(
            "host",
            _Launcher(self),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self.ports,  # type: ignore[arg-type]
            warm,
            lambda host, port: _Channel(self, port),  # type: ignore[arg-type, return-value]
        )
        self.hosts = Hosts(self.starter, _Packages(), _Outputs())  # type: ignore[arg-type]
        self._datapath = Datapath(self.hosts)
        self._driver = Driver(self.hosts, _Gcs())  # type: ignore[arg-type]
        self.process.run(self.starter.begin)

    def unfinished(self) -> list[str]:
        """What still runs here, as text."""
        return [f"the proxier runs {task}" for task in self.world.loop.unfinished(self.process)]

    # -- calls

    def accept(self, wire: Wire, metadata: Metadata) -> _Context | None:
        """A data stream of a client has arrived."""
        if not self.alive:
            return None
        context = _Context(self.process, wire, metadata)
        self._contexts[wire] = context
        context.task = self.process.task(self._serve(wire, context))
        return context

    async def _serve(self, wire: Wire, context: _Context) -> None:
        try:
            async for _ in self._datapath.handle(None, context):  # type: ignore[arg-type]
                pass
            wire.finish(OK)
        except (_Aborted, asyncio.CancelledError):
            wire.finish(CANCELLED)
        except Exception as e:
            self._failed(wire, e)
        finally:
            self._contexts.pop(wire, None)

    def accept_unary(self, wire: Wire, name: str, metadata: Metadata) -> Any:
        """A unary call of a client has arrived."""
        if not self.alive:
            return None
        context = _UnaryContext(self, wire, name, metadata)
        self._contexts[wire] = context  # type: ignore[assignment]
        return context

    async def serve_unary(self, context: _UnaryContext, request: bytes) -> None:
        try:
            answer = await self._driver.unary(context.name)(request, context)  # type: ignore
            context.wire.answer(answer)
            context.wire.finish(OK)
        except (_Aborted, asyncio.CancelledError):
            context.wire.finish(CANCELLED)
        except Exception as e:
            self._failed(context.wire, e)
        finally:
            self._contexts.pop(context.wire, None)

    def _failed(self, wire: Wire, error: Exception) -> None:
        self.world.faults.append(f"a handler of the proxier has failed: {error!r}")
        wire.finish(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {error!r}"))

    # -- the process

    def kill(self) -> None:
        """As by SIGKILL: its servers die with it."""
        if not self.alive:
            return
        self.world.note("the proxier dies")
        self.alive = False
        self.process.alive = False
        for server in list(self.servers.values()):
            server.kill()
        for wire in list(self._contexts):
            wire.callee_died()

    def stop(self) -> None:
        """Begins to end well."""
        self.process.task(self._stop())

    async def _stop(self) -> None:
        await self.hosts.shutdown()
        await self.starter.close()


class _UnaryContext(_Context):
    """A unary call's ServicerContext."""

    def __init__(self, proxier: ProxierProcess, wire: Wire, name: str, metadata: Metadata) -> None:
        super().__init__(proxier.process, wire, metadata)
        self._proxier = proxier
        self.name = name
        self.wire = wire

    def took(self, data: bytes) -> None:
        self.task = self._proxier.process.task(self._proxier.serve_unary(self, data))
