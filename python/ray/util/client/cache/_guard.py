"""The guard of a cache's state."""

from __future__ import annotations

import threading

from ray.util.client.cache.errors import CacheBusyError


class Guard:
    """Lets one thread in at a time, and none of them twice.

    The garbage collector may run destructors in the midst of a call of a cache, and one of them
    may call the same cache. It would wait for its own thread, or find the state half changed; it
    gets an error instead.

    Raises (on entering):
        CacheBusyError: the thread is inside already.
    """

    __slots__ = ("_inside", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inside = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._inside:
            self._lock.release()
            raise CacheBusyError()
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False
        self._lock.release()
