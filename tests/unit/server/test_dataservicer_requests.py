"""What becomes of the requests of a data stream: order, chunks, repetitions, results, nonsense."""

from __future__ import annotations

import threading
from typing import Any, Iterator

import grpc
import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.cache import INIT_REQ_ID
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.server.datapath import DataStream
from ray.util.client.server.inbox import Closed, Inbox, Ready
from ray.util.client.server.sessions import Session
from ray.util.client.session.chunks import ChunkAssembly
from tests.unit.server.dataservicer_support import (
    TOO_LONG,
    Bench,
    FakeServicer,
    Stream,
    object_from,
    running_bench,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield from running_bench()


def put_chunk(stream: Stream, req_id: int, index: int, count: int, data: bytes) -> None:
    chunk = protocol.PutRequest(data=data, chunk_id=index, total_chunks=count)
    stream.send(req_id, put=chunk)


def ask_async(stream: Stream, req_id: int, id: bytes = b"x") -> None:
    stream.send(req_id, get=protocol.GetRequest(ids=[id], asynchronous=True))


def reconnect(bench: Bench, stream: Stream) -> Stream:
    stream.cancel()
    return bench.connect(reconnecting=True)


# Once, and in order


def test_a_repeated_task_is_run_once(bench: Bench) -> None:
    stream = bench.begin()
    ticket = stream.task(2)
    again = reconnect(bench, stream)
    assert again.task(2) == ticket
    assert len(bench.work.tasks) == 1


def test_a_task_repeated_while_it_is_run_gets_its_answer(bench: Bench) -> None:
    entered, leave = threading.Event(), threading.Event()

    def gate() -> None:
        entered.set()
        assert leave.wait(TOO_LONG)

    bench.work.task_gate = gate
    stream = bench.begin()
    stream.send(2, task=protocol.ClientTask(data=b"t", total_chunks=1))
    assert entered.wait(TOO_LONG)
    again = reconnect(bench, stream)
    again.send(2, task=protocol.ClientTask(data=b"t", total_chunks=1))
    # Whoever comes back is served as soon as the request that was under way is done.
    again.call.initial_metadata()
    leave.set()
    assert again.receive().task_ticket.return_ids == [b"task-1"]
    assert len(bench.work.tasks) == 1


def test_without_grace_nothing_is_remembered(bench: Bench) -> None:
    stream = bench.begin(grace=0)
    stream.task(2)
    stream.task(2)
    assert len(bench.work.tasks) == 2


def test_an_acknowledged_request_can_not_be_repeated(bench: Bench) -> None:
    stream = bench.begin()
    stream.task(2)
    stream.send(acknowledge=protocol.AcknowledgeRequest(req_id=2))
    stream.send(2, task=protocol.ClientTask(data=b"t", total_chunks=1))
    assert stream.failure().code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len(bench.work.tasks) == 1


def test_puts_that_a_proxier_restores_are_all_done(bench: Bench) -> None:
    stream = bench.begin()
    for name in (b"old", b"older"):
        put = protocol.PutRequest(data=b"f", total_chunks=1, register_as=name)
        assert stream.ask(INIT_REQ_ID, put=put).put.id == name
    assert stream.task(2).return_ids == [b"task-1"]


def test_a_repeated_put_under_a_name_is_done_once(bench: Bench) -> None:
    # What it has put may have been released meanwhile, and must not come back.
    stream = bench.begin()
    put = protocol.PutRequest(data=b"v", total_chunks=1, register_as=b"name")
    assert stream.ask(2, put=put).put.id == b"name"
    again = reconnect(bench, stream)
    assert again.ask(2, put=put).put.id == b"name"
    assert bench.work.puts == [b"v"]


def test_requests_are_done_in_order(bench: Bench) -> None:
    stream = bench.begin()
    for n in range(2, 50):
        stream.send(n, task=protocol.ClientTask(data=b"%d" % n, total_chunks=1))
    assert [stream.receive().req_id for _ in range(2, 50)] == list(range(2, 50))
    assert bench.work.tasks == [b"%d" % n for n in range(2, 50)]


# Chunks


def test_a_put_in_chunks_is_put_together(bench: Bench) -> None:
    stream = bench.begin()
    put_chunk(stream, 2, 0, 2, b"ab")
    put_chunk(stream, 2, 1, 2, b"cd")
    assert stream.receive().put.valid
    assert bench.work.puts == [b"abcd"]


def test_half_a_put_is_forgotten_with_its_stream(bench: Bench) -> None:
    stream = bench.begin()
    put_chunk(stream, 2, 0, 2, b"old")
    stream.sync()
    again = reconnect(bench, stream)
    put_chunk(again, 2, 0, 2, b"ab")
    put_chunk(again, 2, 1, 2, b"cd")
    assert again.receive().put.valid
    assert bench.work.puts == [b"abcd"]


def test_a_request_that_there_is_no_memory_for_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ChunkAssembly.add

    def short_of_memory(assembly: ChunkAssembly, req_id: int, index: int, *rest: Any) -> Any:
        if req_id in (2, 3) and index == 1:
            raise MemoryError
        return add(assembly, req_id, index, *rest)

    monkeypatch.setattr(ChunkAssembly, "add", short_of_memory)
    stream = bench.begin()
    for index in range(3):
        put_chunk(stream, 2, index, 3, b"x")
    put = stream.receive().put
    # The last piece asks for the answer, as after a reconnect.
    assert stream.receive().put == put
    for index in range(2):
        chunk = protocol.ClientTask(data=b"x", chunk_id=index, total_chunks=2)
        stream.send(3, task=chunk)
    ticket = stream.receive().task_ticket
    for answer in (put, ticket):
        error = cloudpickle.loads(answer.error)
        assert not answer.valid and isinstance(error, MemoryError) and "memory" in str(error)
    assert stream.task(4).valid
    assert bench.work.puts == [] and len(bench.work.tasks) == 1


def test_a_put_repeated_in_chunks_is_answered_without_doing_it(bench: Bench) -> None:
    stream = bench.begin()
    put_chunk(stream, 2, 0, 2, b"ab")
    put_chunk(stream, 2, 1, 2, b"cd")
    stream.receive()
    again = reconnect(bench, stream)
    put_chunk(again, 2, 0, 2, b"ab")
    put_chunk(again, 2, 1, 2, b"cd")
    assert again.receive().put.id == b"new"
    put_chunk(again, 3, 0, 2, b"ef")
    put_chunk(again, 3, 1, 2, b"gh")
    assert again.receive().req_id == 3
    assert bench.work.puts == [b"abcd", b"efgh"]


# Results


def test_a_result_is_sent_when_it_is_ready(bench: Bench) -> None:
    stream = bench.begin()
    ask_async(stream, 2)
    stream.sync()
    bench.work.waiting.get(timeout=TOO_LONG)({"answer": 42})
    assert object_from(stream, 2) == {"answer": 42}


def test_a_large_result_does_not_stall_requests() -> None:
    stream = DataStream(FakeServicer(), None, lambda: None)
    session = Session("a", 1)
    session.initialised = True
    session.begin(stream)
    stream.inbox.put_result(Ready(1, bytes(6 * OBJECT_TRANSFER_CHUNK_SIZE), 0))
    for n in range(2, 5):
        task = protocol.ClientTask(data=b"t", total_chunks=1)
        stream.inbox.put_request(protocol.DataRequest(req_id=n, task=task), 1)
    responses = stream.responses(session)
    kinds = [next(responses).WhichOneof("type") for _ in range(10)]
    assert kinds == ["get", "task_ticket"] * 3 + ["get"] * 4


def test_a_transfer_goes_on_at_the_chunk_asked_for(bench: Bench) -> None:
    stream = bench.begin()
    wish = protocol.GetRequest(ids=[b"x"], asynchronous=True, start_chunk_id=1)
    stream.send(2, get=wish)
    bench.work.waiting.get(timeout=TOO_LONG)(bytes(OBJECT_TRANSFER_CHUNK_SIZE))
    answer = stream.receive().get
    assert (answer.chunk_id, answer.total_chunks) == (1, 2)


def test_a_result_that_can_not_be_pickled_fails_its_get_only(bench: Bench) -> None:
    stream = bench.begin()
    ask_async(stream, 2)
    bench.work.waiting.get(timeout=TOO_LONG)(threading.Lock())
    answer = stream.receive().get
    assert not answer.valid
    assert isinstance(cloudpickle.loads(answer.error), TypeError)
    stream.sync()


def test_a_get_of_an_unknown_object_fails_at_once(bench: Bench) -> None:
    stream = bench.begin()
    ask_async(stream, 2, b"unknown")
    answer = stream.receive().get
    assert isinstance(cloudpickle.loads(answer.error), ValueError)


def test_an_async_get_of_two_objects_is_answered_with_an_error(bench: Bench) -> None:
    stream = bench.begin()
    answer = stream.ask(2, get=protocol.GetRequest(ids=[b"x", b"y"], asynchronous=True)).get
    assert "exactly 1" in str(cloudpickle.loads(answer.error))


def test_a_result_for_a_stream_that_is_gone_is_dropped(bench: Bench) -> None:
    stream = bench.begin()
    ask_async(stream, 2)
    deliver = bench.work.waiting.get(timeout=TOO_LONG)
    again = reconnect(bench, stream)
    again.sync()
    deliver("too late")
    ask_async(again, 2)
    bench.work.waiting.get(timeout=TOO_LONG)("in time")
    assert object_from(again, 2) == "in time"


def test_releases_are_answered_one_by_one(bench: Bench) -> None:
    stream = bench.begin()
    answer = stream.ask(2, release=protocol.ReleaseRequest(ids=[b"held", b"other"]))
    assert list(answer.release.ok) == [True, False]


def test_what_the_stream_before_may_have_lost_is_told_once(bench: Bench) -> None:
    stream = bench.begin()
    (session,) = bench.servicer._sessions._by_client.values()
    (handouts,) = session.streams.values()
    handouts.hand([b"lost"])
    again = reconnect(bench, stream)
    question = {"connection_info": protocol.ConnectionInfoRequest()}
    first, second = (again.ask(0, **question).connection_info for _ in range(2))
    assert list(first.doubtful) == [b"lost"] and first.handing not in (0, handouts.number)
    assert (list(second.doubtful), second.handing) == ([], 0)


def test_a_failed_kill_says_so(bench: Bench) -> None:
    stream = bench.begin()
    kill = protocol.TerminateRequest(actor=protocol.TerminateRequest.ActorTerminate(id=b"x"))
    assert stream.ask(2, terminate=kill).terminate.ok is False
    stream.sync()


# Nonsense


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"put": protocol.PutRequest(data=b"x", chunk_id=1, total_chunks=2)},
        {"task": protocol.ClientTask(data=b"x", chunk_id=-1, total_chunks=2)},
    ],
    ids=["no type", "skipped chunk", "negative chunk"],
)
def test_nonsense_ends_its_own_session_only(bench: Bench, request_: Any) -> None:
    other = bench.begin("other")
    stream = bench.begin("a")
    stream.send(2, **request_)
    error = stream.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details()
    assert bench.work.released.get(timeout=TOO_LONG) == "a"
    other.sync()
    assert other.task(2).valid


def test_an_impossible_request_id_is_refused(bench: Bench) -> None:
    stream = bench.begin()
    stream.send(-7, task=protocol.ClientTask(data=b"x", total_chunks=1))
    assert stream.failure().code() is grpc.StatusCode.FAILED_PRECONDITION


def test_work_before_init_is_refused(bench: Bench) -> None:
    stream = bench.connect()
    stream.send(1, task=protocol.ClientTask(data=b"x", total_chunks=1))
    error = stream.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "init" in error.details()
    assert bench.work.tasks == []


@pytest.mark.parametrize("error", [RuntimeError("a fault"), SystemExit("a fault")])
def test_a_fault_in_the_server_is_told_to_the_client_and_its_repeat(
    bench: Bench, error: BaseException
) -> None:
    def fault() -> None:
        raise error

    bench.work.task_gate = fault
    stream = bench.begin()
    stream.send(2, task=protocol.ClientTask(data=b"x", total_chunks=1))
    error = stream.failure()
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "a fault" in error.details()


# The inbox


def test_reading_waits_while_there_is_too_much_to_do() -> None:
    inbox = Inbox(max_bytes=10)
    assert inbox.put_request("first", 10)
    second = threading.Thread(target=inbox.put_request, args=("second", 1))
    second.start()
    # A result goes past the request that waits for room.
    inbox.put_result(Ready(1, "value", 0))
    assert inbox.take(wait=True) == "first"
    assert inbox.take(wait=True) == Ready(1, "value", 0)
    assert inbox.take(wait=True) == "second"
    second.join(TOO_LONG)
    assert not second.is_alive()


def test_closing_frees_who_waits_for_room() -> None:
    inbox = Inbox(max_bytes=1)
    assert inbox.put_request("first", 1)
    outcome = []
    waiting = threading.Thread(target=lambda: outcome.append(inbox.put_request("second", 1)))
    waiting.start()
    inbox.close()
    waiting.join(TOO_LONG)
    assert outcome == [False]
    assert inbox.take(wait=True) == Closed()


def test_what_came_before_the_end_is_taken_first() -> None:
    inbox = Inbox()
    inbox.put_request("last", 1)
    inbox.end()
    assert inbox.take(wait=False) == "last"
    assert inbox.take(wait=False) == Closed()


def test_being_superseded_goes_before_all_else() -> None:
    inbox = Inbox()
    inbox.put_request("request", 1)
    inbox.close(superseded=True)
    inbox.close()
    assert inbox.take(wait=True) == Closed(superseded=True)
    assert not inbox.put_request("more", 1)


# Many requests in one message


def batch_of(*requests: Any) -> Any:
    return protocol.RequestBatch(requests=requests)


def task(req_id: int) -> Any:
    body = protocol.ClientTask(data=b"t", total_chunks=1)
    return protocol.DataRequest(req_id=req_id, task=body)


def responses(stream: Stream, count: int) -> Any:
    """The next ``count`` responses, and the most that came in one message."""
    found, most = [], 0
    while len(found) < count:
        message = stream.receive()
        together = list(message.batch.responses) or [message]
        most = max(most, len(together))
        found.extend(together)
    return found, most


def test_a_batch_is_carried_out_in_order_and_answered_one_by_one(bench: Bench) -> None:
    stream = bench.begin()
    stream.send(9, batch=batch_of(*(task(n) for n in range(2, 10))))
    found, most = responses(stream, 8)
    assert [answer.req_id for answer in found] == list(range(2, 10))
    assert [answer.task_ticket.return_ids[0] for answer in found][::7] == [b"task-1", b"task-8"]
    assert most == 1, "this client did not say that it takes more"


def test_a_client_that_takes_batches_gets_them(bench: Bench) -> None:
    stream = bench.connect()
    request = protocol.InitRequest(reconnect_grace_period=9, capabilities=["batches"])
    assert stream.ask(1, init=request).init.ok
    stream.send(9, batch=batch_of(*(task(n) for n in range(2, 10))))
    found, most = responses(stream, 8)
    assert [answer.req_id for answer in found] == list(range(2, 10)) and most > 1


def test_a_repeated_batch_is_done_once(bench: Bench) -> None:
    stream = bench.begin()
    stream.send(3, batch=batch_of(task(2), task(3)))
    before, _ = responses(stream, 2)
    again = reconnect(bench, stream)
    again.send(4, batch=batch_of(task(2), task(3), task(4)))
    after, _ = responses(again, 3)
    assert after[:2] == before and len(bench.work.tasks) == 3


@pytest.mark.parametrize(
    "request_in_it",
    [
        protocol.DataRequest(init=protocol.InitRequest()),
        protocol.DataRequest(connection_info=protocol.ConnectionInfoRequest()),
        protocol.DataRequest(connection_cleanup=protocol.ConnectionCleanupRequest()),
        protocol.DataRequest(batch=protocol.RequestBatch()),
        protocol.DataRequest(),
    ],
    ids=lambda request: request.WhichOneof("type"),
)
def test_what_may_not_come_in_a_batch(bench: Bench, request_in_it: Any) -> None:
    stream = bench.begin()
    stream.send(3, batch=batch_of(task(2), request_in_it))
    assert stream.failure().code() is grpc.StatusCode.INVALID_ARGUMENT
