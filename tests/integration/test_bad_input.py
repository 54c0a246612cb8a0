"""Nonsense sent to a live proxier gets a clear error; another session does not notice."""

from __future__ import annotations

import os
import pickle
from typing import Dict, Iterator, Optional

import grpc
import pytest

from ray.util.client.protocol import AcknowledgeRequest, ClientTask, DataRequest, PutRequest
from tests.conftest import FORK_PYTHON, GetCluster, MakeSession
from tests.support import raw
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.processes import wait_gone
from tests.support.raw import RawClient
from tests.support.session import Session, connect

Code = grpc.StatusCode
REFUSED = {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}
SECRET = "5ec" * 10 + "0a"


@pytest.fixture(scope="module")
def witness(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, no_leaks: None
) -> Iterator[Session]:
    """A session that must not notice anything."""
    client = Client(FORK_PYTHON, tmp_path_factory.mktemp("witness"))
    session = connect(client, cluster, cluster.address)
    client.run("ref = ray.put('kept')")
    yield session
    client.close()


@pytest.fixture(autouse=True)
def undisturbed(witness: Session) -> Iterator[None]:
    """Checks after each test that the witness's session is what it was."""
    proxier = witness.cluster.proxier.pid
    yield
    assert witness.cluster.proxier.is_running() and witness.cluster.proxier.pid == proxier
    assert witness.client.run("ray.get([ref, ray.put(1)])") == ["kept", 1]
    assert witness.server in witness.cluster.servers()


@pytest.fixture
def stranger(cluster: Cluster) -> Iterator[RawClient]:
    """A client that has no session."""
    with RawClient(cluster.client_port, SECRET) as client:
        yield client


class Guest(RawClient):
    """A client with a session, which ends soon after its stream is gone.

    Attributes:
        stream: the data stream on which the session began.
        server: the session's specific server.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.client_port, SECRET)
        known = cluster.servers()
        self.stream = self.begin(grace_s=1)
        self.server = cluster.next_server(*known)


@pytest.fixture
def guest(cluster: Cluster) -> Iterator[Guest]:
    with Guest(cluster) as client:
        yield client


def _put(number: int, data: bytes = b"", **chunk: int) -> DataRequest:
    return DataRequest(req_id=number, put=PutRequest(data=data, **chunk))


@pytest.mark.parametrize(
    "sent",
    [
        os.urandom(4096),
        b"\0" * 4096,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 40,
        b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(512),
    ],
    ids=["random", "zeroes", "half-tls-hello", "http1", "broken-http2"],
)
def test_what_is_not_grpc_is_hung_up_on(cluster: Cluster, sent: bytes) -> None:
    with raw.connect(cluster.client_port) as sock:
        sock.sendall(sent)
        raw.read_to_end(sock)


def test_half_a_tls_hello_at_a_tls_head_harms_nobody(
    make_session: MakeSession,
    clusters: GetCluster,
    fork_python: str,
    tls_environment: Dict[str, str],
) -> None:
    head = clusters(fork_python, tls_environment)
    session = make_session(cluster=head, environment=tls_environment)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 40
    stalled = [raw.connect(head.client_port) for _ in range(20)]
    for sock in stalled:
        sock.sendall(hello)
    assert session.client.run("ray.get(ray.put(1))") == 1
    session.lose_server()
    assert session.client.run("ray.get(ray.put(2))") == 2
    for sock in stalled:
        sock.close()
    with raw.connect(head.client_port) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        raw.read_to_end(sock)
    assert session.client.run("ray.get(ray.put(3))") == 3


def test_connections_that_say_nothing_harm_nobody(cluster: Cluster, witness: Session) -> None:
    silent = [raw.connect(cluster.client_port) for _ in range(50)]
    assert witness.client.run("ray.get(ray.put(1))") == 1
    for sock in silent:
        sock.close()


def test_an_oversize_message_is_refused_before_it_is_sent(cluster: Cluster) -> None:
    length_of_4_gib = b"\0\xff\xff\xff\xff"
    with raw.connect(cluster.client_port) as sock:
        sock.sendall(raw.http2_call("/ray.rpc.RayletDriver/KVGet", length_of_4_gib + b"x" * 100))
        ended = any(
            kind in (raw.RESET, raw.GOAWAY)
            or (kind == raw.HEADERS and flags & raw.END_STREAM and stream == 1)
            for kind, flags, stream in raw.http2_frames(sock)
        )
    assert ended


@pytest.mark.parametrize("path", ["/ray.rpc.RayletDriver/NoSuchMethod", "/no.such.Service/Do"])
def test_an_unknown_method_is_unimplemented(stranger: RawClient, path: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stranger.call(path, b"", stranger.metadata())
    assert raised.value.code() == Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    "client_id, codes",
    [
        ("f" * 32, {Code.NOT_FOUND}),
        ("", {Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT}),
        (None, {Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT}),
        ("x" * 4000, {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT}),
    ],
    ids=["unknown", "empty", "none", "long"],
)
@pytest.mark.parametrize("method", ["Schedule", "Terminate", "WaitObject"])
def test_unary_calls_need_a_known_client_id(
    stranger: RawClient, client_id: Optional[str], codes: set, method: str
) -> None:
    metadata = [] if client_id is None else [("client_id", client_id)]
    with pytest.raises(grpc.RpcError) as raised:
        stranger.call(f"/ray.rpc.RayletDriver/{method}", b"", metadata)
    assert raised.value.code() in codes
    assert raised.value.details()


def test_a_data_stream_needs_a_client_id(cluster: Cluster) -> None:
    with RawClient(cluster.client_port, client_id="") as nobody:
        stream = nobody.open()
        stream.send(raw.init_request())
        assert stream.error().code() in REFUSED


@pytest.mark.parametrize(
    "first",
    [
        _put(1, b"x"),
        DataRequest(req_id=1, acknowledge=AcknowledgeRequest(req_id=1)),
        DataRequest(req_id=1),
        b"",
        b"\xff" * 64,
        b"\x08\x01\x32\xff\xff\xff\xff\x0f",
    ],
    ids=["put", "acknowledge", "no-type", "empty", "garbage", "length-beyond-end"],
)
def test_the_first_message_has_to_be_an_init(stranger: RawClient, first: object) -> None:
    stream = stranger.open()
    stream.send(first)
    error = stream.error()
    assert error.code() in REFUSED
    assert error.details()


def test_a_stream_that_is_closed_before_its_first_message_leaves_no_session(
    stranger: RawClient, witness: Session
) -> None:
    stream = stranger.open()
    stream.half_close()
    with pytest.raises((grpc.RpcError, StopIteration)):
        stream.receive()
    assert witness.cluster.servers() == [witness.server]


class _Touch:
    """Makes a file when unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple:
        return open, (self._path, "w")


@pytest.mark.parametrize("kind", ["hostile", "garbage"])
def test_the_proxier_does_not_unpickle_what_it_is_sent(
    stranger: RawClient, tmp_path, kind: str
) -> None:
    path = tmp_path / "made"
    job_config = pickle.dumps(_Touch(str(path))) if kind == "hostile" else b"\x80\x04garbage"
    stream = stranger.open()
    stream.send(raw.init_request(job_config=job_config))
    try:
        answer = stream.receive()
        assert not answer.init.ok and answer.init.msg
    except grpc.RpcError as error:
        assert error.code() in REFUSED and error.details()
    assert not path.exists()


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\x08\x02\x1a\xff\xff\xff\xff\x0f"])
def test_garbage_after_the_init_ends_the_stream_with_an_error(guest: Guest, garbage: bytes) -> None:
    guest.stream.send(garbage)
    error = guest.stream.error()
    assert error.code() in REFUSED
    assert error.details()


@pytest.mark.parametrize(
    "requests",
    [
        [_put(2, b"x", chunk_id=3, total_chunks=5)],
        [_put(2, b"x", chunk_id=0, total_chunks=5), _put(2, b"x", chunk_id=2, total_chunks=5)],
        [_put(2, b"x", chunk_id=7, total_chunks=5)],
        [_put(2, b"x", chunk_id=-1, total_chunks=5)],
        [DataRequest(req_id=2, task=ClientTask(data=b"x", chunk_id=1, total_chunks=2))],
    ],
    ids=["no-first", "hole", "beyond", "negative", "task"],
)
def test_chunks_out_of_order_end_the_stream_with_an_error(guest: Guest, requests: list) -> None:
    guest.stream.send(*requests)
    error = guest.stream.error()
    assert error.code() in REFUSED
    assert "chunk" in error.details()


def test_the_session_ends_with_its_protocol_broken_and_says_so(guest: Guest) -> None:
    guest.stream.send(_put(2, b"x", chunk_id=3, total_chunks=5))
    guest.stream.error()
    wait_gone(guest.server)
    error = guest.open(reconnecting=True).error()
    assert error.code() == Code.NOT_FOUND
    assert "chunk" in error.details()


def test_a_repeated_request_is_answered_again_and_done_once(guest: Guest) -> None:
    first = guest.stream.ask(_put(2, pickle.dumps(1)))
    again = guest.stream.ask(_put(2, pickle.dumps(1)))
    assert first.put.valid
    assert again.put.id == first.put.id
    assert guest.stream.ask(_put(3, pickle.dumps(1))).put.id != first.put.id


def test_skipped_request_ids_are_no_matter(guest: Guest) -> None:
    for number in (900, 5000, 2**30):
        answer = guest.stream.ask(_put(number, pickle.dumps(1)))
        assert (answer.req_id, answer.put.valid) == (number, True)


def test_a_request_that_was_acknowledged_is_not_answered_again(guest: Guest) -> None:
    assert guest.stream.ask(_put(2, pickle.dumps(1))).put.valid
    guest.stream.send(DataRequest(req_id=0, acknowledge=AcknowledgeRequest(req_id=2)))
    guest.stream.send(_put(2, pickle.dumps(1)))
    error = guest.stream.error()
    assert error.code() in REFUSED
    assert error.details()


def test_an_unknown_session_cannot_be_reconnected(stranger: RawClient) -> None:
    error = stranger.open(reconnecting=True).error()
    assert error.code() == Code.NOT_FOUND
    assert "Attempted to reconnect a session that has already been cleaned up" in error.details()


def test_an_expired_session_cannot_be_reconnected(guest: Guest) -> None:
    guest.stream.cancel()
    wait_gone(guest.server)
    error = guest.open(reconnecting=True).error()
    assert error.code() == Code.NOT_FOUND
    assert "Attempted to reconnect a session that has already been cleaned up" in error.details()
    assert "grace" in error.details()


@pytest.mark.parametrize("secret", ["0" * 32, "", None])
def test_a_session_is_not_handed_to_who_lacks_its_secret(
    guest: Guest, cluster: Cluster, secret: Optional[str]
) -> None:
    with RawClient(cluster.client_port, secret, guest.client_id) as thief:
        assert thief.open(reconnecting=True).error().code() == Code.PERMISSION_DENIED
        anew = thief.open()
        anew.send(raw.init_request())
        assert anew.error().code() in {Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION}
        with pytest.raises(grpc.RpcError) as raised:
            thief.call("/ray.rpc.RayletDriver/Schedule", b"", thief.metadata())
        assert raised.value.code() == Code.PERMISSION_DENIED
    assert guest.stream.ask(_put(2, pickle.dumps(1))).put.valid, "the owner should not notice"


def test_a_second_init_of_a_living_session_is_refused(guest: Guest) -> None:
    second = guest.open()
    second.send(raw.init_request())
    assert second.error().code() == Code.FAILED_PRECONDITION
    assert guest.stream.ask(_put(2, pickle.dumps(1))).put.valid, "the first should not notice"


def test_a_call_for_a_dead_incarnation_is_refused(guest: Guest) -> None:
    assert guest.stream.incarnation() == "1"
    guest.server.kill()
    assert guest.stream.error().code() == Code.UNAVAILABLE
    # A stream may come back with the old number, since it is on a stream that the new one is told.
    fresh = guest.open(("ray-client-incarnation", "1"), reconnecting=True)
    assert fresh.incarnation() == "2"
    with pytest.raises(grpc.RpcError) as raised:
        metadata = guest.metadata(("ray-client-incarnation", "1"))
        guest.call("/ray.rpc.RayletDriver/WaitObject", b"", metadata)
    assert raised.value.code() == Code.FAILED_PRECONDITION
    assert "server" in raised.value.details()


def test_a_later_stream_takes_the_place_of_an_earlier_one(guest: Guest) -> None:
    later = guest.open(reconnecting=True)
    assert later.ask(_put(2, pickle.dumps(1))).put.valid
    assert guest.stream.error().code() in {Code.UNAVAILABLE, Code.CANCELLED, Code.ABORTED}


def test_reconnects_at_the_same_time_make_one_server(guest: Guest, witness: Session) -> None:
    others = [server for server in witness.cluster.servers() if server != guest.server]
    guest.server.kill()
    guest.stream.error()
    streams = [guest.open(reconnecting=True) for _ in range(8)]
    told = [stream.incarnation() for stream in streams]
    assert "2" in told and set(told) <= {"2", None}
    assert len([one for one in witness.cluster.servers() if one not in others]) == 1
