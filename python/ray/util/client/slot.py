"""A future whose waiters may be interrupted by Ctrl-C at any point.

The standard library's Future is guarded by a Condition. A signal's handler runs between any two
steps of the main thread, also right after such a guard was locked and before the code that would
unlock it: the thread that brings the answers then waits for the guard for ever, and with it the
whole session. Here each waiter has a bare lock of its own, so an interrupted one leaves nothing
behind that anybody waits for. The same holds for gRPC's streams, which is why user's threads touch
none that share a thread with other calls.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from ray.util.client.sent import opened

# How late Ctrl-C may be noticed, in seconds.
_SLICE_S = 0.2


class _Unset:
    """The outcome of a slot that waits for one."""


class Slot(Future):
    """One outcome, a value or an exception, set once. Thread-safe; can't be cancelled.

    An error that a server has sent is read by the first that asks for it, on its own thread. It may
    be used wherever a ``concurrent.futures.Future`` is only waited for.
    """

    # Without Future's own state, and its guard, on purpose.
    def __init__(self) -> None:
        self._value: Any = _Unset
        self._error: BaseException | None = None
        self._gates: list[Any] = []
        self._done_callbacks: list[Callable[[Any], None]] = []

    def __repr__(self) -> str:
        return f"<Slot {'done' if self.done() else 'waiting'}>"

    def done(self) -> bool:
        return self._value is not _Unset

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return not self.done()

    @property
    def succeeded(self) -> bool:
        """Whether there is a value. Never reads an error that a server has sent."""
        return self.done() and self._error is None

    def set_result(self, result: Any) -> None:
        self._settle(result)

    def set_exception(self, exception: BaseException | None) -> None:
        self._error = exception
        self._settle(None)

    def _settle(self, value: Any) -> None:
        self._value = value
        # Whoever adds to these lists looks at the value after it: none is left out.
        while True:
            try:
                gate = self._gates.pop()
            except IndexError:  # The last one, or its waiter has just given up.
                break
            gate.release()
        self._call_back()

    def _call_back(self) -> None:
        while self._done_callbacks:
            try:
                callback = self._done_callbacks.pop(0)
            except IndexError:  # Taken by another thread.
                return
            callback(self)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls ``fn(self)`` when there is an outcome: at once, or on the thread that brings it."""
        self._done_callbacks.append(fn)
        if self.done():
            self._call_back()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the outcome, at most ``timeout`` seconds. Returns whether there is one."""
        if self._value is _Unset:
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
            if self._value is _Unset and not _acquired(gate, timeout):
                self._forget(gate)
        return self._value is not _Unset

    def _forget(self, gate: Any) -> None:
        try:
            self._gates.remove(gate)
        except ValueError:  # The outcome has just come.
            pass

    def result(self, timeout: float | None = None) -> Any:
        """The value; raises the exception, or ``concurrent.futures.TimeoutError`` after ``timeout``
        seconds."""
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                error = None  # The traceback refers to this frame.
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self.wait(timeout):
            raise FutureTimeout()
        if self._error is not None:
            self._error = opened(self._error)
        return self._error


def _acquired(gate: Any, timeout: float | None) -> bool:
    """Waits for a lock, at most ``timeout`` seconds. Returns whether it was acquired."""
    if threading.current_thread() is not threading.main_thread():
        limit = -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
        return gate.acquire(timeout=limit)
    # In slices: a signal that comes just before the lock is waited for does not end the wait.
    give_up_at = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = give_up_at - time.monotonic()
        if gate.acquire(timeout=min(max(left, 0), _SLICE_S)):
            return True
        if left <= _SLICE_S:
            return False
