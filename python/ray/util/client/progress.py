"""Shows people that a recovery is under way, once it takes a while."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

# A shorter recovery is not worth a word.
SILENT_S = 2.0
# Between two looks at a bar, and between two lines of a log, in seconds.
_BAR_S = 0.2
_LINE_S = 5.0


class Progress:
    """A progress bar on a terminal that has tqdm; else log lines. Thread-safe.

    Args:
        done_of: tells how much of what is restored at once is done, and of how much.
    """

    def __init__(self, done_of: Callable[[], tuple[int, int]]) -> None:
        self._done_of = done_of
        self._ended: threading.Event | None = None

    def begin(self) -> None:
        """A recovery has begun. Nothing happens if one is under way."""
        if self._ended is not None:
            return
        self._ended = ended = threading.Event()
        threading.Thread(
            target=self._run, args=(ended,), name="ray_client_progress", daemon=True
        ).start()

    def end(self) -> None:
        """It is over. Does not wait."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.set()

    def _run(self, ended: threading.Event) -> None:
        if ended.wait(SILENT_S):
            return
        bar = _bar()
        if bar is None:
            self._log(ended)
            return
        with bar:
            while True:
                bar.n, bar.total = self._done_of()
                bar.refresh()
                if ended.wait(_BAR_S):
                    return

    def _log(self, ended: threading.Event) -> None:
        while True:
            done, total = self._done_of()
            if total:
                logger.warning("Restoring the session: %d of %d.", done, total)
            else:
                logger.warning("Restoring the session: waiting for a server.")
            if ended.wait(_LINE_S):
                return


def _bar() -> Any:
    """A progress bar; None where nobody would see it, or tqdm is not installed."""
    if not sys.stderr or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=0, desc="Ray Client: restoring the session", leave=False, file=sys.stderr)
