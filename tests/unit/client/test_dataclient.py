"""The data stream's shell against a server whose every answer the test scripts."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Sequence
from concurrent import futures

import grpc
import pytest

from ray.exceptions import GetTimeoutError
from ray.util.client import protocol
from ray.util.client.connecting import close_channel
from ray.util.client.dataclient import DataClient
from ray.util.client.named import NamedObjects
from ray.util.client.pickling import Pickled
from ray.util.client.recovery import Recovery
from ray.util.client.session import wire
from ray.util.client.session.client import Receipt
from ray.util.client.session.conversation import Conversation
from ray.util.client.session.errors import SessionError
from ray.util.client.session.info import SessionState
from ray.util.client.session.journal import Ask

# Guards against hanging for ever.
_PATIENCE_S = 20.0


class Dying:
    """Takes requests and dies of the first put; comes back as the next incarnation."""

    def __init__(self) -> None:
        self.incarnation = 1

    def Datapath(self, requests, context):
        for request in requests:
            kind = request.WhichOneof("type")
            if kind == "put":
                self.incarnation += 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "died")
            if kind == "connection_cleanup":
                return
            answer = protocol.DataResponse(req_id=request.req_id)
            if kind == "init":
                answer.init.ok = True
                answer.init.incarnation = self.incarnation
                answer.init.capabilities.extend(wire.CAPABILITIES)
            else:
                answer.connection_info.incarnation = self.incarnation
                answer.connection_info.handed = request.req_id
            yield answer


class Refusing(Dying):
    """Refuses its first streams, for these reasons, before it answers anything."""

    def __init__(self, *refusals: tuple[grpc.StatusCode, str]) -> None:
        super().__init__()
        self.refusals = list(refusals)
        self.reconnecting: list[str] = []

    def Datapath(self, requests, context):
        self.reconnecting.append(dict(context.invocation_metadata())["reconnecting"])
        if self.refusals:
            code, why = self.refusals.pop(0)
            context.set_trailing_metadata(((wire.REASON_KEY, why),))
            context.abort(code, "refused")
        yield from super().Datapath(requests, context)


class Deaf(Dying):
    """Breaks streams off at the goodbye, for these reasons one after another, as if it had died
    before it came. Then it takes it."""

    def __init__(self, *reasons: str) -> None:
        super().__init__()
        self.reasons = list(reasons)
        self.goodbyes = 0

    def Datapath(self, requests, context):
        yield from super().Datapath(self._heard(requests, context), context)

    def _heard(self, requests, context):
        for request in requests:
            if request.WhichOneof("type") == "connection_cleanup":
                self.goodbyes += 1
                if self.reasons:
                    context.set_trailing_metadata(((wire.REASON_KEY, self.reasons.pop(0)),))
                    context.abort(grpc.StatusCode.UNAVAILABLE, "died")
            yield request


@pytest.fixture
def servicer():
    return Dying()


@pytest.fixture
def channel(servicer):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([protocol.handler(protocol.DATA_STREAMER, servicer)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    yield channel
    close_channel(channel)
    server.stop(0).wait()


class Holding:
    """Holds what answers hand over; the names and their number are put into ``taken``, and again
    into ``dropped`` when nobody holds them any more."""

    taken: queue.SimpleQueue = queue.SimpleQueue()
    dropped: queue.SimpleQueue = queue.SimpleQueue()

    def __init__(self, names: Sequence[bytes], handing: int) -> None:
        self._what = (tuple(names), handing)
        self.taken.put(self._what)

    def __del__(self) -> None:
        self.dropped.put(self._what)


@pytest.fixture
def holding(monkeypatch):
    """A :class:`Holding` that nothing has been put into."""
    for queue_name in ("taken", "dropped"):
        monkeypatch.setattr(Holding, queue_name, queue.SimpleQueue())
    return Holding


@pytest.fixture
def begin(channel):
    """Begins a session, ``begin(recovery)``."""
    begun = []

    def begin(recovery: Recovery) -> DataClient:
        data = DataClient(channel, [], 30, None, lambda: None, Holding, recovery)
        begun.append(data)
        data.start()
        data.Init(protocol.InitRequest())
        return data

    yield begin
    for data in begun:
        data.close()


def put(data: DataClient) -> Exception:
    """What a put that is under way when the server dies fails with."""
    failures = []

    def run() -> None:
        try:
            NamedObjects(data, "client", None).put(Pickled(b"value", ()), None)
        except Exception as e:
            failures.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    assert failures, "the put waits for ever"
    return failures[0]


def test_a_put_under_way_is_told_that_the_session_ends_with_its_server(begin):
    data = begin(Recovery.OFF)
    failure = put(data)
    assert isinstance(failure, SessionError) and "RAY_CLIENT_RECOVERY" in str(failure)
    assert data.info().state is SessionState.LOST


_Code = grpc.StatusCode


@pytest.mark.parametrize(
    "servicer,streams",
    [
        # The proxier was started anew before it had answered the init.
        (
            Refusing(
                (_Code.UNAVAILABLE, wire.REASON_SHUTTING_DOWN),
                (_Code.NOT_FOUND, wire.REASON_SESSION_UNKNOWN),
            ),
            ["False", "True", "False"],
        ),
        # A stream that was given up has arrived late, and begun the session.
        (
            Refusing(
                (_Code.UNAVAILABLE, ""),
                (_Code.NOT_FOUND, wire.REASON_SESSION_UNKNOWN),
                (_Code.FAILED_PRECONDITION, wire.REASON_SESSION_KNOWN),
            ),
            ["False", "True", "False", "True"],
        ),
        # It has taken the session over from the one after it.
        (
            Refusing((_Code.UNAVAILABLE, ""), (_Code.ABORTED, wire.REASON_SUPERSEDED)),
            ["False", "True", "True"],
        ),
    ],
)
def test_a_session_begins_over_interruptions(begin, servicer, streams):
    assert begin(Recovery.REPLAY).info().state is SessionState.CONNECTED
    assert servicer.reconnecting == streams


@pytest.mark.parametrize("fault", [MemoryError("no memory"), RuntimeError("a fault")])
def test_a_put_under_way_is_told_that_the_recovery_failed(begin, monkeypatch, fault):
    def fail(*_):
        raise fault

    monkeypatch.setattr(Conversation, "_replay", fail)
    data = begin(Recovery.REPLAY)
    failure = put(data)
    assert isinstance(failure, SessionError) and str(fault) in str(failure)
    assert data.info().state is SessionState.LOST


@pytest.mark.parametrize(
    "servicer,goodbyes",
    [
        (Deaf(), 1),
        (Deaf(wire.REASON_SERVER_DIED), 2),
        (Deaf(wire.REASON_SERVER_DIED, wire.REASON_SERVER_DIED), 3),
        # Whoever has forgotten the session needs no goodbye.
        (Deaf(wire.REASON_SESSION_UNKNOWN), 1),
    ],
)
def test_a_goodbye_is_said_until_it_is_taken(begin, servicer, goodbyes):
    data = begin(Recovery.REPLAY)
    data.close()
    assert servicer.goodbyes == goodbyes
    assert data.info().state is SessionState.CLOSED


class Forgetful(Refusing, Deaf):
    """Has forgotten the session before it began, and later does not hear its first goodbye."""

    def __init__(self) -> None:
        super().__init__(
            (_Code.UNAVAILABLE, wire.REASON_SHUTTING_DOWN),
            (_Code.NOT_FOUND, wire.REASON_SESSION_UNKNOWN),
        )
        self.reasons = [wire.REASON_SERVER_DIED]


@pytest.mark.parametrize("servicer", [Forgetful()])
def test_a_session_that_was_begun_anew_is_not_begun_anew_again_for_the_goodbye(begin, servicer):
    begin(Recovery.REPLAY).close()
    assert servicer.reconnecting == ["False", "True", "False", "True"]
    assert servicer.goodbyes == 2


class HandingOut(Dying):
    """Answers each get with names of two things; breaks off at a release, which it notes, and then
    hands out what that may have crossed."""

    def __init__(self) -> None:
        super().__init__()
        self.released: queue.SimpleQueue = queue.SimpleQueue()
        self.wanted = threading.Event()

    def Datapath(self, requests, context):
        begun = super().Datapath(self._noted(requests, context), context)
        for answer in begun:
            if self.released.qsize() and answer.WhichOneof("type") == "connection_info":
                answer.connection_info.doubtful.append(b"c")
                answer.connection_info.handing = 2**63
            elif answer.req_id and answer.WhichOneof("type") == "connection_info":
                self.wanted.wait(_PATIENCE_S)
                got = protocol.GetResponse(valid=False, error=pickle.dumps(KeyError("no")))
                got.handed.extend([b"a", b"b"])
                got.handing = 7
                answer = protocol.DataResponse(req_id=answer.req_id, get=got)
            yield answer

    def _noted(self, requests, context):
        for request in requests:
            if request.WhichOneof("type") == "release":
                self.released.put(request.release)
                context.abort(grpc.StatusCode.UNAVAILABLE, "broke")
            if request.WhichOneof("type") != "withdraw":
                yield request


@pytest.mark.parametrize("servicer", [HandingOut()])
def test_what_an_answer_hands_over_is_held_while_it_is_read(begin, servicer, holding):
    servicer.wanted.set()
    with pytest.raises(KeyError):
        NamedObjects(begin(Recovery.REPLAY), "client", None).get([b"name"], None)
    for told in (holding.taken, holding.dropped):
        assert told.get(timeout=_PATIENCE_S) == ((b"a", b"b"), 7)


@pytest.mark.parametrize("servicer", [HandingOut()])
def test_what_an_answer_hands_over_that_nobody_waits_for_is_let_go_of(begin, servicer, holding):
    with pytest.raises(GetTimeoutError):
        NamedObjects(begin(Recovery.REPLAY), "client", None).get([b"name"], 0.1)
    servicer.wanted.set()
    assert holding.dropped.get(timeout=_PATIENCE_S) == ((b"a", b"b"), 7)


@pytest.mark.parametrize("servicer", [HandingOut()])
def test_what_a_release_may_have_crossed_is_handed_over_by_the_next_stream(
    begin, servicer, holding
):
    data = begin(Recovery.REPLAY)
    data.release([b"c"], [Receipt(b"a", 7, 2)])
    release = servicer.released.get(timeout=_PATIENCE_S)
    assert list(release.ids) == [b"c"]
    assert [(r.name, r.handing, r.times) for r in release.receipts] == [(b"a", 7, 2)]
    assert holding.dropped.get(timeout=_PATIENCE_S) == ((b"c",), 2**63)
    assert holding.taken.get(timeout=0) == ((b"c",), 2**63)


def test_ctrl_c_can_not_end_halfway_what_others_rely_on(begin):
    """The main thread has another one take in what callers have handed over."""
    data = begin(Recovery.REPLAY)
    name, elsewhere = b"\xcd" * 28, []

    def off_main(call):
        elsewhere.append(call)
        return call()

    data._off_main = off_main
    data.adopt(name)
    # What is not known at all is not waited for.
    assert data.outcomes([name]) == [Ask.SERVER] and not elsewhere
    data.ConnectionInfo()
    data.note(lambda journal: journal.finished(name))
    assert data.outcomes([name]) == [Ask.SERVER]
    assert len(elsewhere) == 1 and not data._arrivals
