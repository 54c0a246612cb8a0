"""The cache for unary calls: the last response of each client thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from ray.util.client.cache._guard import Guard
from ray.util.client.cache._ids import id_is_newer
from ray.util.client.cache._limits import DEFAULT_MAX_THREADS, positive_limit
from ray.util.client.cache._wait import Wait
from ray.util.client.cache.errors import (
    AlreadyAnsweredError,
    CacheClosedError,
    CacheError,
    CacheFullError,
    EvictedError,
    SupersededError,
    UnknownRequestError,
)


class _Call:
    """A thread's latest request. `value` is the response, or until `ended` its Wait, if any."""

    __slots__ = ("ended", "req_id", "value")

    def __init__(self, req_id: int) -> None:
        self.req_id = req_id
        self.ended = False
        self.value: Any = None

    def refuse_waiters(self, error: CacheError) -> None:
        if not self.ended and self.value is not None:
            self.value.refuse(error)


class ResponseCache:
    """Remembers the last request of each thread of a client, so that a repeated one runs once.

    A thread makes one blocking call at a time, so its next request says that it has the
    response to the last; no acknowledgement is needed. All threads of a client draw their ids
    from one counter.

    At most `max_threads` threads are remembered. The one whose answered call is the oldest is
    forgotten for a new one; requests of unknown threads that are not newer than any forgotten
    one are refused, since they may have run.

    All methods may be called from any thread. Only waiting duplicates block. A destructor that runs
    in the midst of a call of the cache gets a CacheBusyError from it.
    """

    def __init__(self, max_threads: int = DEFAULT_MAX_THREADS) -> None:
        """Makes an empty cache; raises ValueError if the bound is below 1."""
        self._max_threads = positive_limit("max_threads", max_threads)
        self._calls_lock = Guard()
        self._calls: OrderedDict[Hashable, _Call] = OrderedDict()
        self._forgotten: int | None = None  # the newest request id of a forgotten thread
        self._closed = False
        self._close_reason: BaseException | None = None

    def check_cache(
        self, thread_id: Hashable, request_id: int, timeout: float | None = None
    ) -> Any:
        """Returns the response to the thread's request, or None if the caller has to run it.

        If the request is being run already, waits up to `timeout` seconds for the outcome
        (None: until it is answered, superseded, or the cache closed). For a failed request the
        exception is returned, not raised.

        Raises:
            SupersededError: the thread has a newer request, or made one during the wait.
            EvictedError: the thread was forgotten.
            CacheFullError: a new thread, and all remembered ones have calls running.
            WaitTimeoutError: a duplicate, and the original did not end in time.
            CacheClosedError: the cache is closed, or was while waiting.
        """
        superseded: _Call | None = None
        with self._calls_lock:
            if self._closed:
                raise CacheClosedError(request_id, self._close_reason)
            call = self._calls.get(thread_id)
            if call is not None and call.req_id == request_id:
                if call.ended:
                    return call.value
                if call.value is None:
                    call.value = Wait()
                wait = call.value
            else:
                if call is None:
                    self._admit(request_id)
                elif not id_is_newer(request_id, call.req_id):
                    raise SupersededError(request_id, call.req_id)
                superseded = call
                wait = None
                self._calls[thread_id] = _Call(request_id)
                self._calls.move_to_end(thread_id)
        if superseded is not None:
            superseded.refuse_waiters(SupersededError(superseded.req_id, request_id))
        return None if wait is None else wait.result(request_id, timeout)

    def update_cache(self, thread_id: Hashable, request_id: int, response: Any) -> None:
        """Keeps `response`, or an exception, as the outcome and hands it to those who wait.

        Raises:
            UnknownRequestError: `check_cache` was not called for it.
            SupersededError: the thread has a newer request.
            AlreadyAnsweredError: there is an outcome already.
            CacheClosedError: the cache is closed.
        """
        with self._calls_lock:
            if self._closed:
                raise CacheClosedError(request_id, self._close_reason)
            call = self._calls.get(thread_id)
            if call is None:
                raise UnknownRequestError(request_id)
            if call.req_id != request_id:
                raise SupersededError(request_id, call.req_id)
            if call.ended:
                raise AlreadyAnsweredError(request_id)
            wait = call.value
            call.value = response
            call.ended = True
        if wait is not None:
            wait.answer(response)

    def close(self, error: BaseException | None = None) -> None:
        """Drops everything and ends all waits with a CacheClosedError that names `error`.

        From then on checks and updates raise CacheClosedError. A second call does nothing.
        """
        with self._calls_lock:
            if self._closed:
                return
            self._closed = True
            self._close_reason = error
            calls, self._calls = self._calls, OrderedDict()
        for call in calls.values():
            call.refuse_waiters(CacheClosedError(call.req_id, error))

    @property
    def cache(self) -> dict[Hashable, tuple[int, Any]]:
        """A snapshot: thread id to (request id, response; None while the request runs)."""
        with self._calls_lock:
            return {
                thread_id: (call.req_id, call.value if call.ended else None)
                for thread_id, call in self._calls.items()
            }

    def _admit(self, request_id: int) -> None:
        """Makes room for one more thread. Needs _calls_lock to be held."""
        if self._forgotten is not None and not id_is_newer(request_id, self._forgotten):
            raise EvictedError(request_id)
        if len(self._calls) < self._max_threads:
            return
        oldest = next((key for key, call in self._calls.items() if call.ended), None)
        if oldest is None:
            raise CacheFullError(request_id, self._max_threads)
        gone = self._calls.pop(oldest).req_id
        if self._forgotten is None or id_is_newer(gone, self._forgotten):
            self._forgotten = gone
