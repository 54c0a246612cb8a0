"""The client's log stream: what it shows, and what it tells of that."""

from __future__ import annotations

import io
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, List, Tuple

import grpc
import pytest

from ray.util.client import logsclient, protocol
from ray.util.client.logsclient import LogstreamClient

TOO_LONG_S = 30.0


class Cluster:
    """Answers log streams as the test says: ``streams`` has one for each call of the client.

    A stream is a queue, which holds what to send, and None to break.
    """

    def __init__(self) -> None:
        self.streams: queue.Queue[queue.Queue] = queue.Queue()
        self.requests: queue.Queue[Any] = queue.Queue()

    def Logstream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.requests.put("a stream")
        reader.submit(self._note, requests)
        stream = _next(self.streams, context)
        while (data := stream and _next(stream, context)) is not None:
            yield data
        context.abort(grpc.StatusCode.UNAVAILABLE, "the link broke")

    def _note(self, requests: Iterator[Any]) -> None:
        try:
            for request in requests:
                self.requests.put(request)
        except grpc.RpcError:
            return

    def answer(self, *data: Any) -> queue.Queue:
        """The next stream sends ``data``, and then what is put into the queue."""
        stream: queue.Queue = queue.Queue()
        for each in data:
            stream.put(each)
        self.streams.put(stream)
        return stream

    def asked(self) -> Any:
        """The first request of the client's next stream."""
        while self.requests.get(timeout=TOO_LONG_S) != "a stream":
            pass
        return self.told()

    def told(self) -> Any:
        """The client's next request."""
        return self.requests.get(timeout=TOO_LONG_S)


def _next(waiting: queue.Queue, context: Any) -> Any:
    """What comes out of the queue; None if the client ends the call first."""
    while context.is_active():
        try:
            return waiting.get(timeout=0.02)
        except queue.Empty:
            continue
    return None


reader = ThreadPoolExecutor(20)


class Shown(LogstreamClient):
    """Keeps what it shows; each piece is there once it was shown."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.pieces: queue.Queue[Tuple[int, str]] = queue.Queue()
        super().__init__(channel, lambda: [], lambda timeout: None)

    def log(self, level: int, msg: str) -> None:
        self.pieces.put((level, msg))

    stdstream = log

    def next(self, count: int) -> List[Tuple[int, str]]:
        return [self.pieces.get(timeout=TOO_LONG_S) for _ in range(count)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def make_client(cluster: Cluster) -> Iterator[Callable[[], Shown]]:
    server = grpc.server(ThreadPoolExecutor(20))
    server.add_generic_rpc_handlers((protocol.handler(protocol.LOG_STREAMER, cluster),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made: List[Shown] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def make() -> Shown:
            made.append(Shown(channel))
            made[-1].set_logstream_level(20)
            return made[-1]

        yield make
        for client in made:
            client.close()
    server.stop(0).wait(TOO_LONG_S)


def line(seq: int, msg: str, level: int = -1) -> Any:
    return protocol.LogData(msg=msg, level=level, seq=seq)


# A stream is broken only after what it sent was shown: gRPC may lose what it has not handed over.


def test_a_new_stream_tells_what_was_shown(cluster: Cluster, make_client: Callable) -> None:
    stream = cluster.answer(line(7, "a\n"), line(9, "b\n", level=-2))
    cluster.answer(line(10, "c\n"))
    client = make_client()
    first = cluster.asked()
    shown = client.next(2)
    stream.put(None)
    second = cluster.asked()
    assert (first.HasField("shown"), first.shown, second.shown) == (True, 0, 9)
    assert (second.enabled, second.loglevel) == (True, 20)
    assert shown + client.next(1) == [(-1, "a\n"), (-2, "b\n"), (-1, "c\n")]


def test_what_has_no_number_changes_nothing(cluster: Cluster, make_client: Callable) -> None:
    stream = cluster.answer(line(7, "a\n"), line(0, "b\n"), line(0, "a record", level=30))
    client = make_client()
    cluster.asked()
    assert client.next(3)[2] == (30, "a record")
    stream.put(None)
    assert cluster.asked().shown == 7


def test_a_notice_counts_as_shown(cluster: Cluster, make_client: Callable) -> None:
    stream = cluster.answer(line(100, "93 lines were dropped", level=30))
    client = make_client()
    cluster.asked()
    client.next(1)
    stream.put(None)
    assert cluster.asked().shown == 100


def test_much_that_was_shown_is_told_in_between(
    cluster: Cluster, make_client: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logsclient, "_TELL_EVERY_CHARS", 4)
    cluster.answer(line(1, "a\n"), line(2, "b\n"), line(3, "c\n"), line(4, "d\n"))
    make_client()
    assert cluster.asked().shown == 0
    assert [cluster.told().shown, cluster.told().shown] == [2, 4]


def test_the_sessions_jobs_are_told_to_the_next_stream(
    cluster: Cluster, make_client: Callable
) -> None:
    jobs = [protocol.WorkerOutput(job=job, node_ip="10.0.0.1") for job in ("1", "2")]
    tell = [protocol.LogData(level=-1, outputs=jobs[:n]) for n in (1, 2)]
    stream = cluster.answer(*tell, line(1, "a\n"))
    client = make_client()
    assert list(cluster.asked().outputs) == []
    assert client.next(1) == [(-1, "a\n")]
    stream.put(None)
    assert list(cluster.asked().outputs) == jobs


def test_new_settings_tell_what_was_shown_too(cluster: Cluster, make_client: Callable) -> None:
    cluster.answer(line(5, "a\n"), line(6, "b\n"))
    client = make_client()
    cluster.asked()
    client.next(2)
    client.disable_logs()
    told = cluster.told()
    assert not told.enabled and told.shown in (5, 6)


def test_what_a_terminal_can_not_show_is_told_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(logsclient.sys, "stdout", terminal)
    LogstreamClient.stdstream(None, -1, "caf\u00e9\n")
    terminal.seek(0)
    assert terminal.read() == "caf\\xe9\n"
