"""The client's side of a session: its states, its requests, and what becomes of them.

No I/O, threads or clock: the shell (``dataclient``) calls these methods under its lock and acts on
what they return after releasing it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ray.util.client.cache import id_is_newer
from ray.util.client.session.errors import SessionClosed, SessionError
from ray.util.client.session.machine import Machine, Table
from ray.util.common import INT32_MAX

# A stock server keeps answers until they are acknowledged; every so many answers one is sent.
ACKNOWLEDGE_BATCH_SIZE = 32

# Requests without an answer that anybody waits for.
UNTRACKED = 0
# Requests that get their id when they are sent, so that ids are sent in their order.
UNMINTED = -2


class State(enum.Enum):
    """What a user can see of a session. SUSPENDED may come back, LOST is confirmed dead."""

    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    SUSPENDED = enum.auto()
    LOST = enum.auto()
    CLOSED = enum.auto()


class Input(enum.Enum):
    """What moves a session along."""

    OPENED = enum.auto()
    STREAM_BROKE = enum.auto()
    GIVEN_UP = enum.auto()
    SHUTDOWN = enum.auto()


TABLE: Table[State, Input] = {
    (State.CONNECTING, Input.OPENED): State.CONNECTED,
    (State.CONNECTING, Input.STREAM_BROKE): State.SUSPENDED,
    (State.CONNECTING, Input.GIVEN_UP): State.LOST,
    (State.CONNECTING, Input.SHUTDOWN): State.CLOSED,
    (State.CONNECTED, Input.STREAM_BROKE): State.SUSPENDED,
    (State.CONNECTED, Input.GIVEN_UP): State.LOST,
    (State.CONNECTED, Input.SHUTDOWN): State.CLOSED,
    (State.SUSPENDED, Input.OPENED): State.CONNECTED,
    (State.SUSPENDED, Input.STREAM_BROKE): State.SUSPENDED,
    (State.SUSPENDED, Input.GIVEN_UP): State.LOST,
    (State.SUSPENDED, Input.SHUTDOWN): State.CLOSED,
    (State.LOST, Input.SHUTDOWN): State.CLOSED,
}

ENDED = frozenset({State.LOST, State.CLOSED})


class Fate(enum.Enum):
    """What becomes of a request that was sent to an incarnation that died unanswered."""

    REPEAT = enum.auto()  # harmless to do twice, or undone by the death
    FAIL = enum.auto()  # may have had its effect: the caller is told that the outcome is unknown
    DROP = enum.auto()  # without meaning for the next incarnation


class Kind(enum.Enum):
    """What a request is, as far as the session's core cares."""

    INIT = enum.auto()
    QUERY = enum.auto()
    PUT = enum.auto()
    GET = enum.auto()
    WAIT = enum.auto()
    TASK = enum.auto()
    JOURNALED = enum.auto()  # a put, task or look-up that the journal makes again if need be
    TERMINATE = enum.auto()
    RELEASE = enum.auto()
    WITHDRAW = enum.auto()
    CLEANUP = enum.auto()
    ACKNOWLEDGE = enum.auto()


# Answered when objects are ready, so not in order, and not kept by the server.
STREAMED = frozenset({Kind.GET, Kind.WAIT})
UNANSWERED = frozenset({Kind.ACKNOWLEDGE, Kind.CLEANUP, Kind.WITHDRAW})


FATES: dict[Kind, Fate] = {
    Kind.INIT: Fate.REPEAT,
    Kind.QUERY: Fate.REPEAT,
    Kind.PUT: Fate.REPEAT,
    Kind.GET: Fate.REPEAT,
    Kind.WAIT: Fate.REPEAT,
    Kind.TASK: Fate.FAIL,
    Kind.JOURNALED: Fate.DROP,
    Kind.TERMINATE: Fate.REPEAT,
    Kind.RELEASE: Fate.DROP,
    Kind.WITHDRAW: Fate.DROP,
    Kind.CLEANUP: Fate.DROP,
    Kind.ACKNOWLEDGE: Fate.DROP,
}


class Receipt(NamedTuple):
    """So many hand-outs of a name have arrived, of those of one stream of the server's.

    Attributes:
        name: what was handed out.
        handing: the number of the hand-outs.
        times: how many came since the last receipt of that name.
    """

    name: bytes
    handing: int
    times: int


@dataclass(eq=False)
class Request:
    """One message of the data stream and what is known of it.

    Attributes:
        req_id: the id it carries; ``UNTRACKED`` if no answer is matched to it; ``UNMINTED`` until
            it is taken to be sent, where it is added so.
        kind: see :class:`Kind`.
        message: opaque to the core.
        waiter: opaque to the core: who is to be told of the answer.
        sent: whether it was ever handed to a stream of the present incarnation. Until then it
            provably had no effect there.
        retries: how often it may be sent to another incarnation after its outcome became unknown;
            -1 is without limit. Counts down.
        needs: names of what must exist on the server before it is sent.
        concerns: names that it releases, or ends.
        receipts: of what it releases, and of what is released later because others need it.
        filed: of a release: whether the journal has been told.
        asks: what stands in line behind it waits for its answer.
        target: the request that it withdraws.
        payload: bytes that are too many to lie in the message; None if there are none.
        submission: opaque to this module: what the journal is to know of it; None where the journal
            itself has asked for it.
        entry: opaque to this module: what the journal knows it as.
        place: in the order of all that was submitted; 0 if it does not matter, or is not known yet.
    """

    req_id: int
    kind: Kind
    message: Any
    waiter: Any = None
    sent: bool = False
    retries: int = 0
    needs: tuple[bytes, ...] = ()
    concerns: tuple[bytes, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    filed: bool = False
    asks: bool = False
    target: Any = None
    payload: Any = None
    submission: Any = None
    entry: Any = None
    place: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the journal knows it, or has made it."""
        made = self.kind is Kind.JOURNALED and self.submission is None
        return made or self.entry is not None

    def use_retry(self) -> bool:
        """Takes one retry. Returns False if there is none."""
        if self.retries == 0:
            return False
        if self.retries > 0:
            self.retries -= 1
        return True


class Reopened(NamedTuple):
    """What an attached data stream means for the requests that were under way.

    Attributes:
        lost: their outcome can't be known; the waiters are to be told.
        retried: neither can theirs, but they have used a retry and will be sent again.
        restarted: they start over, where they may have been half-way through.
        journaled: they are taken out, since the journal makes them again. Those that no server of
            the session was given are marked as not sent.
    """

    lost: list[Request]
    retried: list[Request]
    restarted: list[Request]
    journaled: list[Request]


class ClientSession:
    """A session as its client sees it.

    Not thread-safe: the owner serialises all calls.

    Args:
        grace_period: seconds for which a broken connection is worth waiting for; 0 is never.
    """

    def __init__(self, grace_period: float) -> None:
        self._machine: Machine[State, Input] = Machine("client session", TABLE, State.CONNECTING)
        self._grace_period = grace_period
        self._last_id = 0
        # Requests whose answers the server keeps until they are acknowledged, in sending order …
        self._ordered: dict[int, Request] = {}
        # … and asynchronous gets, which are answered whenever their objects are ready.
        self._streamed: dict[int, Request] = {}
        self._outbox: deque[Request] = deque()
        self._goodbye: Request | None = None
        self._answers = 0
        self._suspended_at: float | None = None
        self.capabilities: frozenset = frozenset()
        self.incarnation: int | None = None
        self.recoveries = 0
        self.cause: Exception | None = None

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def interrupted(self) -> bool:
        """Whether the peer has not answered since the stream broke."""
        return self._suspended_at is not None

    @property
    def unanswered(self) -> int:
        """How many requests wait for an answer."""
        return len(self._ordered) + len(self._streamed)

    @property
    def unsent(self) -> int:
        """How many requests stand in line to be sent."""
        return len(self._outbox)

    # -- requests

    def add(
        self, kind: Kind, message: Any, waiter: Any = None, *, retries: int = 0
    ) -> Request:
        """Takes a request on, to be sent in its turn; gives it an id where it wants an answer.

        Raises:
            Exception: the session has ended; the error is the cause of that.
        """
        if self.ended:
            raise self.ending()
        request = Request(UNTRACKED, kind, message, waiter, retries=retries)
        if kind not in UNANSWERED:
            self._track(request)
        elif kind is Kind.CLEANUP:
            self._goodbye = request
        self._outbox.append(request)
        return request

    def queue(self, request: Request) -> None:
        """Takes a request on without an id, which it gets when it is taken to be sent.

        Raises:
            Exception: the session has ended; the error is the cause of that.
        """
        if self.ended:
            raise self.ending()
        if request.kind not in UNANSWERED:
            request.req_id = UNMINTED
        self._outbox.append(request)

    def queue_first(self, requests: list[Request]) -> None:
        """Puts requests, in their order, before all that stand in line. They get ids as they go."""
        for request in reversed(requests):
            if request.kind not in UNANSWERED:
                request.req_id = UNMINTED
            self._outbox.appendleft(request)

    @property
    def in_line(self) -> Iterable[Request]:
        """What stands in line to be sent, in its order."""
        return tuple(self._outbox)

    def take(self) -> Request | None:
        """The next request to send, from now on counted as sent; None if there is none."""
        if not self._outbox:
            return None
        request = self._outbox.popleft()
        if request.req_id == UNMINTED:
            self._track(request)
        request.sent = True
        return request

    def waiting(self, req_id: int) -> Request | None:
        """The request that ``req_id`` answers; None if nobody waits for it (any more)."""
        return self._ordered.get(req_id) or self._streamed.get(req_id)

    def answered(self, req_id: int) -> int | None:
        """Strikes a request off.

        Returns:
            The id up to which the server may forget its answers, if it is time to tell; else None.
        """
        if self._ordered.pop(req_id, None) is None:
            self._streamed.pop(req_id, None)
            return None
        self._answers += 1
        if self._grace_period == 0 or self._answers % ACKNOWLEDGE_BATCH_SIZE:
            return None
        oldest = next(iter(self._ordered), None)
        if oldest is None:
            return self._last_id
        return oldest - 1 if oldest > 1 else INT32_MAX

    def untake(self, request: Request) -> None:
        """Puts back, at the head of the line, the request that was just taken: it was not sent."""
        request.sent = False
        if request.req_id != UNTRACKED:
            self.strike(request)
            request.req_id = UNMINTED
        self._outbox.appendleft(request)

    def strike(self, request: Request) -> None:
        """Forgets a request that is not to be answered any more."""
        self._ordered.pop(request.req_id, None)
        self._streamed.pop(request.req_id, None)

    # -- the connection

    def opened(self, incarnation: int | None, handed: int | None = None) -> Reopened:
        """A data stream is attached. The grace period ends when the peer is :meth:`heard`.

        Args:
            incarnation: the server's number; None where the peer does not tell (a stock one).
            handed: the newest request id that was passed to any earlier server of the session;
                None where the peer does not tell.

        All unanswered requests that are not lost stand in line again, in their first order.
        """
        again = self.state is State.SUSPENDED
        self._machine.feed(Input.OPENED)
        changed = (
            incarnation is not None
            and self.incarnation is not None
            and incarnation != self.incarnation
        )
        if incarnation is not None:
            self.incarnation = incarnation
        if not again:
            return Reopened([], [], [], [])
        if not changed:
            self._line_up_again()
            return Reopened([], [], [], [])
        return Reopened(*self._forget_effects(handed))

    def take_back(self, reopened: Reopened) -> None:
        """Nothing could be made of what :meth:`opened` handed out; the session's end is to tell
        those who wait for it."""
        for request in (*reopened.lost, *reopened.journaled):
            request.req_id = UNMINTED
            self._outbox.append(request)

    def heard(self) -> bool:
        """The peer has answered. Returns True if that ends an interruption."""
        if self._suspended_at is None:
            return False
        self._suspended_at = None
        self.recoveries += 1
        return True

    def negotiated(self, capabilities: Iterable[str], incarnation: int | None) -> None:
        """The init answer says what the peer can do and, from a fork, its incarnation."""
        self.capabilities = frozenset(capabilities)
        if incarnation:
            self.incarnation = incarnation

    def stream_broke(self, now: float) -> None:
        """The data stream ended although nobody asked it to. ``now``: monotonic seconds."""
        self._machine.feed(Input.STREAM_BROKE)
        if self._suspended_at is None:
            self._suspended_at = now

    def remaining(self, now: float) -> float:
        """Seconds of the grace period that are left; negative when it is over."""
        if self._suspended_at is None:
            return self._grace_period
        return self._suspended_at + self._grace_period - now

    def give_up(self, cause: Exception) -> list[Request]:
        """The session is lost for good. Returns the requests whose waiters are to be told."""
        # First, since whoever sees that the session has ended asks why, without a lock.
        self.cause = cause
        self._machine.feed(Input.GIVEN_UP)
        waiting = self._abandon()
        self._outbox.clear()
        return waiting

    def shut_down(self) -> list[Request]:
        """The user ends the session. Returns the requests whose waiters are to be told.

        What stands in line is still sent: a detached actor that was just asked for is made.
        """
        self._machine.feed(Input.SHUTDOWN)
        return self._abandon()

    def goodbye_broke(self) -> None:
        """The data stream broke after the goodbye was taken, and nobody knows whether it arrived:
        it stands in line again."""
        if self._goodbye is not None and self._goodbye.sent:
            self.untake(self._goodbye)

    def ending(self) -> Exception:
        """The error for calls on a session that has ended."""
        if isinstance(self.cause, SessionError):
            # A new object each time: tracebacks of different threads must not pile up on one.
            return type(self.cause)(*self.cause.args)
        return SessionClosed(
            "Ray Client is not connected: the Ray client has already been disconnected by "
            "ray.shutdown(). Call ray.init() to connect again."
        )

    # -- within

    def _track(self, request: Request) -> None:
        request.req_id = self._mint()
        pending = self._streamed if request.kind in STREAMED else self._ordered
        pending[request.req_id] = request

    def _mint(self) -> int:
        while True:
            self._last_id = self._last_id + 1 if self._last_id < INT32_MAX else 1
            if self._last_id not in self._ordered and self._last_id not in self._streamed:
                return self._last_id

    def _forget_effects(
        self, handed: int | None
    ) -> tuple[list[Request], list[Request], list[Request], list[Request]]:
        """Sorts what was under way; what is to be said again stands in line, without an id: what
        it needs may have to be said before it."""
        lost, retried, journaled, again = [], [], [], []
        unminted = [request for request in self._outbox if request.req_id == UNMINTED]
        pending = self._by_age()
        self._ordered.clear()
        self._streamed.clear()
        for request in pending:
            fate = FATES[request.kind]
            arrived = handed is None or not id_is_newer(request.req_id, handed)
            had_it = request.sent and arrived
            if request.kind is Kind.JOURNALED:
                request.sent = had_it
                journaled.append(request)
            elif fate is Fate.REPEAT or not had_it:
                again.append(request)
            elif fate is Fate.FAIL and request.use_retry():
                retried.append(request)
                again.append(request)
            elif fate is Fate.FAIL:
                lost.append(request)
        for request in again:
            request.sent, request.req_id = False, UNMINTED
        # What the journal made, or already knows, stands in line only because it was to be made
        # again.
        journaled += [request for request in unminted if request.is_known]
        self._outbox = deque((*again, *(r for r in unminted if not r.is_known)))
        restarted = [request for request in again if request.kind in STREAMED]
        return lost, retried, restarted, journaled

    def _line_up_again(self) -> None:
        # Untracked requests go: an acknowledgement means nothing to a new stream's first reader,
        # and the next one says the same and more.
        unminted = [request for request in self._outbox if request.req_id == UNMINTED]
        self._outbox = deque((*self._by_age(), *unminted))

    def _by_age(self) -> list[Request]:
        pending = (*self._ordered.values(), *self._streamed.values())
        return sorted(pending, key=lambda request: self._age(request.req_id))

    def _age(self, req_id: int) -> int:
        # Ids wrap round: those above the last one minted are from before the wrap.
        return req_id - INT32_MAX if req_id > self._last_id else req_id

    def _abandon(self) -> list[Request]:
        unminted = [request for request in self._outbox if request.req_id == UNMINTED]
        waiting = [*self._ordered.values(), *self._streamed.values(), *unminted]
        self._ordered.clear()
        self._streamed.clear()
        return waiting
