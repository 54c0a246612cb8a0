"""The meeting point of duplicates with the request that they duplicate."""

from __future__ import annotations

import threading
from typing import Any

from ray.util.client.cache.errors import CacheError, WaitTimeoutError


class Wait:
    """Hands one request's outcome to any number of waiting duplicates.

    It is made only when somebody waits, so requests without duplicates cost no lock. The
    outcome goes straight to the waiters: they get it even if the cache has dropped the entry
    by the time they wake.

    Each waiter has a gate of its own, and nothing else is ever locked: a destructor that the
    garbage collector runs in the midst of a method may call another one.
    """

    __slots__ = ("_ended", "_gates", "_outcome", "_refusal")

    def __init__(self) -> None:
        self._ended = False
        self._gates: list[Any] = []
        self._outcome: Any = None
        self._refusal: CacheError | None = None

    def answer(self, outcome: Any) -> None:
        """Wakes the waiters, which return `outcome`: a response, or an exception as a value."""
        self._outcome = outcome
        self._end()

    def refuse(self, error: CacheError) -> None:
        """Wakes the waiters, which raise `error`."""
        self._refusal = error
        self._end()

    def _end(self) -> None:
        self._ended = True
        while True:
            try:
                self._gates.pop().release()
            except IndexError:
                return

    def result(self, req_id: int, timeout: float | None) -> Any:
        """Waits for the outcome, for at most `timeout` seconds (None: until there is one).

        Raises:
            WaitTimeoutError: the time is up; `req_id` is named in the text.
            CacheError: the cache gave up the request.
        """
        if not self._has_ended(timeout):
            raise WaitTimeoutError(req_id, 0.0 if timeout is None else timeout)
        if self._refusal is not None:
            # A copy: each waiting thread needs a traceback of its own.
            raise type(self._refusal)(*self._refusal.args)
        return self._outcome

    def _has_ended(self, timeout: float | None) -> bool:
        if self._ended:
            return True
        gate = threading.Lock()
        gate.acquire()
        self._gates.append(gate)
        # Whoever ends it looks at the gates after it has said so: none stays shut.
        limit = -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
        if not self._ended and not gate.acquire(timeout=limit):
            try:
                self._gates.remove(gate)
            except ValueError:  # The outcome has just come.
                pass
        return self._ended
