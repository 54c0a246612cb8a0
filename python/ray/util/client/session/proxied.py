"""A session as its proxier sees it: the life cycle of the client's streams and of its servers.

Fed by what happens; answers with effects for the shell to carry out, in their order.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import FrozenSet, List, Optional

from ray.util.client.cache import INT32_MAX, id_is_newer
from ray.util.client.session import wire
from ray.util.client.session.errors import SessionError
from ray.util.client.session.grace import Deaths
from ray.util.client.session.machine import Machine, Table
from ray.util.client.session.printed import Style
from ray.util.client.session.registrations import Registrations

# For how long a client may be away that has not told its grace period yet.
GRACE_BEFORE_INIT_S = 30


class State(enum.Enum):
    """NEW: no init yet. STARTING: the first server comes up. DETACHED: the client is away."""

    NEW = enum.auto()
    STARTING = enum.auto()
    SERVING = enum.auto()
    DETACHED = enum.auto()
    RECREATING = enum.auto()
    CLOSED = enum.auto()
    EXPIRED = enum.auto()


class Input(enum.Enum):
    """What moves a session along."""

    ATTACH = enum.auto()
    INIT = enum.auto()
    SERVER_UP = enum.auto()
    SERVER_UP_UNATTENDED = enum.auto()
    START_FAILED = enum.auto()
    START_FAILED_FOR_GOOD = enum.auto()
    SERVER_EXITED = enum.auto()
    SERVER_EXITED_FOR_GOOD = enum.auto()
    CLIENT_GONE = enum.auto()
    CLEANUP = enum.auto()
    GRACE_OVER = enum.auto()
    SHUTDOWN = enum.auto()


_S, _I = State, Input

TABLE: Table[State, Input] = {
    (_S.NEW, _I.ATTACH): _S.NEW,
    (_S.NEW, _I.INIT): _S.STARTING,
    (_S.NEW, _I.CLIENT_GONE): _S.NEW,
    (_S.NEW, _I.CLEANUP): _S.CLOSED,
    (_S.NEW, _I.GRACE_OVER): _S.EXPIRED,
    (_S.NEW, _I.SHUTDOWN): _S.CLOSED,
    (_S.STARTING, _I.ATTACH): _S.STARTING,
    (_S.STARTING, _I.SERVER_UP): _S.SERVING,
    (_S.STARTING, _I.SERVER_UP_UNATTENDED): _S.DETACHED,
    (_S.STARTING, _I.START_FAILED_FOR_GOOD): _S.CLOSED,
    (_S.STARTING, _I.CLIENT_GONE): _S.STARTING,
    (_S.STARTING, _I.CLEANUP): _S.CLOSED,
    (_S.STARTING, _I.GRACE_OVER): _S.EXPIRED,
    (_S.STARTING, _I.SHUTDOWN): _S.CLOSED,
    (_S.SERVING, _I.ATTACH): _S.SERVING,
    (_S.SERVING, _I.SERVER_EXITED): _S.RECREATING,
    (_S.SERVING, _I.SERVER_EXITED_FOR_GOOD): _S.EXPIRED,
    (_S.SERVING, _I.CLIENT_GONE): _S.DETACHED,
    (_S.SERVING, _I.CLEANUP): _S.CLOSED,
    (_S.SERVING, _I.SHUTDOWN): _S.CLOSED,
    (_S.DETACHED, _I.ATTACH): _S.SERVING,
    (_S.DETACHED, _I.SERVER_EXITED): _S.RECREATING,
    (_S.DETACHED, _I.SERVER_EXITED_FOR_GOOD): _S.EXPIRED,
    (_S.DETACHED, _I.CLEANUP): _S.CLOSED,
    (_S.DETACHED, _I.GRACE_OVER): _S.EXPIRED,
    (_S.DETACHED, _I.SHUTDOWN): _S.CLOSED,
    (_S.RECREATING, _I.ATTACH): _S.RECREATING,
    (_S.RECREATING, _I.SERVER_UP): _S.SERVING,
    (_S.RECREATING, _I.SERVER_UP_UNATTENDED): _S.DETACHED,
    (_S.RECREATING, _I.START_FAILED): _S.RECREATING,
    (_S.RECREATING, _I.START_FAILED_FOR_GOOD): _S.EXPIRED,
    (_S.RECREATING, _I.CLIENT_GONE): _S.RECREATING,
    (_S.RECREATING, _I.CLEANUP): _S.CLOSED,
    (_S.RECREATING, _I.GRACE_OVER): _S.EXPIRED,
    (_S.RECREATING, _I.SHUTDOWN): _S.CLOSED,
}

# The states with a server that answers, the ones with a server on its way, and the last ones.
UP = frozenset({State.SERVING, State.DETACHED})
COMING = frozenset({State.STARTING, State.RECREATING})
ENDED = frozenset({State.CLOSED, State.EXPIRED})


class Refused(SessionError):
    """A call that can't be served.

    Attributes:
        code: the name of the gRPC status code.
        reason: a ``REASON_`` of :mod:`ray.util.client.session.wire`, or None.
        incarnation: the session's present one, where knowing it helps the client.
    """

    def __init__(
        self,
        code: str,
        text: str,
        reason: Optional[str] = None,
        incarnation: Optional[int] = None,
    ) -> None:
        super().__init__(code, text, reason, incarnation)
        self.code, self.text, self.reason, self.incarnation = code, text, reason, incarnation

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class SavedInit:
    """A session's first message, as it came.

    Attributes:
        message: the serialised DataRequest.
        req_id: its request id.
        grace: the reconnect grace period in seconds; 0: the session is not to be kept.
        after: the last incarnation that the client's session had with a proxier that has
            forgotten it; 0: the session is new.
    """

    message: bytes
    req_id: int
    grace: float
    after: int = 0


@dataclass(frozen=True)
class ServerFacts:
    """What a server told in its answer to the init. ``capabilities`` is empty for a stock one.

    Attributes:
        job: whose workers' output the client is to see, in hex; empty: the server streams it, or
            nobody does.
        style: how that output is to look.
    """

    capabilities: FrozenSet[str] = frozenset()
    namespace: str = ""
    job: str = ""
    style: Style = Style("")


@dataclass(frozen=True)
class Effect:
    """Something for the shell to do."""


@dataclass(frozen=True)
class Spawn(Effect):
    """Start a server, ``delay`` seconds from now. There is no other of this session by then."""

    incarnation: int
    delay: float = 0.0


@dataclass(frozen=True)
class Terminate(Effect):
    """End the server, or its start, and reap it. ``gently``: give it time to leave."""

    gently: bool = True


@dataclass(frozen=True)
class StartGrace(Effect):
    """Feed :meth:`ProxiedSession.grace_over` in so many seconds, unless cancelled."""

    seconds: float


@dataclass(frozen=True)
class CancelGrace(Effect):
    """The client is back."""


@dataclass(frozen=True)
class BreakData(Effect):
    """End the data stream that the session has."""

    why: Refused


@dataclass(frozen=True)
class BreakLogs(Effect):
    """End the log streams that the session has. ``why`` None: without an error."""

    why: Optional[Refused]


Effects = List[Effect]


class ProxiedSession:
    """One session. Not thread-safe. Times are seconds on any clock that does not go back.

    Args:
        client_id: as sent by the client.
        secret: as sent by the client when it began the session; None from a stock client.

    Attributes:
        incarnation: of the server that is up or on its way; 0 before there is one.
        first: the incarnation that the session began with here.
        attached: whether the client has a data stream here.
        handed: the newest request id that was passed to any of the session's servers.
        ending: after the end, why the session ended.
    """

    def __init__(self, client_id: str, secret: Optional[str] = None) -> None:
        self.client_id = client_id
        self.secret = secret
        self.incarnation = 0
        self.first = 1
        self.attached = False
        self.init: Optional[SavedInit] = None
        self.facts = ServerFacts()
        self.handed: Optional[int] = None
        self.registrations = Registrations()
        self.ending = ""
        self._machine: Machine[State, Input] = Machine("proxied session", TABLE, State.NEW)
        self._deaths = Deaths(GRACE_BEFORE_INIT_S)
        self._up_since: Optional[float] = None

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def _grace(self) -> float:
        return GRACE_BEFORE_INIT_S if self.init is None else self.init.grace

    # -- the client

    def hand(self, req_id: int) -> None:
        """A request is about to be passed to the server: from now on it may have had its effect."""
        tracked = 0 < req_id <= INT32_MAX
        if tracked and (self.handed is None or id_is_newer(req_id, self.handed)):
            self.handed = req_id

    def attach(self) -> Effects:
        """A data stream of the client has come; one that is still there gives way to it."""
        self._machine.feed(Input.ATTACH)
        if self.attached:
            text = "A newer data stream of the same client has taken this session over."
            return [BreakData(Refused("ABORTED", text, wire.REASON_SUPERSEDED))]
        self.attached = True
        return [CancelGrace()]

    def begin(self, init: SavedInit) -> Effects:
        """The init message has come."""
        self._machine.feed(Input.INIT)
        self.init = init
        self._deaths = Deaths(init.grace)
        self.first = self.incarnation = init.after + 1
        # Now it is known that what is newer than the init was not passed on, whatever comes.
        self.hand(init.req_id)
        return [Spawn(self.incarnation)]

    def client_gone(self) -> Effects:
        """The data stream has ended, not by the client's wish."""
        if self._grace <= 0:
            return self.cleanup("the connection was lost and the reconnect grace period is 0")
        self._machine.feed(Input.CLIENT_GONE)
        self.attached = False
        return [StartGrace(self._grace)]

    def cleanup(self, why: str) -> Effects:
        """The session has been ended by the client, or can't go on for a fault of the client's."""
        return self._end(Input.CLEANUP, why)

    def grace_over(self) -> Effects:
        """The client has stayed away for the whole grace period."""
        why = f"its client did not come back within the grace period of {self._grace:g} s"
        return self._end(Input.GRACE_OVER, why)

    # -- the server

    def server_up(self, now: float, facts: ServerFacts) -> Effects:
        """The server that was spawned has answered the init."""
        fed = Input.SERVER_UP if self.attached else Input.SERVER_UP_UNATTENDED
        self._machine.feed(fed)
        self._up_since = now
        # What a later server tells must not move the session to another namespace.
        namespace = self.facts.namespace or facts.namespace
        self.facts = replace(facts, namespace=namespace)
        return []

    def start_failed(self, now: float, why: str) -> Effects:
        """The server that was spawned did not come up."""
        delay = None
        if self._machine.can(Input.START_FAILED):
            delay = self._deaths.another(now, None)
        if delay is None:
            return self._end(Input.START_FAILED_FOR_GOOD, why)
        self._machine.feed(Input.START_FAILED)
        return [Spawn(self.incarnation, delay)]

    def server_exited(self, now: float, how: str) -> Effects:
        """The server's process is gone and reaped. ``how``: what is known of its end."""
        delay = self._deaths.another(now, self._up_since) if self._grace > 0 else None
        self._up_since = None
        text = f"The server of this session died: {how}"
        if delay is None:
            return self._end(Input.SERVER_EXITED_FOR_GOOD, text)
        self._machine.feed(Input.SERVER_EXITED)
        self.incarnation += 1
        return [*self._break(self._died(text)), Spawn(self.incarnation, delay)]

    def shutdown(self) -> Effects:
        """The proxier ends."""
        return self._end(Input.SHUTDOWN, "the Ray Client proxy server is shutting down")

    # -- refusals

    def refusal(self) -> Refused:
        """How to refuse a call because the session has ended."""
        return Refused(
            "NOT_FOUND",
            "Attempted to reconnect a session that has already been cleaned up: " + self.ending,
            wire.REASON_SESSION_GONE,
        )

    def recreating(self) -> Refused:
        """How to put a call off while there is no server."""
        return Refused(
            "UNAVAILABLE",
            "The server of this session died and is being started anew.",
            wire.REASON_RECREATING,
            self.incarnation,
        )

    def _died(self, text: str) -> Refused:
        return Refused("UNAVAILABLE", text, wire.REASON_SERVER_DIED, self.incarnation)

    def _break(self, why: Refused) -> Effects:
        attached, self.attached = self.attached, False
        # Log streams go on: workers may print while there is no server.
        return [BreakData(why), StartGrace(self._grace)] if attached else []

    def _end(self, fed: Input, why: str) -> Effects:
        self._machine.feed(fed)
        self.ending = why
        attached, self.attached = self.attached, False
        effects: Effects = [CancelGrace()]
        if attached and fed in _REASONS:
            code, reason = _REASONS[fed]
            effects.append(BreakData(Refused(code, why, reason)))
        effects.append(BreakLogs(None if fed is Input.CLEANUP else self.refusal()))
        self.registrations = Registrations()
        return [*effects, Terminate(gently=fed is not Input.SHUTDOWN)]


# How an attached data stream learns of the session's end. A failed start is told in the answer to
# the init, and a clean-up is what the stream itself asked for.
_REASONS = {
    Input.SERVER_EXITED_FOR_GOOD: ("UNAVAILABLE", wire.REASON_SERVER_DIED),
    Input.SHUTDOWN: ("UNAVAILABLE", wire.REASON_SHUTTING_DOWN),
}
