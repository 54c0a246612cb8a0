"""Runs programs' callbacks, which may do anything, on a thread that nothing else needs."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

Call = tuple[Callable[[Any], None], Any]


class Callbacks:
    """A thread that makes calls, one after another, in the order in which they came. Thread-safe.

    The session's data thread must not make them: one that waits for the session would wait for an
    answer that only this thread can bring.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="ray_client_callbacks", daemon=True)
        self._thread.start()

    def call(self, callback: Callable[[Any], None], value: Any) -> None:
        """Puts ``callback(value)`` in line. Never waits, but after the thread's end: then it is
        made here. What it raises is logged."""
        self._calls.put((callback, value))
        if self._over:
            self._make_the_rest()

    def close(self) -> None:
        """Ends the thread when it has made the calls that are in line. Does not wait for them."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            _make(*call)
            del call  # What it holds may be waited for.
        self._over = True
        self._make_the_rest()

    def _make_the_rest(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                _make(*call)


def _make(callback: Callable[[Any], None], value: Any) -> None:
    try:
        callback(value)
    except Exception:
        logger.exception("A program's callback for an object failed.")
