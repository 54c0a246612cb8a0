"""What a data stream's handler has to do next: requests that came in, results that are ready."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Deque, NamedTuple, Optional, Tuple

# Requests that were read but not yet handled, in bytes. Reading waits while there are more, which
# makes gRPC hold the client back.
MAX_UNHANDLED_BYTES = 64 * 2**20


class Ready(NamedTuple):
    """The value, or exception, of an object that a client asked for."""

    req_id: int
    value: Any
    first_chunk: int


class Answer(NamedTuple):
    """A response that is ready to be sent, to a request that was not answered in its turn."""

    response: Any


class Closed(NamedTuple):
    """Nothing more will come. ``superseded``: because a newer stream has taken over."""

    superseded: bool = False


class Inbox:
    """Requests, in order, and results; bounded for requests. Thread-safe, for one taker.

    Results never wait for room, because they are put by threads of Ray that must not block; a
    client that asks for many objects has them all in memory anyway.
    """

    def __init__(self, max_bytes: int = MAX_UNHANDLED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._items: Deque[Tuple[Any, int]] = deque()
        self._bytes = 0
        self._closed: Optional[Closed] = None

    def put_request(self, request: Any, size: int) -> bool:
        """Adds a request of ``size`` bytes; waits for room. False if the inbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._bytes < self._max_bytes)
            if self._closed:
                return False
            self._bytes += size
            self._items.append((request, size))
            self._changed.notify_all()
            return True

    @property
    def closed(self) -> bool:
        """Whether nothing more is let in."""
        return self._closed is not None

    def put_result(self, result: Any) -> None:
        """Adds a result; drops it if the inbox is closed."""
        with self._changed:
            if not self._closed:
                self._items.append((result, 0))
                self._changed.notify_all()

    def end(self) -> None:
        """No more requests will come. What is in the inbox is still taken."""
        with self._changed:
            self._items.append((Closed(), 0))
            self._changed.notify_all()

    def close(self, *, superseded: bool = False) -> None:
        """Drops what is in the inbox and lets nothing more in."""
        with self._changed:
            self._closed = self._closed or Closed(superseded)
            dropped, self._items = self._items, deque()
            self._changed.notify_all()
        dropped.clear()

    def take(self, *, wait: bool) -> Any:
        """Takes the next request, ``Ready`` or ``Closed``.

        Args:
            wait: whether to wait for one; without, None is returned where there is none.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._items)
            if self._closed:
                return self._closed
            if not self._items:
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            if size:
                self._changed.notify_all()
            return item
