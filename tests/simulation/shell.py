"""The client's process: the product's conversation, feed, replies and journal on simulated gRPC.

The product's shell (``dataclient``) has threads and locks; this one does the same steps on the
world's clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from ray.util.client import protocol
from ray.util.client.chunking import MAX_BATCH, outgoing
from ray.util.client.continuity import Continuity
from ray.util.client.delivery import arrived, let_go_of_doubtful, settled
from ray.util.client.feed import Feed
from ray.util.client.rpc_errors import short
from ray.util.client.sent import error_from
from ray.util.client.session import wire as names
from ray.util.client.session.client import UNTRACKED, Kind, Request, State
from ray.util.client.session.conversation import Adoption, Conversation, Note
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import Journal, Outcome, Submission
from ray.util.client.speech import WireSpeech
from tests.simulation.network import CANCELLED, Metadata, Route, Status, Wire
from tests.simulation.world import Process, World

logger = logging.getLogger(__name__)

# As in the product's shell (seconds).
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0
CLOSE_TIMEOUT_S = 5.0
CLOSE_BEFORE_INIT_TIMEOUT_S = 1.0
# How soon gRPC tries again to connect.
RECONNECT_S = 0.3
# A channel waits no longer than this until it tries to connect again (client/limits.py).
LONGEST_RECONNECT_S = 1.0


class RpcFailure(grpc.RpcError):
    """How a call of the client's ended."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def trailing_metadata(self) -> Metadata:
        return self._status.trailing


class Bounds:
    """What a client keeps at most: bytes of messages, entries, bytes of values."""

    def __init__(self, bytes: int, entries: int, value_bytes: int) -> None:
        self.bytes, self.entries, self.value_bytes = bytes, entries, value_bytes


class _Ear:
    """A data stream as its caller hears it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._first: asyncio.Future | None = None
        self.over: asyncio.Future = shell.process.future()

    def took(self, data: bytes) -> None:
        if not self._shell.process.alive:
            return
        response = protocol.DataResponse.FromString(data)
        first, self._first = self._first, None
        if first is not None and not first.done():
            first.set_result(response)
            return
        for each in response.batch.responses if response.HasField("batch") else (response,):
            self._shell.dispatch(each)

    def room(self) -> None:
        self._shell.pump()

    def ended(self, status: Status) -> None:
        if not self._shell.process.alive:
            return
        if not self.over.done():
            self.over.set_result(status)
        if self._first is not None and not self._first.done():
            self._first.set_result(status)

    def first(self) -> asyncio.Future:
        self._first = self._shell.process.future()
        return self._first


def _log_failure(pickled: bytes) -> None:
    logger.warning("Something could not be restored: %s", error_from(pickled))


class Shell:
    """One client's session.

    Args:
        world: the world.
        client_id: the session's.
        route: to the proxier.
        connect: is asked for the callee when a call arrives there: ``connect(wire, metadata)``.
        reachable: whether the proxier's port can be connected to now.
        grace_period: seconds.
        bounds: of the journal.
        batch: how many requests one message may carry.
        think: seconds that threads take to hear of something, on average.
    """

    def __init__(
        self,
        world: World,
        client_id: str,
        route: Route,
        connect: Callable[[Wire, Metadata], Any],
        reachable: Callable[[], bool],
        grace_period: float,
        bounds: Bounds,
        batch: int,
        think: float,
    ) -> None:
        self.world = world
        self.client_id = client_id
        self.process = Process(world, client_id)
        self.core = Conversation(grace_period, WireSpeech(_log_failure))
        self._continuity = Continuity(self.core, grace_period)
        self.grace_period = grace_period
        self.bounds = bounds
        self.metadata: Metadata = (
            ("client_id", client_id),
            (names.SECRET_KEY, f"secret of {client_id}"),
        )
        # What holds the names that an answer has handed over, by the number of the hand-outs.
        self.on_handed: Callable[[Sequence[bytes], int], Any]
        # When which server of the session was met: (time, incarnation).
        self.met: list[tuple[float, int]] = []
        # When the session was first found broken, and again whole.
        self.gaps: list[list[float]] = []
        # Errors of the session's end, and answers of servers that were not meant.
        self.ended_with: Exception | None = None
        self.ended_at = 0.0
        self.most = {"bytes": 0, "values": 0}
        self._route = route
        self._connect = connect
        self._reachable = reachable
        self._batch = min(batch, MAX_BATCH)
        self._think = think
        self._arrivals: deque[Request | Adoption | Note] = deque()
        self._feed: Feed | None = None
        self._wire: Wire | None = None
        self._outgoing: Iterator[Any] = iter(())
        self._pumps = False
        self._pause = FIRST_PAUSE_S
        self._closing = False
        self._close_by = 0.0
        self._changed: asyncio.Future = self.process.future()
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        self._task = self.process.task(self._run())

    @property
    def session(self) -> Any:
        return self.core.session

    @property
    def incarnation(self) -> int | None:
        return self.core.session.incarnation

    def check_journal(self) -> None:
        """Raises the session's ending error unless objects have names in it."""
        self.check_alive()
        assert self.core.journal is not None, "the session has not begun"

    async def connected(self, timeout: float) -> None:
        """Waits until the stream is open, or ``timeout`` seconds are over.

        Raises:
            SessionLost: the session has ended.
        """
        give_up_at = self.world.now + timeout
        while self.session.state is not State.CONNECTED and self.world.now < give_up_at:
            self.check_alive()
            await self._change_within(give_up_at - self.world.now)
        self.check_alive()

    def check_alive(self) -> None:
        if self.session.ended:
            raise self.session.ending()

    # -- what callers do

    def begin(self, waiter: Any) -> None:
        """Begins the session; the waiter is to call :meth:`negotiated` with the answer."""
        init = self._continuity.init = protocol.InitRequest(
            reconnect_grace_period=int(self.grace_period), capabilities=names.CAPABILITIES
        )
        self.send(Kind.INIT, protocol.DataRequest(init=init), waiter)

    def send(self, kind: Kind, message: Any, waiter: Any, **fields: Any) -> Request:
        request = Request(UNTRACKED, kind, message, waiter, **fields)
        self._hand_over(request)
        return request

    def submit(self, message: Any, waiter: Any, submission: Submission, payload: Any) -> Request:
        request = Request(UNTRACKED, Kind.JOURNALED, message, waiter, payload=payload)
        request.needs, request.submission = submission.needs, submission
        self._hand_over(request)
        return request

    def withdraw(self, request: Request) -> None:
        request.waiter = None
        self._arrivals.append(Request(UNTRACKED, Kind.WITHDRAW, None, target=request))
        self._wake()

    def outcomes(self, of: Sequence[bytes]) -> list[Outcome]:
        journal = self.core.journal
        assert journal is not None
        if not self.session.ended:
            self._let_in()
        return [journal.outcome(name) for name in of]

    def adopt(self, name: bytes) -> None:
        if not self.session.ended:
            self._arrivals.append(Adoption(name))

    def note(self, what: Note) -> None:
        if not self.session.ended:
            self._arrivals.append(what)

    def _hand_over(self, request: Request) -> None:
        self.check_alive()
        self._arrivals.append(request)
        self._wake()

    # -- the stream's threads

    def _wake(self) -> None:
        if not self._pumps:
            self._pumps = True
            self.world.after(self.world.about(self._think), self._pump_now)

    def _pump_now(self) -> None:
        self._pumps = False
        self.pump()

    def pump(self) -> None:
        """Sends what may be sent now."""
        if not self.process.alive:
            return
        feed, wire = self._feed, self._wire
        while feed is not None and wire is not None and not feed.closed and wire.has_room:
            message = next(self._outgoing, None)
            if message is not None:
                wire.send(message.SerializeToString())
                continue
            taken = self._next_requests(feed)
            if not taken:
                if self._closing and feed.opened and not self.session.unsent:
                    wire.half_close()
                    self._feed = None
                return
            complete = [request for request in taken if feed._completed(request)]
            self._outgoing = outgoing(complete, feed.batches)

    def _next_requests(self, feed: Feed) -> list[Request]:
        taken: list[Request] = []
        if not feed.opened:
            return taken
        if not self.session.ended:
            self._let_in()
        while len(taken) < self._batch:
            request = self.core.take()
            if request is None:
                break
            taken.append(request)
            if request.payload is not None:
                break
        self._tell()
        self._measure()
        return taken

    def _measure(self) -> None:
        journal, most = self.core.journal, self.most
        if journal is not None:
            most["bytes"] = max(most["bytes"], journal.bytes)
            most["values"] = max(most["values"], journal.value_bytes)

    def _let_in(self) -> None:
        while self._arrivals:
            self.core.admit(self._arrivals.popleft())

    def _tell(self) -> None:
        for waiter, error in self.core.told():
            waiter.failed(error)

    def next_requests(self, feed: Feed) -> list[Request]:
        raise AssertionError("the feed is not iterated over here")

    def lose(self, request: Request) -> None:
        self.core.lose(request)
        self._tell()

    async def _run(self) -> None:
        error: BaseException | None = None
        reconnecting = False
        try:
            while True:
                error = await self._one_stream(reconnecting)
                if not (self._still_to_say(error) if self._closing else self._survives(error)):
                    break
                if self._closing:
                    await asyncio.sleep(FIRST_PAUSE_S)
                else:
                    await self._change_within(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
                reconnecting = True
        except SessionLost as e:
            error = e
        self._end(error)

    async def _change_within(self, seconds: float) -> None:
        await asyncio.wait({self._changed}, timeout=seconds)

    def _still_to_say(self, error: BaseException | None) -> bool:
        says = self._continuity.has_more_to_say(error, len(self._arrivals))
        return says and self.world.now <= self._close_by

    def _survives(self, error: BaseException | None) -> bool:
        if not self._continuity.outlives(error):
            return False
        if self.core.stream_broke(self.world.now):
            self._pause = FIRST_PAUSE_S
            if self.world.traced:
                self.world.note(f"{self.client_id}: the stream broke: {short(error)}")
        if not self.gaps or len(self.gaps[-1]) == 2:
            self.gaps.append([self.world.now])
        return self.session.remaining(self.world.now) > 0

    async def _one_stream(self, reconnecting: bool) -> BaseException | None:
        deadline = self.session.remaining(self.world.now) if reconnecting else None
        if not await self._channel_ready(deadline):
            return None
        feed = Feed(self, self._continuity.first_message(reconnecting))
        ear = _Ear(self)
        wire = Wire(self._route, ear)
        metadata = self.metadata + tuple(self._continuity.metadata(reconnecting))
        wire.open(lambda wire: self._connect(wire, metadata))
        self._outgoing = iter(())
        self._feed, self._wire = feed, wire
        try:
            told = None
            if feed.first is not None:
                wire.send(feed.first.SerializeToString())
                told = await self._meet(ear, deadline)
                if isinstance(told, Status):
                    return self._error_of(told)
            self._opened(feed, told)
            self.pump()
            return self._error_of(await ear.over)
        finally:
            feed.closed = True
            self._feed = self._wire = None
            wire.cancel()

    @staticmethod
    def _error_of(status: Status) -> BaseException | None:
        return None if status.code is grpc.StatusCode.OK else RpcFailure(status)

    async def _channel_ready(self, timeout: float | None) -> bool:
        give_up_at = float("inf") if timeout is None else self.world.now + timeout
        while not self._reachable():
            if self.world.now >= give_up_at or self._closing:
                return False
            pause = min(self.world.about(RECONNECT_S), LONGEST_RECONNECT_S)
            await self._change_within(min(pause, max(give_up_at - self.world.now, 0.0)))
        return True

    async def _meet(self, ear: _Ear, timeout: float | None) -> Any:
        first = ear.first()
        await asyncio.wait({first}, timeout=max(timeout or 0, 0))
        return first.result() if first.done() else CANCELLED

    def _opened(self, feed: Feed, told: Any) -> None:
        incarnation, handed = self._continuity.met(told)
        if self.session.ended:
            feed.opened = self.session.state is State.CLOSED
            return
        self._let_in()
        self.core.opened(incarnation, handed)
        if incarnation is not None:
            self.met.append((self.world.now, incarnation))
            self.world.note(
                f"{self.client_id}: meets incarnation {incarnation}; handed up to {handed}"
            )
            if self.session.heard():
                self._resumed()
        self._tell_change()
        feed.opened = True
        feed.batches = names.CAP_BATCHES in self.session.capabilities
        self.core.recovered(self.world.now)
        self._tell()
        if told is not None:
            let_go_of_doubtful(told.connection_info, self.on_handed)

    def dispatch(self, response: Any) -> None:
        """Delivers an answer."""
        delivery = arrived(self.core, response, self.world.now)
        if delivery.resumed:
            self._resumed()
        if delivery.sends:
            self._wake()
        if delivery.deliver(self.on_handed):
            sends, _ = settled(self.core, response.req_id, self.world.now)
            if sends:
                self._wake()

    def _resumed(self) -> None:
        self.gaps[-1].append(self.world.now)
        self._tell_change()

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, self.process.future()
        changed.set_result(None)

    def negotiated(self, accepted: Any) -> None:
        self.met.append((self.world.now, accepted.incarnation))
        bounds = self.bounds
        self._continuity.negotiated(
            accepted, lambda: Journal(bounds.bytes, bounds.entries, bounds.value_bytes)
        )

    # -- the end

    def _end(self, error: BaseException | None) -> None:
        waiting: list[Request] = []
        if not self.session.ended:
            self.ended_with = self._continuity.cause(error)
            self.world.note(f"{self.client_id}: the session is lost: {self.ended_with}")
            waiting = self.session.give_up(self.ended_with)
        self.ended_at = self.world.now
        self._turn_away(waiting)

    def _turn_away(self, waiting: list[Request]) -> None:
        arrivals, self._arrivals = self._arrivals, deque()
        for request in (*waiting, *arrivals):
            if isinstance(request, Request) and request.waiter is not None:
                request.waiter.failed(self.session.ending())
        self._tell_change()

    def acknowledge_all(self) -> None:
        """Tells the server that all answers so far have come."""
        if self.session._last_id:
            self.send(Kind.ACKNOWLEDGE, self.session._last_id, None)

    def leaks(self) -> list[str]:
        """What is left of what was let go of, as text."""
        session, journal = self.session, self.core.journal
        found = {
            "unanswered requests": session.unanswered,
            "unsent requests": session.unsent,
            "arrivals": len(self._arrivals),
        }
        if journal is not None:
            found |= {
                "entries": journal.entries,
                "bytes of entries": journal.bytes,
                "bytes of values": journal.value_bytes,
                "names": len(journal._by_name),
                "adopted names": len(journal._adopted),
                "values": len(journal._values),
            }
        return [f"{count} {what} in the client" for what, count in found.items() if count]

    async def close(self) -> None:
        """Ends the session, as ``ray.shutdown()`` does."""
        waiting: list[Request] = []
        if not self.session.ended:
            self._let_in()
            cleanup = protocol.DataRequest(connection_cleanup=protocol.ConnectionCleanupRequest())
            self.session.add(Kind.CLEANUP, cleanup)
        if self.session.state is not State.CLOSED:
            waiting = self.session.shut_down()
        self._close_by = self.world.now + CLOSE_TIMEOUT_S
        self._closing = True
        self._turn_away(waiting)
        self._wake()
        assert self._task is not None
        timeout = CLOSE_TIMEOUT_S if self._continuity.begun else CLOSE_BEFORE_INIT_TIMEOUT_S
        unsent = self.session.unsent + 1
        while not self._task.done() and self.session.unsent < unsent:
            unsent = self.session.unsent
            await asyncio.wait({self._task}, timeout=timeout)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    def kill(self) -> None:
        """As by SIGKILL."""
        self.world.note(f"{self.client_id} dies")
        self.process.alive = False
        for wire in list(self._route.wires):
            wire.caller_died()
