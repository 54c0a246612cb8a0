"""The sessions that a server serves: who is connected, who may come back, and until when.

Decides only: no I/O, threads or clock. The owner serialises the calls.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

from ray.util.client.cache import OrderedResponseCache
from ray.util.client.server.handouts import Handouts
from ray.util.client.session.machine import Machine, Table


class State(enum.Enum):
    """A session is ATTACHED while a data stream's handler runs for it."""

    ATTACHED = enum.auto()
    DETACHED = enum.auto()
    ENDED = enum.auto()


class Input(enum.Enum):
    STREAM_BEGAN = enum.auto()
    STREAM_LEFT = enum.auto()  # and another one is still there
    LAST_STREAM_LEFT = enum.auto()
    OVER = enum.auto()


TABLE: Table[State, Input] = {
    (State.ATTACHED, Input.STREAM_BEGAN): State.ATTACHED,
    (State.ATTACHED, Input.STREAM_LEFT): State.ATTACHED,
    (State.ATTACHED, Input.LAST_STREAM_LEFT): State.DETACHED,
    (State.DETACHED, Input.STREAM_BEGAN): State.ATTACHED,
    (State.DETACHED, Input.OVER): State.ENDED,
}


class Refused(Exception):
    """The stream can't have a session."""


class ServerFull(Refused):
    """No more clients are admitted."""


class SessionGone(Refused):
    """There is no session to come back to."""


class Session:
    """What a server keeps of one client between data streams.

    Attributes:
        client_id: as the client minted it.
        incarnation: of this server in the session.
        cache: the responses that the client has not acknowledged.
        initialised: whether its job was begun.
        grace_s: seconds for which its state outlives a lost stream; 0 before it is initialised.
        asked_to_end: it ends with its stream, without grace.
        wound_up: what the server held for it is gone, and Ray with the last client's.
        capabilities: what the client told that it can do.
        current: the stream that serves it; older ones may still be finishing a request.
        streams: those and it, each with its hand-outs.
    """

    def __init__(self, client_id: str, incarnation: int) -> None:
        self.client_id = client_id
        self.incarnation = incarnation
        self.cache = OrderedResponseCache()
        self.initialised = False
        self.grace_s = 0.0
        self.asked_to_end = False
        self.wound_up = False
        self.capabilities: FrozenSet[str] = frozenset()
        self.current: Any = None
        self.streams: Dict[Any, Handouts] = {}
        self._handouts = Handouts()
        self.expires_at = math.inf
        self.machine: Machine[State, Input] = Machine("session", TABLE, State.ATTACHED)

    def begin(self, stream: Any) -> None:
        """A stream serves it from now on."""
        self._handouts = self.streams[stream] = self._handouts.succeed()
        self.current = stream

    @property
    def caches(self) -> bool:
        """Whether requests may be repeated: not by a client that does not reconnect."""
        return self.grace_s > 0 or not self.initialised


class Attached(NamedTuple):
    """A stream got its session; ``superseded`` is the stream that has to leave for it."""

    session: Session
    superseded: Optional[Any]


class Sessions:
    """All sessions of a server.

    Args:
        max_clients: how many are admitted at a time; may be changed at any time.
    """

    def __init__(self, max_clients: int) -> None:
        self.max_clients = max_clients
        self._by_client: Dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_client)

    def attach(
        self, client_id: str, stream: Any, *, reconnecting: bool, incarnation: int
    ) -> Attached:
        """Gives a stream its session.

        Args:
            client_id: whose stream it is.
            stream: any hashable object that stands for it.
            reconnecting: whether the client believes that it has a session.
            incarnation: of this server in the session.

        Raises:
            SessionGone: it believes so in vain.
            ServerFull: it would be one client too many.
        """
        session = self._by_client.get(client_id)
        if session is None:
            if reconnecting:
                raise SessionGone(client_id)
            if len(self) >= self.max_clients:
                raise ServerFull(client_id)
            session = self._by_client[client_id] = Session(client_id, incarnation)
        elif session.asked_to_end:
            raise SessionGone(client_id)
        session.machine.feed(Input.STREAM_BEGAN)
        session.expires_at = math.inf
        superseded = session.current
        session.begin(stream)
        return Attached(session, superseded)

    def detach(self, session: Session, stream: Any, now: float) -> None:
        """A stream's handler is done. ``now``: seconds, on ``take_over``'s clock."""
        session.streams.pop(stream, None)
        if session.current is stream:
            session.current = None
        if session.streams:
            session.machine.feed(Input.STREAM_LEFT)
            return
        session.machine.feed(Input.LAST_STREAM_LEFT)
        session.expires_at = now if session.asked_to_end else now + session.grace_s

    def take_over(self, now: float) -> List[Session]:
        """Removes and returns the sessions whose time is over; inf takes all that are detached."""
        over = [
            session
            for session in self._by_client.values()
            if session.machine.can(Input.OVER) and session.expires_at <= now
        ]
        for session in over:
            session.machine.feed(Input.OVER)
            del self._by_client[session.client_id]
        return over

    def next_expiry(self) -> float:
        """When the next session's time will be over; inf if there is none detached."""
        return min((s.expires_at for s in self._by_client.values()), default=math.inf)
