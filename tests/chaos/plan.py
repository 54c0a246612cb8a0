"""What goes wrong, when, and to whom."""

from __future__ import annotations

import enum
import itertools
import random
from dataclasses import dataclass
from typing import Iterator


class Kind(enum.Enum):
    """A fault.

    KILL: SIGKILL of a session's specific server. KILL_TWICE: of the next one, too, as soon as it is
    there. STOP: SIGSTOP of the server for a while. CUT: reset of the session's connections. DELAY:
    each piece that the link carries waits a little, for a while. REFUSE: no connection for a while.
    BLACK_HOLE: nothing gets through for a while, and nobody is told; connections of before stay
    dead. PROXIER: SIGKILL of the proxier, which is started again.
    """

    KILL = "kill"
    KILL_TWICE = "kill twice"
    STOP = "stop"
    CUT = "cut"
    DELAY = "delay"
    REFUSE = "refuse"
    BLACK_HOLE = "black hole"
    PROXIER = "proxier"


# How often each comes, out of the sum of these.
_WEIGHTS = {
    Kind.KILL: 60,
    Kind.KILL_TWICE: 8,
    Kind.STOP: 8,
    Kind.CUT: 10,
    Kind.DELAY: 5,
    Kind.REFUSE: 3,
    Kind.BLACK_HOLE: 2,
    Kind.PROXIER: 4,
}
_LONGEST_S = {
    Kind.STOP: 4.0,
    Kind.DELAY: 3.0,
    Kind.REFUSE: 2.0,
    Kind.BLACK_HOLE: 3.0,
    Kind.PROXIER: 1.0,
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        pause_s: seconds between the fault before and this one.
        kind: what it is.
        session: which session it befalls, from 0; without meaning for PROXIER.
        lasts_s: seconds, where it lasts.
    """

    pause_s: float
    kind: Kind
    session: int
    lasts_s: float = 0.0


def faults(seed: int, sessions: int, pause_s: float) -> Iterator[Fault]:
    """Faults without end, always the same ones for the same arguments.

    Args:
        seed: decides.
        sessions: how many there are.
        pause_s: seconds between two faults, on average.
    """
    chance = random.Random(seed)
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    while True:
        pause = chance.uniform(0.2, 1.8) * pause_s
        (kind,) = chance.choices(kinds, weights)
        session = chance.randrange(sessions)
        longest = _LONGEST_S.get(kind, 0.0)
        yield Fault(pause, kind, session, chance.uniform(0.2, 1.0) * longest)


def deaths(every_s: float) -> Iterator[Fault]:
    """A death of the first session's server every so many seconds, without end."""
    return itertools.repeat(Fault(every_s, Kind.KILL, session=0))
