"""A server on a real Ray, and a client that speaks the bare protocol."""

from __future__ import annotations

import io
import itertools
import threading
from typing import Any, List, Optional

import grpc

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.client_pickler import PickleStub
from ray.util.client.limits import GRPC_OPTIONS
from ray.util.client.server.server import create_ray_handler, serve
from ray.util.client.session import wire
from tests.support.ports import free_ports
from tests.support.waiting import eventually
from tests.unit.server.dataservicer_support import TOO_LONG, Stream

TASK = protocol.ClientTask


class Server:
    """A server with a channel to it.

    Args:
        gcs_address: of the cluster that clients' jobs run on.
    """

    def __init__(self, gcs_address: str) -> None:
        port = free_ports(1)[0]
        self.idle = threading.Event()
        # Never a Ray of its own: that would leave a token in the home directory.
        connect = create_ray_handler(gcs_address, None)
        self.handle = serve("127.0.0.1", port, connect, on_idle=self.idle.set)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", GRPC_OPTIONS)
        self._numbers = itertools.count()

    def client(self, incarnation: int = 1) -> Client:
        return Client(self, f"client-{next(self._numbers)}", incarnation)

    def close(self) -> None:
        self.channel.close()
        self.handle.stop(0)
        # Ray says that it is down before it is; the thread that shuts it down ends after.
        eventually(lambda: not _reapers(), "the end of the last session")


def _reapers() -> List[str]:
    return [t.name for t in threading.enumerate() if t.name == "ray_client_session_reaper"]


class Client:
    """A client that speaks the bare protocol."""

    def __init__(self, server: Server, client_id: str, incarnation: int) -> None:
        self.id = client_id
        self.metadata = [("client_id", client_id)]
        self.driver = protocol.Stub(server.channel, protocol.DRIVER)
        self._req_ids = itertools.count(2)
        # Number of the hand-outs of the last answer that had any.
        self.handing = 0
        self.stream = Stream(
            server.channel,
            {
                "client_id": client_id,
                "reconnecting": "False",
                "ray-client-incarnation": str(incarnation),
            },
        )
        self.init_answer = self.stream.init(grace=0, capabilities=[wire.CAP_HANDOUTS])
        assert self.init_answer.ok, self.init_answer.msg

    def ask(self, **request: Any) -> Any:
        return self.stream.ask(next(self._req_ids), **request)

    def put(self, data: bytes, **fields: Any) -> Any:
        return self.ask(put=protocol.PutRequest(data=data, total_chunks=1, **fields)).put

    def put_value(self, value: Any, **fields: Any) -> bytes:
        answer = self.put(cloudpickle.dumps(value), **fields)
        assert answer.valid
        return answer.id

    def task(self, type: int, id: bytes, name: str = "", data: Optional[bytes] = None) -> Any:
        data = cloudpickle.dumps(((), {})) if data is None else data
        message = TASK(
            type=type, payload_id=id, name=name, client_id=self.id, data=data, total_chunks=1
        )
        return self.ask(task=message).task_ticket

    def run(self, function: Any, *args: Any) -> bytes:
        ticket = self.task(TASK.FUNCTION, self.put_value(function), data=self.arguments(*args))
        assert ticket.valid, cloudpickle.loads(ticket.error)
        return ticket.return_ids[0]

    def arguments(self, *args: Any) -> bytes:
        """Pickled arguments, in which PickleStubs stand for what the server holds."""

        class Pickler(cloudpickle.CloudPickler):
            def persistent_id(self, obj: Any) -> Any:
                return obj if isinstance(obj, PickleStub) else None

        file = io.BytesIO()
        Pickler(file).dump((args, {}))
        return file.getvalue()

    def ref(self, id: bytes, kind: str = "Object") -> PickleStub:
        return PickleStub(kind, self.id, id, None, None)

    def get(self, *ids: bytes, timeout: float = TOO_LONG) -> Any:
        request = protocol.GetRequest(ids=list(ids), timeout=timeout)
        chunks = list(self.driver.GetObject(request, metadata=self.metadata))
        if not chunks[0].valid:
            raise cloudpickle.loads(chunks[0].error)
        return cloudpickle.loads(b"".join(c.data for c in chunks))

    def wait(self, ids: List[bytes], count: int, timeout: float = -1) -> Any:
        request = protocol.WaitRequest(
            object_ids=ids, num_returns=count, timeout=timeout, client_id=self.id
        )
        return self.driver.WaitObject(request, metadata=self.metadata)

    def leave(self) -> None:
        self.ask(connection_cleanup=protocol.ConnectionCleanupRequest())
        self.stream.half_close()
