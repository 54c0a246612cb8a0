"""Runs the main thread's gRPC calls on other threads.

Ctrl-C interrupts the main thread between any two steps, inside gRPC too, which then may keep a
lock that all calls of the channel need. Other threads are never interrupted, so they make the
calls, while the main thread waits for a ``Slot``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from ray.util.client.slot import Slot


class Abandoned(Exception):
    """The caller was interrupted, and nobody waits for the outcome any more."""


class Errand:
    """One call under way.

    Attributes:
        wanted: whether the caller still waits.
        outcome: what the call came to.
    """

    def __init__(self, call: Callable[[Errand], Any]) -> None:
        self._call = call
        self.wanted = True
        self.outcome = Slot()

    def check(self) -> None:
        """Raises :class:`Abandoned` where nobody waits any more."""
        if not self.wanted:
            raise Abandoned()

    def run(self) -> None:
        """Makes the call, on the thread that calls this."""
        try:
            self.outcome.set_result(self._call(self))
        except BaseException as e:  # The caller's to see, whatever it is.
            self.outcome.set_exception(e)


class Aside:
    """Makes calls: the main thread's on threads of its own, others' on the spot. Thread-safe.

    There is always one thread idle, so that a call that is still being ended after an interruption
    keeps none waiting. Threads start threads: starting one is not safe to interrupt, either.
    """

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._closed = False
        self._add_thread()

    def run(self, call: Callable[[Errand], Any]) -> Any:
        """Returns what ``call(errand)`` returns, and raises what it raises.

        The call is to look at ``errand.wanted`` wherever it may take long.
        """
        errand = Errand(call)
        if threading.current_thread() is not threading.main_thread():
            return call(errand)
        self._errands.put(errand)
        if self._closed:
            self._run_the_rest()
        try:
            return errand.outcome.result()
        finally:
            errand.wanted = False

    def close(self) -> None:
        """Ends the threads, each when its call has ended. Idempotent."""
        self._closed = True
        self._errands.put(None)

    def _run_the_rest(self) -> None:
        """The threads may be gone."""
        try:
            while True:
                errand = self._errands.get_nowait()
                if errand is not None:
                    errand.run()
        except queue.Empty:
            self._errands.put(None)  # If they are not.

    def _add_thread(self) -> None:
        threading.Thread(target=self._serve, name="ray_client_caller", daemon=True).start()
        self._idle += 1

    def _keep_one_idle(self) -> None:
        with self._lock:
            self._idle -= 1
            if self._idle == 0:
                try:
                    self._add_thread()
                except RuntimeError:  # There can't be more; this one goes on after its errand.
                    pass

    def _serve(self) -> None:
        while True:
            errand = self._errands.get()
            if errand is None:
                self._errands.put(None)  # For the other threads.
                return
            self._keep_one_idle()
            errand.run()
            del errand
            with self._lock:
                if self._idle >= 1:
                    return
                self._idle += 1
