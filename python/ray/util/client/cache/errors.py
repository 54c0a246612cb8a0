"""Errors of the response caches.

    CacheError (a RuntimeError)
    ├── InvalidRequestIdError   no client mints such an id
    ├── UnknownRequestError     answered, but never checked
    ├── AlreadyAnsweredError    answered twice
    ├── AcknowledgedError       the client has said that it holds the response
    ├── SupersededError         the same thread of the client has moved on
    ├── EvictedError            the response was dropped to stay within the bounds
    ├── CacheFullError          no room, and nothing that could be dropped
    ├── WaitTimeoutError        the original did not end within the duplicate's timeout
    ├── CacheBusyError          a destructor calls the cache in the midst of another call
    └── CacheClosedError        the session is over

Each carries its facts as attributes (they are `args` too, so errors pickle) and makes its text
from them: the cause first, then what to do.
"""

from __future__ import annotations


class CacheError(RuntimeError):
    """A response cache refuses a call. The request must not be run because of it."""


class InvalidRequestIdError(CacheError):
    """The id is neither one that a client mints nor one that is reserved."""

    def __init__(self, req_id: int) -> None:
        super().__init__(req_id)
        self.req_id = req_id

    def __str__(self) -> str:
        return (
            f"Request id {self.req_id} is not valid: ids run from 1 to 2**31 - 1. "
            "The peer does not speak Ray Client's protocol; compare the versions of both sides."
        )


class UnknownRequestError(CacheError):
    """A response was offered for a request that the cache was never asked about."""

    def __init__(self, req_id: int) -> None:
        super().__init__(req_id)
        self.req_id = req_id

    def __str__(self) -> str:
        return (
            f"There is no entry for request {self.req_id}, so its response can't be kept. "
            "Call check_cache() before the request is run."
        )


class AlreadyAnsweredError(CacheError):
    """A second response was offered for a unary request."""

    def __init__(self, req_id: int) -> None:
        super().__init__(req_id)
        self.req_id = req_id

    def __str__(self) -> str:
        return (
            f"Request {self.req_id} has been answered before, and its duplicates may have seen "
            "that answer. Run a request only if check_cache() returned None for it."
        )


class AcknowledgedError(CacheError):
    """The request is covered by an acknowledgement of its client."""

    def __init__(self, req_id: int, acknowledged: int) -> None:
        super().__init__(req_id, acknowledged)
        self.req_id = req_id
        self.acknowledged = acknowledged

    def __str__(self) -> str:
        return (
            f"Request {self.req_id} is stale: the client has acknowledged all responses up to "
            f"{self.acknowledged}, so this one is no longer kept. A client that still wants it "
            "has to send it as a new request."
        )


class SupersededError(CacheError):
    """A newer request of the same client thread has replaced this one."""

    def __init__(self, req_id: int, newer_req_id: int) -> None:
        super().__init__(req_id, newer_req_id)
        self.req_id = req_id
        self.newer_req_id = newer_req_id

    def __str__(self) -> str:
        return (
            f"Request {self.req_id} came late: its thread has gone on to request "
            f"{self.newer_req_id}, so nobody waits for the older one. If somebody does, the "
            "thread sends requests before their predecessors are answered, which it must not."
        )


class EvictedError(CacheError):
    """The request is no newer than one whose response was dropped, so it may have run."""

    def __init__(self, req_id: int) -> None:
        super().__init__(req_id)
        self.req_id = req_id

    def __str__(self) -> str:
        return (
            f"The response to request {self.req_id} was dropped unacknowledged to keep the cache "
            "within its bounds; as the request may have run, it must not run again. Acknowledge "
            "responses sooner, or raise the cache's max_entries or max_bytes."
        )


class CacheFullError(CacheError):
    """All entries are requests that still run, and there are as many as the cache may hold."""

    def __init__(self, req_id: int, limit: int) -> None:
        super().__init__(req_id, limit)
        self.req_id = req_id
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"Request {self.req_id} was refused: {self.limit} requests are being run and none of "
            "them has ended. Wait for some of them before sending more, or raise the cache's "
            "limit."
        )


class WaitTimeoutError(CacheError):
    """A duplicate gave up waiting for the original's response."""

    def __init__(self, req_id: int, timeout: float) -> None:
        super().__init__(req_id, timeout)
        self.req_id = req_id
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"Request {self.req_id} is still being run after {self.timeout:g} s of waiting for "
            "it. It goes on; ask again later, or wait longer."
        )


class CacheBusyError(CacheError):
    """A destructor that the garbage collector ran in the midst of a call has called the cache."""

    def __str__(self) -> str:
        return (
            "The cache is in the midst of another call of this thread, which the destructor of an "
            "object has interrupted. Don't call a cache in a destructor."
        )


class CacheClosedError(CacheError):
    """The cache was closed, with the reason as `reason` and as the error's cause if given."""

    def __init__(self, req_id: int, reason: BaseException | None = None) -> None:
        super().__init__(req_id, reason)
        self.req_id = req_id
        self.reason = reason
        self.__cause__ = reason

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason is not None else ""
        return (
            f"Request {self.req_id} can't be answered: its session is over{why}. Connect again "
            "to start a new one."
        )
