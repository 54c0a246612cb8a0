"""Speaks the protocol, or nonsense, to a Ray Client port without a client in between."""

from __future__ import annotations

import pickle
import queue
import socket
import struct
import uuid
from types import TracebackType
from typing import Any, Iterator, List, Optional, Tuple, Type

import grpc

from ray.job_config import JobConfig
from ray.util.client import protocol
from tests.support.ports import LOOPBACK

# Guards against hanging for ever.
_PATIENCE_S = 60.0
_END = object()

Metadata = List[Tuple[str, str]]


class RawStream:
    """A data stream whose every message the test writes."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self._outgoing: queue.Queue = queue.Queue()
        method = protocol.DATA_STREAMER["Datapath"]
        call = channel.stream_stream(
            method.path,
            request_serializer=lambda message: message,
            response_deserializer=method.response.FromString,
        )
        self._call = call(iter(self._outgoing.get, _END), metadata=metadata, timeout=_PATIENCE_S)

    def send(self, *requests: Any) -> None:
        """Sends DataRequests, or bytes as they are."""
        for request in requests:
            raw = request if isinstance(request, bytes) else request.SerializeToString()
            self._outgoing.put(raw)

    def receive(self) -> Any:
        """Returns the next DataResponse; raises ``grpc.RpcError`` if the stream has failed."""
        return next(self._call)

    def ask(self, request: Any) -> Any:
        """Sends a request and returns the next response."""
        self.send(request)
        return self.receive()

    def error(self) -> grpc.RpcError:
        """Reads on until the stream fails, and returns the error."""
        try:
            while True:
                self.receive()
        except StopIteration:
            raise AssertionError("the stream ended without an error") from None
        except grpc.RpcError as error:
            return error

    def incarnation(self) -> Optional[str]:
        """Waits for the stream to be attached to a server; returns the incarnation told."""
        told = dict(self._call.initial_metadata())
        return told.get("ray-client-incarnation")

    def half_close(self) -> None:
        self._outgoing.put(_END)

    def cancel(self) -> None:
        self.half_close()
        self._call.cancel()


class RawClient:
    """A channel to a client port, with an id of its own. Use as a context manager.

    Args:
        port: the client port, on the loopback interface.
        secret: the session's secret; None for a client that shows none, as stock's.
        client_id: the id to go by; a fresh one by default.
    """

    def __init__(
        self, port: int, secret: Optional[str] = None, client_id: Optional[str] = None
    ) -> None:
        self.client_id = uuid.uuid4().hex if client_id is None else client_id
        self.secret = secret
        self._channel = grpc.insecure_channel(f"{LOOPBACK}:{port}")
        self._streams: List[RawStream] = []
        self.driver = protocol.Stub(self._channel, protocol.DRIVER)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for stream in self._streams:
            stream.cancel()
        self._channel.close()

    def metadata(self, *extra: Tuple[str, str]) -> Metadata:
        """Returns the metadata that identifies this client, and ``extra``."""
        known = [("client_id", self.client_id)]
        if self.secret is not None:
            known.append(("ray-client-session-secret", self.secret))
        return [*known, *extra]

    def open(self, *extra: Tuple[str, str], reconnecting: bool = False) -> RawStream:
        """Opens a data stream and sends nothing on it."""
        metadata = self.metadata(("reconnecting", str(reconnecting)), *extra)
        stream = RawStream(self._channel, metadata)
        self._streams.append(stream)
        return stream

    def begin(self, grace_s: int = 30) -> RawStream:
        """Opens a data stream and begins a session on it."""
        stream = self.open()
        answer = stream.ask(init_request(grace_s))
        assert answer.init.ok, answer.init.msg
        return stream

    def call(self, path: str, raw: bytes, metadata: Optional[Metadata] = None) -> bytes:
        """Makes a unary call of any path with any bytes."""
        method = self._channel.unary_unary(path)
        return method(raw, metadata=metadata, timeout=_PATIENCE_S)


def init_request(grace_s: int = 30, job_config: Optional[bytes] = None) -> Any:
    """Makes the request that begins a session."""
    init = protocol.InitRequest(
        job_config=pickle.dumps(JobConfig()) if job_config is None else job_config,
        ray_init_kwargs="{}",
        reconnect_grace_period=grace_s,
    )
    return protocol.DataRequest(req_id=1, init=init)


def connect(port: int) -> socket.socket:
    """Opens a TCP connection to a port of the loopback interface."""
    return socket.create_connection((LOOPBACK, port), timeout=_PATIENCE_S)


def read_to_end(sock: socket.socket) -> bytes:
    """Reads until the peer closes or resets the connection.

    Raises:
        TimeoutError: the peer keeps the connection open.
    """
    received = b""
    try:
        while data := sock.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


HEADERS, DATA, RESET, SETTINGS, GOAWAY = 1, 0, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4


def http2_call(path: str, body: bytes) -> bytes:
    """Makes the bytes of an HTTP/2 connection with one gRPC call whose body is ``body`` and does
    not end."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"test"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    # HPACK's plainest form: never indexed, name and value spelt out.
    block = b"".join(
        b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
    )
    return b"".join(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _frame(SETTINGS, 0, 0, b""),
            _frame(HEADERS, END_HEADERS, 1, block),
            _frame(DATA, 0, 1, body),
        ]
    )


def http2_frames(sock: socket.socket) -> Iterator[Tuple[int, int, int]]:
    """Yields ``(type, flags, stream)`` of each frame that comes in, until the connection ends."""
    with sock.makefile("rb") as incoming:
        while len(header := incoming.read(9)) == 9:
            length = int.from_bytes(header[:3], "big")
            incoming.read(length)
            yield header[3], header[4], int.from_bytes(header[5:], "big")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
