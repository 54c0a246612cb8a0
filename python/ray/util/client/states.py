"""Tells listeners of a session's changes, on a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from ray.util.client import ray
from ray.util.client.session.info import SessionInfo

logger = logging.getLogger(__name__)

Listener = Callable[[SessionInfo], None]


class Listeners:
    """Calls listeners in the order of the changes. Thread-safe.

    A listener may block and may use the session: it holds up other listeners, nothing else. What
    one raises is logged.

    Args:
        context: the client context of the session.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        self._changes: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, listener: Listener) -> None:
        """Calls ``listener`` with every change from now on; once, however often it is added."""
        with self._lock:
            if listener not in self._listeners:
                self._listeners = (*self._listeners, listener)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="ray_client_listeners", daemon=True
                )
                self._thread.start()

    def remove(self, listener: Listener) -> None:
        """Calls ``listener`` no more. Nothing happens if it was not added."""
        with self._lock:
            self._listeners = tuple(known for known in self._listeners if known != listener)

    def tell(self, info: SessionInfo) -> None:
        """The session has changed. Never blocks, and calls nobody itself."""
        if self._listeners:
            self._changes.put(info)

    def close(self) -> None:
        """Tells what has happened so far, then nothing more."""
        self._changes.put(None)

    def _run(self) -> None:
        ray.set_context(self._context)
        while (info := self._changes.get()) is not None:
            for listener in self._listeners:
                try:
                    listener(info)
                except BaseException:  # It is the user's, and may raise anything.
                    logger.exception("A listener of the Ray Client session failed.")
