"""A proxier without Ray: its real gRPC side and sessions, over servers in this process."""

from __future__ import annotations

import asyncio
import queue
import socket
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Callable, Dict, List, Optional, Set, Tuple

import grpc

from ray.util.client import protocol
from ray.util.client.server.proxy.host import Hosts
from ray.util.client.server.proxy.launcher import NotReady
from ray.util.client.server.proxy.methods import Methods
from ray.util.client.server.proxy.output import Outputs
from ray.util.client.server.proxy.ports import Ports
from ray.util.client.server.proxy.starter import Starter
from ray.util.client.session import wire

HOST = "127.0.0.1"
LIMIT_S = 30.0


def unused_ports(count: int) -> List[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind((HOST, 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def init_request(grace: int = 30, req_id: int = 1) -> Any:
    request = protocol.DataRequest(req_id=req_id)
    request.init.reconnect_grace_period = grace
    request.init.capabilities.extend(wire.CAPABILITIES)
    return request


def put_request(req_id: int, data: bytes, ref: bytes = b"") -> Any:
    request = protocol.DataRequest(req_id=req_id)
    request.put.data = data
    request.put.client_ref_id = ref
    request.put.total_chunks = 1
    return request


def info_request() -> Any:
    """What a reopened stream begins with."""
    request = protocol.DataRequest()
    request.connection_info.SetInParent()
    return request


def cleanup_request() -> Any:
    request = protocol.DataRequest()
    request.connection_cleanup.SetInParent()
    return request


class FakeServer:
    """A specific server as seen from outside: a process and what it answers.

    Attributes:
        seen: the requests of all its data streams, in their order.
        metadata: of each call, in their order.
        ended: how the proxier ended it: True gently, False at once; None if it did not.
        kernel_says: tells whether the process has exited.
    """

    log_name = "ray_client_server_1.err"
    key = "the key of this server"

    def __init__(self, script: Script, port: int) -> None:
        self.script = script
        self.port = port
        self.pid = 1000 + port
        self.seen: List[Any] = []
        self.metadata: List[Dict[str, Any]] = []
        self.ended: Optional[bool] = None
        self._gone = asyncio.Event()
        self.kernel_says: Callable[[], bool] = self._gone.is_set
        self._grpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for methods in (protocol.DRIVER, protocol.DATA_STREAMER, protocol.LOG_STREAMER):
            self._grpc.add_generic_rpc_handlers((protocol.handler(methods, self),))

    async def serve(self) -> None:
        self._grpc.add_insecure_port(f"{HOST}:{self.port}")
        await self._grpc.start()

    # -- what the proxier does with a process

    @property
    def alive(self) -> bool:
        return not self._gone.is_set()

    def exited(self) -> bool:
        return self.kernel_says()

    async def wait(self, timeout: Optional[float] = None) -> bool:
        try:
            await asyncio.wait_for(self._gone.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def end(self, gently: bool) -> None:
        if self.alive:
            self.ended = gently
            await self.die()

    def obituary(self) -> str:
        return "it was killed by signal 9 (SIGKILL). The end of its log:\nlast words"

    async def die(self) -> None:
        """As a killed process: its connections break, then its exit is seen."""
        await self._grpc.stop(None)
        self._gone.set()

    # -- what a specific server answers

    async def Datapath(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self._note(context)
        async for request in requests:
            self.seen.append(request)
            await self._may_cancel(request.WhichOneof("type"), context)
            if request.WhichOneof("type") == "init" and self.script.dies_on_init:
                self.script.dies_on_init -= 1
                asyncio.ensure_future(self.die())
                await asyncio.Event().wait()
            if request.WhichOneof("type") == "connection_cleanup" and self.script.dies_on_cleanup:
                asyncio.ensure_future(self.die())
                await asyncio.Event().wait()
            if request.WhichOneof("type") == "terminate":
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no more of this")
            if request.WhichOneof("type") == "list_named_actors":
                why = ((wire.REASON_KEY, wire.REASON_SUPERSEDED),)
                await context.abort(grpc.StatusCode.ABORTED, "a stream came late", why)
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        answer = protocol.DataResponse(req_id=request.req_id)
        kind = request.WhichOneof("type")
        if kind == "init":
            answer.init.ok = not self.script.refuses_init
            answer.init.msg = "the init was refused" if self.script.refuses_init else ""
            answer.init.capabilities.extend(self.script.capabilities)
            answer.init.namespace = request.init.namespace or "first namespace"
            if self.script.tells_jobs:
                job = f"job{self.script.servers.index(self) + 1}"
                answer.init.worker_output.job = job
        elif kind == "put":
            answer.put.id = request.put.register_as or b"id of " + request.put.data
            answer.put.valid = True
        elif kind == "connection_info":
            answer.connection_info.num_clients = 1
            answer.connection_info.ray_version = "2.60.0"
        elif kind == "connection_cleanup":
            answer.connection_cleanup.SetInParent()
        return answer

    async def Logstream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self._note(context)
        async for request in requests:
            text = self.script.long_record or f"level {request.loglevel}"
            yield protocol.LogData(msg=text)
            await self._may_cancel("Logstream", context)

    async def GetObject(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._note(context)
        for chunk_id in range(3):
            yield protocol.GetResponse(valid=True, chunk_id=chunk_id, total_chunks=3)
            await self._may_cancel("GetObject", context)
        if self.script.hangs.is_set():
            await asyncio.Event().wait()

    async def WaitObject(self, request: Any, context: Any) -> Any:
        self._note(context)
        if self.script.hangs.is_set():
            self.script.hanging.set()
            await asyncio.Event().wait()
        return protocol.WaitResponse(valid=True)

    async def KVGet(self, request: Any, context: Any) -> Any:
        return protocol.KVGetResponse(value=b"from the server")

    async def Terminate(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what should end?")

    async def _may_cancel(self, what: str, context: Any) -> None:
        if what in self.script.cancels:
            await context.abort(grpc.StatusCode.CANCELLED, "cancelled, as by a server that leaves")

    def _note(self, context: Any) -> None:
        self.metadata.append(dict(context.invocation_metadata()))


class Script:
    """What servers of one test do. Stands in for the launcher.

    Attributes:
        servers: all that were launched, in their order.
        gate: launches wait until it is open; it is at first.
        stillborn: so many of the next processes die before they listen.
        dies_ready: so many of the next processes die when they listen, before anybody connects.
        dies_on_init: so many of the next inits kill their server.
        tells_jobs: whether servers tell their job (job1, job2 …), so that its output is streamed.
        dies_on_cleanup: whether goodbyes kill their server.
        long_record: what servers log if it is not empty.
        cancels: at which requests of a data stream, and in which other calls after an answer,
            servers that live on cancel the call.
    """

    def __init__(self) -> None:
        self.servers: List[FakeServer] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.launching = asyncio.Event()
        self.hangs = asyncio.Event()
        self.hanging = asyncio.Event()
        self.stillborn = 0
        self.dies_ready = 0
        self.dies_on_init = 0
        self.dies_on_cleanup = False
        self.long_record = ""
        self.cancels: Set[str] = set()
        self.refuses_init = False
        self.tells_jobs = False
        self.capabilities: Tuple[str, ...] = wire.CAPABILITIES

    async def launch(
        self, port: int, runtime_env_context: Optional[str], warm: bool = False
    ) -> FakeServer:
        server = FakeServer(self, port)
        self.servers.append(server)
        self.launching.set()
        await self.gate.wait()
        return server

    async def wait_ready(self, process: FakeServer, port: int) -> None:
        if self.stillborn:
            self.stillborn -= 1
            await process.die()
            raise NotReady(process.obituary())
        await process.serve()
        if self.dies_ready:
            self.dies_ready -= 1
            await process.die()


class FakeGcs:
    async def call(self, name: str, request: bytes) -> bytes:
        return protocol.KVGetResponse(value=b"from the store").SerializeToString()


class Channel:
    """The cluster's channel of what workers print: stands in for Ray's ``GcsLogSubscriber``.

    Attributes:
        made: how many subscribers there have been.
        open: how many there are.
        fails: so many of the next subscriptions are refused.
    """

    def __init__(self) -> None:
        self.made = self.open = self.fails = 0
        self.subscribed = 0
        self._batches: queue.Queue[Any] = queue.Queue()

    def __call__(self) -> Channel:
        self.made += 1
        self.open += 1
        return self

    def publish(self, job: str, *lines: str, is_err: bool = False, pid: str = "1") -> None:
        self._batches.put(
            {"job": job, "pid": pid, "ip": "", "is_err": is_err, "lines": list(lines)}
        )

    def go_away(self) -> None:
        """As a store that is restarted: whoever reads gets nothing."""
        self._batches.put(None)

    def subscribe(self) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("no store there")
        self.subscribed += 1

    def poll(self, timeout: float) -> Any:
        try:
            return self._batches.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        self.open = 0
        self._batches.put(None)


class FakePackages:
    async def keep(self, uris: Any) -> None:
        return


class RecordingPorts(Ports):
    """Ports that the system hands out, with a count of those that are out."""

    def __init__(self, free: List[int]) -> None:
        super().__init__(HOST, free)
        self.out = 0

    def take(self) -> int:
        self.out += 1
        return super().take()

    def give_back(self, port: int) -> None:
        self.out -= 1
        super().give_back(port)


class Client:
    """One client's connection to the proxier under test."""

    def __init__(self, channel: grpc.aio.Channel, client_id: str, secret: Optional[str]) -> None:
        self.metadata: Tuple[Tuple[str, str], ...] = (("client_id", client_id),)
        if secret is not None:
            self.metadata += ((wire.SECRET_KEY, secret),)
        self.driver = protocol.Stub(channel, protocol.DRIVER)
        self._data = protocol.Stub(channel, protocol.DATA_STREAMER)
        self._logs = protocol.Stub(channel, protocol.LOG_STREAMER)

    def stream(self, reconnecting: bool = False, *more: Tuple[str, str]) -> Any:
        said = (("reconnecting", str(reconnecting)),)
        return self._data.Datapath(metadata=self.metadata + said + more)

    def logs(self) -> Any:
        return self._logs.Logstream(metadata=self.metadata)

    async def logs_from(self, shown: Optional[int], enabled: bool = True) -> Any:
        """A log stream whose client tells what it has shown; None: as a stock client."""
        stream = self.logs()
        await stream.write(protocol.LogSettingsRequest(enabled=enabled, shown=shown))
        return stream

    def wait(self) -> Any:
        """A call beside the data stream, as good as any."""
        return self.driver.WaitObject(protocol.WaitRequest(), metadata=self.metadata)

    async def begin(self, grace: int = 30) -> Any:
        """Begins a session; returns its data stream, with the init answered."""
        stream = self.stream()
        await stream.write(init_request(grace))
        answer = await within(stream.read())
        assert answer.init.ok, answer.init.msg
        return stream


class World:
    """The proxier under test and what is around it."""

    def __init__(
        self, script: Script, hosts: Hosts, ports: RecordingPorts, port: int, printed: Channel
    ) -> None:
        self.script, self.hosts, self.ports = script, hosts, ports
        self.printed = printed
        self.address = f"{HOST}:{port}"
        self.channel = grpc.aio.insecure_channel(self.address)

    def client(self, client_id: str = "c1", secret: Optional[str] = None) -> Client:
        return Client(self.channel, client_id, secret)

    async def until(self, condition: Any) -> None:
        """Waits for what nobody announces; fails the test if it never comes."""

        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        await within(poll())


async def within(work: Any) -> Any:
    """Awaits ``work``, but not for ever."""
    return await asyncio.wait_for(work, LIMIT_S)


async def broken(stream: Any) -> grpc.aio.AioRpcError:
    """Reads on until the stream breaks, and returns how."""
    try:
        while await within(stream.read()) is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as e:
        return e
    raise AssertionError("the stream ended without an error")


@asynccontextmanager
async def a_world(free_ports: List[int]) -> AsyncIterator[World]:
    script = Script()
    ports = RecordingPorts(free_ports)
    starter = Starter(HOST, script, FakeAgent(), ports)  # type: ignore[arg-type]
    channel = Channel()
    outputs = Outputs(channel)
    hosts = Hosts(starter, FakePackages(), outputs)  # type: ignore[arg-type]
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Methods(hosts, FakeGcs()),))  # type: ignore[arg-type]
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    world = World(script, hosts, ports, port, channel)
    try:
        yield world
    finally:
        script.gate.set()
        await world.channel.close()
        await within(hosts.shutdown())
        await server.stop(None)
        await within(outputs.close())
    assert not channel.open


class FakeAgent:
    async def set_up(self, spec: Any, owner: str) -> str:
        return "{}"
