"""A data servicer behind real gRPC, with a stand-in for what does the work, and its client."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import grpc

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.limits import GRPC_OPTIONS
from ray.util.client.server import jobs
from ray.util.client.server.dataservicer import DataServicer

# Only a test that would otherwise hang waits this long, in seconds.
TOO_LONG = 30.0


class FakeLifetime:
    """Ray's lifetime without Ray."""

    def end_if(self, unused: Callable[[], bool]) -> bool:
        return unused()


class FakeHeld:
    """Notes incarnations."""

    def __init__(self) -> None:
        self.incarnations: List[int] = []

    def note_incarnation(self, incarnation: int) -> None:
        self.incarnations.append(incarnation)


class FakeServicer:
    """Does what the RayletServicer would do, without Ray, and notes it.

    ``waiting`` maps the ids of asynchronous gets to the callbacks that take their values;
    ``tasks`` are run by ``task_gate``, which a test may make block.
    """

    def __init__(self) -> None:
        self.lifetime = FakeLifetime()
        self.held = FakeHeld()
        self.init_answer = protocol.InitResponse(ok=True)
        self.inits: List[Any] = []
        self.admitted: List[str] = []
        self.puts: List[bytes] = []
        self.tasks: List[bytes] = []
        self.task_gate: Callable[[], None] = lambda: None
        self.waiting: queue.Queue[Callable[[Any], None]] = queue.Queue()
        self.released: queue.Queue[str] = queue.Queue()

    def admit(self, client_id: str) -> None:
        self.admitted.append(client_id)

    def Init(self, request: Any, context: Any = None, *, incarnation: int = 1) -> Any:
        self.inits.append(request)
        return self.init_answer

    def acceptance(self, incarnation: int) -> Any:
        return jobs.acceptance(incarnation)

    def has_begun(self) -> bool:
        return False

    def pickled(
        self, value: Any, client_id: str, source: Optional[bytes] = None, names: Any = None
    ) -> bytes:
        return cloudpickle.dumps(value)

    def PrepRuntimeEnv(self, request: Any) -> Any:
        return protocol.PrepRuntimeEnvResponse()

    def put(self, request: Any, data: bytes, client_id: str) -> Any:
        self.puts.append(data)
        return protocol.PutResponse(id=request.register_as or b"new", valid=True)

    def put_failed(self, request: Any, client_id: str, error: Exception) -> Any:
        return protocol.PutResponse(valid=False, error=cloudpickle.dumps(error))

    def schedule_failed(self, task: Any, error: Exception) -> Any:
        return protocol.ClientTaskTicket(valid=False, error=cloudpickle.dumps(error))

    def schedule(self, task: Any, data: bytes) -> Any:
        self.tasks.append(data)
        self.task_gate()
        return protocol.ClientTaskTicket(valid=True, return_ids=[b"task-%d" % len(self.tasks)])

    def when_ready(self, request: Any, client_id: str, callback: Callable[[Any], None]) -> None:
        if request.ids[0] == b"unknown":
            raise ValueError("not found")
        self.waiting.put(callback)

    def release(self, client_id: str, id: bytes) -> bool:
        return id == b"held"

    def release_all(self, client_id: str) -> None:
        self.released.put(client_id)

    def terminate(self, request: Any) -> None:
        raise ValueError("no such actor")

    def ListNamedActors(self, request: Any) -> Any:
        return protocol.ClientListNamedActorsResponse(actors_json="[]")


class Stream:
    """The client's end of one data stream."""

    def __init__(self, channel: grpc.Channel, metadata: Dict[str, str]) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        stub = protocol.Stub(channel, protocol.DATA_STREAMER)
        # Without a deadline: a session may have to last as long as all tests of a module.
        self.call = stub.Datapath(iter(self._requests.get, None), metadata=list(metadata.items()))

    def send(self, req_id: int = 0, **request: Any) -> None:
        self._requests.put(protocol.DataRequest(req_id=req_id, **request))

    def receive(self) -> Any:
        return next(self.call)

    def ask(self, req_id: int = 0, **request: Any) -> Any:
        self.send(req_id, **request)
        return self.receive()

    def init(self, grace: int = 1000, req_id: int = 1, capabilities: Sequence[str] = ()) -> Any:
        request = protocol.InitRequest(reconnect_grace_period=grace, capabilities=capabilities)
        return self.ask(req_id, init=request).init

    def task(self, req_id: int, data: bytes = b"task") -> Any:
        return self.ask(req_id, task=protocol.ClientTask(data=data, total_chunks=1)).task_ticket

    def sync(self) -> None:
        """Returns when all that was sent before has been handled."""
        assert self.ask(0, connection_info=protocol.ConnectionInfoRequest())

    def half_close(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        self.half_close()
        self.call.cancel()

    def failure(self) -> grpc.RpcError:
        """Reads to the end and returns the error there."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as e:
            return e
        raise AssertionError("the stream ended without an error")


class Bench:
    """A running data servicer.

    Attributes:
        work: the stand-in that does the work.
        servicer: the DataServicer under test.
        idle: set when the last client's session has ended.
    """

    def __init__(self) -> None:
        self.idle = threading.Event()
        self.work = FakeServicer()
        self.servicer = DataServicer(self.work, self.idle.set)
        self._server = grpc.server(ThreadPoolExecutor(10))
        self._server.add_generic_rpc_handlers(
            (protocol.handler(protocol.DATA_STREAMER, self.servicer),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", GRPC_OPTIONS)

    def connect(
        self,
        client_id: Optional[str] = "a",
        reconnecting: bool = False,
        incarnation: Optional[int] = None,
    ) -> Stream:
        metadata = {"reconnecting": str(reconnecting)}
        if client_id is not None:
            metadata["client_id"] = client_id
        if incarnation is not None:
            metadata["ray-client-incarnation"] = str(incarnation)
        return Stream(self._channel, metadata)

    def begin(self, client_id: str = "a", grace: int = 1000) -> Stream:
        stream = self.connect(client_id)
        assert stream.init(grace).ok
        return stream

    def close(self) -> None:
        self._channel.close()
        self._server.stop(0).wait(TOO_LONG)
        self.servicer.stopped.set()


def running_bench() -> Iterator[Bench]:
    """For a fixture: yields a Bench and closes it."""
    bench = Bench()
    yield bench
    bench.close()


def object_from(stream: Stream, req_id: int) -> Any:
    """Receives the chunks of an asynchronous get's result and returns the value."""
    data, count = b"", 1
    index = 0
    while index < count:
        response = stream.receive()
        assert response.req_id == req_id and response.get.valid
        assert response.get.chunk_id == index
        data += response.get.data
        count, index = response.get.total_chunks, index + 1
    return cloudpickle.loads(data)
