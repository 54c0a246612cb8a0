"""The thread that ends a server's sessions when their time is over."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Callable, List, Optional

from ray.util.client.server.sessions import Session, Sessions

logger = logging.getLogger(__name__)


class StopFlag(threading.Event):
    """An event whose setting wakes those who wait on a condition. Thread-safe."""

    def __init__(self, woken: threading.Condition) -> None:
        super().__init__()
        self._woken = woken

    def set(self) -> None:
        super().set()
        with self._woken:
            self._woken.notify_all()


class Reaper:
    """Ends sessions, one after another, on a thread of its own that begins with the first one.

    After ``stopped`` is set the detached sessions' time is over at once; the thread ends when the
    last session has.

    Args:
        sessions: what to look at; only with ``changed`` held.
        changed: guards the sessions; notified when one was attached or detached.
        stopped: whether the server is.
        end: called for each session that is over, without the lock held.
    """

    def __init__(
        self,
        sessions: Sessions,
        changed: threading.Condition,
        stopped: threading.Event,
        end: Callable[[Session], None],
    ) -> None:
        self._sessions = sessions
        self._changed = changed
        self._stopped = stopped
        self._end = end
        self._thread: Optional[threading.Thread] = None

    def ensure_running(self) -> None:
        """Starts the thread unless it runs. To be called with ``changed`` held."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="ray_client_session_reaper", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        while True:
            over = self._wait()
            if not over:
                return
            for session in over:
                try:
                    self._end(session)
                except Exception:  # One session's end must not keep the others for ever.
                    logger.exception("Ending the session of %s failed.", session.client_id)

    def _wait(self) -> List[Session]:
        """Waits for sessions that are over; none means that the thread's work is done."""
        with self._changed:
            while True:
                stopped = self._stopped.is_set()
                over = self._sessions.take_over(math.inf if stopped else time.monotonic())
                if over:
                    return over
                if stopped and not len(self._sessions):
                    self._thread = None
                    return []
                wait_s = self._sessions.next_expiry() - time.monotonic()
                # Nobody waits for long enough to tell a day from ever; inf is no timeout.
                self._changed.wait(min(max(wait_s, 0.0), 86400.0))
