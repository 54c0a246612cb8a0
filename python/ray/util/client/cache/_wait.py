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
    """

    __slots__ = ("_ended", "_outcome", "_refusal")

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._outcome: Any = None
        self._refusal: CacheError | None = None

    def answer(self, outcome: Any) -> None:
        """Wakes the waiters, which return `outcome`: a response, or an exception as a value."""
        self._outcome = outcome
        self._ended.set()

    def refuse(self, error: CacheError) -> None:
        """Wakes the waiters, which raise `error`."""
        self._refusal = error
        self._ended.set()

    def result(self, req_id: int, timeout: float | None) -> Any:
        """Waits for the outcome, for at most `timeout` seconds (None: until there is one).

        Raises:
            WaitTimeoutError: the time is up; `req_id` is named in the text.
            CacheError: the cache gave up the request.
        """
        if not self._ended.wait(timeout):
            raise WaitTimeoutError(req_id, 0.0 if timeout is None else timeout)
        if self._refusal is not None:
            # A copy: each waiting thread needs a traceback of its own.
            raise type(self._refusal)(*self._refusal.args)
        return self._outcome
