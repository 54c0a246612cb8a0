"""What a user can see of a session."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple


class SessionState(enum.Enum):
    """Whether calls are answered.

    CONNECTED: they are. SUSPENDED: they wait; the session may come back. LOST: they raise, for the
    session is over; CLOSED: by ``ray.shutdown()``.
    """

    CONNECTING = "connecting"
    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"
    CLOSED = "closed"


class SessionInfo(NamedTuple):
    """A session at one moment.

    Attributes:
        state: see :class:`SessionState`.
        incarnation: which of the session's servers answers, from 1; None with a stock cluster.
        recoveries: how many interruptions it has come back from.
        restored: objects, functions and actors put back since the last server's death.
        resubmitted: tasks and actor calls submitted again since then.
        lost: what could not be restored since then: how many, by reason.
        last_recovery_s: seconds that the last interruption took; None if there was none.
        journal_bytes: what the session keeps in order to restore things, in bytes.
        journal_entries: how many things it could restore.
        journal_spilled_bytes: what it keeps on disk beyond that, in bytes.
    """

    state: SessionState
    incarnation: int | None
    recoveries: int
    restored: int
    resubmitted: int
    lost: Mapping[str, int]
    last_recovery_s: float | None
    journal_bytes: int
    journal_entries: int
    journal_spilled_bytes: int = 0
