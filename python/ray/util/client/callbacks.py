"""Runs programs' callbacks, which may do anything, on a thread that nothing else needs."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from ray.util.client import ray

logger = logging.getLogger(__name__)

# For how long the end waits for callbacks that are still to run, in seconds.
PATIENCE_S = 10.0

Call = tuple[Callable[[Any], None], Any]


class Callbacks:
    """A thread that makes calls, one after another, in the order in which they came. Thread-safe.

    The session's data thread must not make them: one that waits for the session would wait for an
    answer that only this thread can bring.

    Args:
        context: the client context that the calls, and what they unpickle, belong to.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
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

    def tell(self, callback: Callable[[Any], None], read: Callable[[], Any]) -> None:
        """As :meth:`call`, with a value that is read on the thread, too: reading it may run code of
        the program's. The value is what that raises, if it raises."""
        self.call(lambda _: callback(_outcome(read)), None)

    def close(self) -> None:
        """Ends the thread when it has made the calls that are in line. Does not wait for them."""
        self._calls.put(None)

    def join(self) -> None:
        """Waits, for a while, until the thread has ended, unless it is the one that asks."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            logger.warning(
                "A callback of an object is still running %g s after ray.shutdown(); it is not "
                "waited for any longer.",
                PATIENCE_S,
            )

    def _run(self) -> None:
        ray.set_context(self._context)
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


def _outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as e:  # A result that does not unpickle here fails its own get only.
        return e
    except BaseException as e:
        error = RuntimeError(f"Reading the value has raised {e!r}")
        error.__cause__ = e
        return error


def _make(callback: Callable[[Any], None], value: Any) -> None:
    try:
        callback(value)
    except BaseException:  # SystemExit, say, must not end the thread either.
        logger.exception("A program's callback for an object failed.")
