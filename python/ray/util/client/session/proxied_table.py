"""Which sessions a proxier has, had, and whom it lets near them."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Dict, Iterator, Optional

from ray.util.client.session import wire
from ray.util.client.session.proxied import ProxiedSession, Refused

# How many ended sessions are remembered, to tell late clients why theirs ended.
TOMBSTONES = 1000


@dataclass(frozen=True)
class Caller:
    """Who calls, as told by a call's metadata.

    Attributes:
        client_id: empty where the call names none.
        secret: None from a stock client.
        incarnation: the server that the caller believes in; None where it does not tell.
        reconnecting: whether a data stream is to carry an earlier session on.
    """

    client_id: str
    secret: Optional[str] = None
    incarnation: Optional[int] = None
    reconnecting: bool = False


@dataclass(frozen=True)
class _Tombstone:
    secret: Optional[str]
    refusal: Refused


def _fits(secret: Optional[str], shown: Optional[str]) -> bool:
    # A session that was begun without a secret is a stock client's and can't ask for one.
    if secret is None:
        return True
    return hmac.compare_digest(secret.encode(), (shown or "").encode())


def _wrong_secret() -> Refused:
    text = "This call does not show the secret of the session that it names."
    return Refused("PERMISSION_DENIED", text, wire.REASON_SECRET)


def unknown_session() -> Refused:
    """How to refuse to carry on a session of which nothing is known: its client may begin anew."""
    return Refused(
        "NOT_FOUND",
        "Attempted to reconnect a session that has already been cleaned up: this proxy server "
        "does not know it; it may have been restarted since.",
        wire.REASON_SESSION_UNKNOWN,
    )


class SessionTable:
    """The sessions by client id. Not thread-safe.

    Args:
        tombstones: how many ended sessions to remember at most.
    """

    def __init__(self, tombstones: int = TOMBSTONES) -> None:
        self._sessions: Dict[str, ProxiedSession] = {}
        self._buried: OrderedDict[str, _Tombstone] = OrderedDict()
        self._tombstones = tombstones

    def __len__(self) -> int:
        """How many clients have a session, those within their grace period included."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[ProxiedSession]:
        return iter(list(self._sessions.values()))

    def open(self, caller: Caller) -> ProxiedSession:
        """Begins a session.

        Raises:
            Refused: no client id, or one that has a session already.
        """
        self._require_id(caller)
        known = self._sessions.get(caller.client_id)
        if known is not None:
            own = known.secret is not None and _fits(known.secret, caller.secret)
            raise Refused(
                "FAILED_PRECONDITION",
                f"Client id {caller.client_id} has a session already; a client that has lost its "
                "connection must say that it reconnects.",
                wire.REASON_SESSION_KNOWN if own else None,
            )
        self._buried.pop(caller.client_id, None)
        session = ProxiedSession(caller.client_id, caller.secret)
        self._sessions[caller.client_id] = session
        return session

    def reconnect(self, caller: Caller) -> ProxiedSession:
        """Finds the session that a reconnecting data stream is to carry on.

        An incarnation lower than the session's is no fault here: this stream is how the client
        learns of the new one.

        Raises:
            Refused: no client id, no such session (any more), or not this caller's.
        """
        session = self.find(caller, any_incarnation=True)
        if session is None:
            raise unknown_session()
        return session

    def find(self, caller: Caller, any_incarnation: bool = False) -> Optional[ProxiedSession]:
        """Finds the caller's session; None if there never was one, as far as is remembered.

        Raises:
            Refused: no client id, a session that has ended, is not this caller's, or whose
                incarnation is another than the caller believes.
        """
        self._require_id(caller)
        session = self._sessions.get(caller.client_id)
        if session is None:
            self._refuse_buried(caller)
            return None
        if not _fits(session.secret, caller.secret):
            raise _wrong_secret()
        told = caller.incarnation
        if told is not None and told != session.incarnation and not any_incarnation:
            raise Refused(
                "FAILED_PRECONDITION",
                f"This call is meant for server number {told} of the session, which has number "
                f"{session.incarnation} now.",
                wire.REASON_STALE_INCARNATION,
                session.incarnation,
            )
        return session

    def bury(self, session: ProxiedSession) -> None:
        """Takes an ended session out and remembers why it ended, if it had begun."""
        if self._sessions.get(session.client_id) is not session:
            return
        del self._sessions[session.client_id]
        if session.init is None:
            return
        self._buried[session.client_id] = _Tombstone(session.secret, session.refusal())
        while len(self._buried) > self._tombstones:
            self._buried.popitem(last=False)

    def _refuse_buried(self, caller: Caller) -> None:
        tombstone = self._buried.get(caller.client_id)
        if tombstone is None:
            return
        if not _fits(tombstone.secret, caller.secret):
            raise _wrong_secret()
        raise Refused(*tombstone.refusal.args)

    @staticmethod
    def _require_id(caller: Caller) -> None:
        if not caller.client_id:
            text = "This call has no client id in its metadata."
            raise Refused("FAILED_PRECONDITION", text)
