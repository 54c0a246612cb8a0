"""How patient a session is with servers that keep dying: when to try again, when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
# A server that has served this long has shown that it can: the next death is a first one again.
SETTLED_S = 30.0
# One that died sooner than this after it was up never really served.
STILLBORN_S = 5.0
# So many such servers in a row, over a whole grace period, are a loop and not bad luck.
HOPELESS_AFTER = 10


@dataclass
class Deaths:
    """The run of deaths of one session's servers.

    Times are seconds on any clock that does not go back.
    """

    grace: float
    _quick: int = 0
    _stillborn: int = 0
    _first: Optional[float] = None

    def another(self, now: float, up_since: Optional[float]) -> Optional[float]:
        """Counts a death, or a failed start.

        Args:
            now: when the server died.
            up_since: when it had become able to serve; None if it never was.

        Returns:
            Seconds to wait before the next server is started, 0 for the first in a run; None to
            give up. Never gives up before the grace period has passed since the run's first death.
        """
        served = -1.0 if up_since is None else now - up_since
        if served >= SETTLED_S:
            self._quick = 0
        if served >= STILLBORN_S:
            self._stillborn, self._first = 0, None
        if self._first is None:
            self._first = now
        self._stillborn += 1
        if self._stillborn >= HOPELESS_AFTER and now - self._first >= self.grace:
            return None
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (self._quick - 1)) if self._quick else 0.0
        self._quick += 1
        return delay
