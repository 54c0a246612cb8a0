"""Who gets a session, how long it is kept, and what ends it."""

from __future__ import annotations

import itertools
import math
from typing import Iterator

import grpc
import pytest

import ray.core.generated.ray_client_pb2 as stock
from ray.util.client import protocol
from ray.util.client.server import dataservicer
from ray.util.client.server.sessions import (
    TABLE,
    Input,
    ServerFull,
    Session,
    SessionGone,
    Sessions,
    State,
)
from ray.util.client.session import wire
from ray.util.client.session.errors import IllegalTransition
from tests.unit.server.dataservicer_support import TOO_LONG, Bench, running_bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield from running_bench()


# The core


def attach(sessions: Sessions, stream: str, reconnecting: bool = False) -> Session:
    return sessions.attach("a", stream, reconnecting=reconnecting, incarnation=1).session


@pytest.mark.parametrize("state, fed", list(itertools.product(State, Input)))
def test_what_the_table_lacks_is_an_error(state: State, fed: Input) -> None:
    machine = Session("a", 1).machine
    machine._state = state
    if (state, fed) in TABLE:
        assert machine.feed(fed) is TABLE[state, fed]
    else:
        with pytest.raises(IllegalTransition):
            machine.feed(fed)


def test_nothing_leads_out_of_the_end() -> None:
    assert not [fed for state, fed in TABLE if state is State.ENDED]


def test_a_session_is_over_when_its_grace_period_is() -> None:
    sessions = Sessions(2)
    session = attach(sessions, "s1")
    session.grace_s = 30.0
    assert sessions.next_expiry() == math.inf
    sessions.detach(session, "s1", now=100.0)
    assert sessions.next_expiry() == 130.0
    assert sessions.take_over(129.9) == []
    assert sessions.take_over(130.0) == [session]
    assert len(sessions) == 0


def test_coming_back_in_time_keeps_the_session() -> None:
    sessions = Sessions(2)
    session = attach(sessions, "s1")
    session.grace_s = 30.0
    sessions.detach(session, "s1", now=100.0)
    assert attach(sessions, "s2", reconnecting=True) is session
    assert sessions.take_over(1000.0) == []


def test_grace_begins_when_the_last_stream_has_left() -> None:
    sessions = Sessions(2)
    session = attach(sessions, "s1")
    attached = sessions.attach("a", "s2", reconnecting=True, incarnation=1)
    assert attached == (session, "s1")
    sessions.detach(session, "s2", now=1.0)
    assert sessions.take_over(math.inf) == []
    sessions.detach(session, "s1", now=2.0)
    assert sessions.take_over(math.inf) == [session]


def test_a_session_that_asked_to_end_can_not_be_come_back_to() -> None:
    sessions = Sessions(2)
    session = attach(sessions, "s1")
    session.grace_s, session.asked_to_end = 30.0, True
    sessions.detach(session, "s1", now=5.0)
    with pytest.raises(SessionGone):
        attach(sessions, "s2", reconnecting=True)
    assert sessions.take_over(5.0) == [session]


def test_a_full_server_still_takes_its_own_clients_back() -> None:
    sessions = Sessions(1)
    session = attach(sessions, "s1")
    session.grace_s = 30.0
    sessions.detach(session, "s1", now=0.0)
    with pytest.raises(ServerFull):
        sessions.attach("b", "s2", reconnecting=False, incarnation=1)
    assert attach(sessions, "s3", reconnecting=True) is session


# Behind gRPC


@pytest.mark.parametrize("client_id", [None, ""])
def test_a_stream_without_client_id_is_refused(bench: Bench, client_id: str) -> None:
    error = bench.connect(client_id).failure()
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "client_id" in error.details()


def test_an_unknown_session_can_not_be_reconnected(bench: Bench) -> None:
    error = bench.connect(reconnecting=True).failure()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "already been cleaned up" in error.details()
    assert wire.reason_of(error.trailing_metadata()) == wire.REASON_SESSION_GONE


@pytest.mark.parametrize("told, number", [(None, 1), (3, 3)])
def test_the_incarnation_is_told_before_any_response(bench: Bench, told: int, number: int) -> None:
    stream = bench.connect(incarnation=told)
    assert wire.incarnation_of(stream.call.initial_metadata()) == number
    assert bench.work.held.incarnations == [number]


def test_clients_beyond_the_limit_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataservicer, "CLIENT_SERVER_MAX_THREADS", 2.0)
    for full in running_bench():
        first = full.begin("a")
        error = full.connect("b").failure()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.sync()


def test_init_is_done_once_however_often_it_is_sent(bench: Bench) -> None:
    stream = bench.begin()
    assert stream.init().ok
    stream.cancel()
    again = bench.connect(reconnecting=True)
    assert again.init(req_id=-1).ok
    assert len(bench.work.inits) == 1


def test_the_init_response_tells_what_the_server_can_do(bench: Bench) -> None:
    bench.begin("a", grace=1000).cancel()
    stream = bench.connect("a", reconnecting=True)
    answer = stream.init()
    assert tuple(answer.capabilities) == wire.CAPABILITIES
    assert answer.incarnation == 1


def test_a_refused_init_ends_the_session_with_its_stream(bench: Bench) -> None:
    bench.work.init_answer = protocol.InitResponse(ok=False, msg="no")
    stream = bench.connect()
    answer = stream.init()
    assert (answer.ok, answer.msg) == (False, "no")
    stream.half_close()
    assert bench.work.released.get(timeout=TOO_LONG) == "a"


def test_cleanup_ends_the_session_at_once(bench: Bench) -> None:
    stream = bench.begin(grace=1000)
    answer = stream.ask(5, connection_cleanup=protocol.ConnectionCleanupRequest())
    assert answer.WhichOneof("type") == "connection_cleanup"
    assert bench.work.released.get(timeout=TOO_LONG) == "a"
    assert bench.idle.wait(TOO_LONG)
    assert bench.servicer.num_clients == 0


def test_the_stream_of_a_client_that_leaves_ends_when_its_session_has(bench: Bench) -> None:
    over = []

    def release_all(client_id: str) -> None:
        bench.begin("another").cancel()  # Takes its time, though no sleep does.
        over.append(client_id)

    bench.work.release_all = release_all  # type: ignore[method-assign]
    stream = bench.begin(grace=1000)
    stream.ask(5, connection_cleanup=protocol.ConnectionCleanupRequest())
    stream.half_close()
    assert list(stream.call) == []
    assert over == ["a"]


def test_without_grace_a_lost_stream_ends_the_session(bench: Bench) -> None:
    bench.begin(grace=0).cancel()
    assert bench.work.released.get(timeout=TOO_LONG) == "a"


def test_a_stream_lost_before_init_leaves_nothing(bench: Bench) -> None:
    stream = bench.connect()
    stream.sync()
    stream.cancel()
    assert bench.work.released.get(timeout=TOO_LONG) == "a"


def test_with_grace_a_lost_stream_leaves_the_session_until_the_server_stops(bench: Bench) -> None:
    bench.begin("a").cancel()
    # The other session ends after a's stream has left, so a's would have been first.
    bench.begin("b", grace=0).cancel()
    assert bench.work.released.get(timeout=TOO_LONG) == "b"
    assert bench.servicer.num_clients == 1
    assert not bench.idle.is_set()
    bench.servicer.stopped.set()
    assert bench.work.released.get(timeout=TOO_LONG) == "a"


def test_half_closing_without_cleanup_keeps_the_session(bench: Bench) -> None:
    stream = bench.begin()
    stream.half_close()
    assert list(stream.call) == []
    again = bench.connect(reconnecting=True)
    again.sync()
    assert bench.servicer.num_clients == 1


def test_a_newer_stream_supersedes_the_older_one(bench: Bench) -> None:
    first = bench.begin()
    second = bench.connect(reconnecting=True)
    second.sync()
    error = first.failure()
    assert error.code() is grpc.StatusCode.ABORTED
    assert wire.reason_of(error.trailing_metadata()) == wire.REASON_SUPERSEDED
    second.sync()
    assert bench.servicer.num_clients == 1
    assert bench.work.released.empty()


def test_the_number_of_clients_is_told(bench: Bench) -> None:
    stream = bench.begin("a")
    bench.begin("b")
    info = stream.ask(7, connection_info=protocol.ConnectionInfoRequest()).connection_info
    assert info.num_clients == 2


def test_a_replaced_connection_info_may_be_of_stocks_class(bench: Bench) -> None:
    bench.servicer._build_connection_response = lambda: stock.ConnectionInfoResponse(
        num_clients=7, ray_version="", ray_commit="", python_version="2.7.12"
    )
    info = bench.connect().ask(1, connection_info=protocol.ConnectionInfoRequest())
    assert info.connection_info.python_version == "2.7.12"
