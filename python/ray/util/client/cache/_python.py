"""The ordered response cache in Python: the specification of the compiled one."""

from __future__ import annotations

from collections import deque
from typing import Any

from ray.util.client.cache._guard import Guard
from ray.util.client.cache._ids import (
    HALF_ROUND,
    ROUND,
    id_of_serial,
    is_ignored,
    is_tracked,
    ring_distance,
)
from ray.util.client.cache._limits import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_ENTRIES,
    positive_limit,
)
from ray.util.client.cache._sizes import checked_size, response_size
from ray.util.client.cache._states import EntryState
from ray.util.client.cache._view import CacheView
from ray.util.client.cache._wait import Wait
from ray.util.client.cache.errors import (
    AcknowledgedError,
    CacheClosedError,
    CacheFullError,
    EvictedError,
    InvalidRequestIdError,
    UnknownRequestError,
)


class _Entry:
    """One request. `value` is the response or exception, or while PENDING its Wait, if any."""

    __slots__ = ("size", "state", "value")

    def __init__(self) -> None:
        self.state = EntryState.PENDING
        self.value: Any = None
        self.size = 0


class OrderedResponseCache:
    """Keeps a stream's responses until the client acknowledges them, so that each request runs
    once however often it is sent.

    Life of a request: `check_cache` returns None, so the caller runs it and hands the response
    to `update_cache`; a duplicate's `check_cache` returns that response, waiting for it if need
    be; the client's acknowledgement, passed to `cleanup`, drops it. Ids are the client's,
    1..INT32_MAX and round again. INIT_REQ_ID and 0 are ignored: always new, never kept. The
    response of a session's init must not be kept at all: don't check or update it.

    Bounds: at most `max_entries` entries, and responses of at most `max_bytes` bytes. Room is
    made by dropping the oldest answered request; its duplicates get an EvictedError. Requests
    being run are never dropped.

    Inside, an id is counted on past INT32_MAX as a *serial*, so that order is plain order. The
    serial of an id is the one nearest to the anchor: the latest acknowledgement or eviction,
    before those the first id seen.

    All methods may be called from any thread. Only waiting duplicates block. A destructor that runs
    in the midst of a call of the cache gets a CacheBusyError from it.
    """

    def __init__(
        self, max_entries: int = DEFAULT_MAX_ENTRIES, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        """Makes an empty cache; raises ValueError if a bound is below 1."""
        self._max_entries = positive_limit("max_entries", max_entries)
        self._max_bytes = positive_limit("max_bytes", max_bytes)
        self._entries_lock = Guard()
        self._entries: dict[int, _Entry] = {}
        self._order: deque[int] = deque()  # the keys of _entries, ascending
        self._bytes = 0
        # Serials; 0 stands for "none yet" and is below all others.
        self._anchor = 0
        self._acknowledged = 0
        self._evicted = 0
        self._closed = False
        self._close_reason: BaseException | None = None

    def check_cache(self, req_id: int, timeout: float | None = None) -> Any:
        """Returns the response to `req_id`, or None if the caller has to run the request.

        If the request is being run already, waits up to `timeout` seconds for its outcome
        (None: until it is answered, acknowledged, or the cache closed). For a failed request
        the exception is returned, not raised. A response that is itself None can't be told
        from a new request here; `state` can.

        Raises:
            AcknowledgedError, EvictedError: the response is no longer kept.
            CacheFullError: a new request, and no room for it.
            WaitTimeoutError: a duplicate, and the original did not end in time.
            CacheClosedError: the cache is closed, or was while waiting.
            InvalidRequestIdError: no client mints such an id.
        """
        if not is_tracked(req_id):
            return self._pass_over(req_id)
        dropped: list[Any] = []  # so that values die outside the lock
        with self._entries_lock:
            serial = self._live_serial(req_id)
            entry = self._entries.get(serial)
            if entry is None:
                self._admit(serial, req_id, dropped)
                return None
            if entry.state is EntryState.EVICTED:
                raise EvictedError(req_id)
            if entry.state is not EntryState.PENDING:
                return entry.value
            if entry.value is None:
                entry.value = Wait()
            wait = entry.value
        return wait.result(req_id, timeout)

    def update_cache(self, req_id: int, resp: Any, size: int | None = None) -> None:
        """Keeps `resp`, the outcome of `req_id`, and hands it to waiting duplicates.

        An exception as `resp` marks the request as failed. A second outcome replaces the first.
        `size` is the response's size in bytes; without it bytes-like objects and text are asked
        for their length and protobuf messages for their ByteSize, which costs more than the
        rest of the call. Other objects count 256 bytes. What is larger than the whole cache is
        given to those who wait and then not kept.

        Raises:
            UnknownRequestError: `check_cache` was never called for this id.
            AcknowledgedError, EvictedError: the entry is gone already.
            CacheClosedError: the cache is closed.
            InvalidRequestIdError: no client mints such an id.
            ValueError: `size` is negative.
        """
        if not is_tracked(req_id):
            self._pass_over(req_id)
            return
        charge = response_size(resp) if size is None else checked_size(size)
        dropped: list[Any] = []
        with self._entries_lock:
            entry = self._entry_to_settle(req_id)
            if charge <= self._max_bytes:
                while self._bytes - entry.size + charge > self._max_bytes:
                    self._evict_oldest(dropped)
                    entry = self._entry_to_settle(req_id)
            dropped.append(entry.value)
            wait = entry.value if entry.state is EntryState.PENDING else None
            self._settle(entry, resp, charge)
        if wait is not None:
            wait.answer(resp)

    def cleanup(self, last_received: int) -> None:
        """Drops all requests up to and including `last_received`, which the client has.

        Requests among them that still run are dropped too: those who wait for them get an
        AcknowledgedError. Acknowledgements may come in any order; ones that are behind the
        latest change nothing. Costs amortised constant time per dropped entry.

        Raises:
            InvalidRequestIdError: no client mints such an id.
        """
        if not is_tracked(last_received):
            self._pass_over(last_received)
            return
        dropped: list[tuple[int, _Entry]] = []
        with self._entries_lock:
            serial = self._serial(last_received)
            if self._closed or serial <= self._acknowledged:
                return
            if not self._acknowledged:
                self._realign(serial)
            self._acknowledged = serial
            self._anchor = max(serial, self._evicted)
            while self._order and self._order[0] <= serial:
                gone = self._order.popleft()
                dropped.append((gone, self._take(gone)))
        for gone, entry in dropped:
            if entry.state is EntryState.PENDING and entry.value is not None:
                entry.value.refuse(AcknowledgedError(id_of_serial(gone), last_received))

    def invalidate(self, e: BaseException) -> bool:
        """Fails all requests that are being run with `e`, which also goes to those who wait.

        Returns whether the cache holds an error now, i.e. whether a duplicate could be answered
        with one. True for a closed cache.
        """
        waits: list[Wait] = []
        with self._entries_lock:
            pending = [x for x in self._entries.values() if x.state is EntryState.PENDING]
            for entry in pending:
                if entry.value is not None:
                    waits.append(entry.value)
                entry.state = EntryState.FAILED
                entry.value = e
            failed = any(x.state is EntryState.FAILED for x in self._entries.values())
            invalid = failed or self._closed
        for wait in waits:
            wait.answer(e)
        return invalid

    def close(self, error: BaseException | None = None) -> None:
        """Drops everything and ends all waits with a CacheClosedError that names `error`.

        From then on checks and updates raise CacheClosedError, acknowledgements do nothing. A
        second call does nothing.
        """
        with self._entries_lock:
            if self._closed:
                return
            self._closed = True
            self._close_reason = error
            entries, self._entries = self._entries, {}
            self._order.clear()
            self._bytes = 0
        for serial, entry in entries.items():
            if entry.state is EntryState.PENDING and entry.value is not None:
                entry.value.refuse(CacheClosedError(id_of_serial(serial), error))

    def has_entry(self, req_id: int) -> bool:
        """Tells whether there is an entry for `req_id`: pending, done, failed or evicted.

        Raises InvalidRequestIdError if no client mints such an id.
        """
        if not is_tracked(req_id):
            self._pass_over(req_id)
            return False
        with self._entries_lock:
            return self._serial(req_id) in self._entries

    def state(self, req_id: int) -> EntryState:
        """Returns what the cache knows about `req_id`, without changing it.

        Raises InvalidRequestIdError if no client mints such an id.
        """
        if not is_tracked(req_id):
            self._pass_over(req_id)
            return EntryState.UNTRACKED
        with self._entries_lock:
            serial = self._serial(req_id)
            if self._closed:
                return EntryState.CLOSED
            if serial <= self._acknowledged:
                return EntryState.ACKNOWLEDGED
            entry = self._entries.get(serial)
            if entry is not None:
                return entry.state
            return EntryState.EVICTED if serial <= self._evicted else EntryState.NEW

    @property
    def cache(self) -> CacheView:
        """The entries as a live read-only mapping of id to response (see CacheView)."""
        return CacheView(self)

    @property
    def last_received(self) -> int:
        """The id up to which the client has acknowledged; 0 if it has not yet."""
        return id_of_serial(self._acknowledged) if self._acknowledged else 0

    @property
    def entry_count(self) -> int:
        """The number of entries."""
        return len(self._entries)

    @property
    def byte_count(self) -> int:
        """The bytes that the kept responses are charged with."""
        return self._bytes

    def entry_ids(self) -> list[int]:
        """Returns the ids of all entries, oldest first."""
        with self._entries_lock:
            return [id_of_serial(serial) for serial in self._order]

    def entry_value(self, req_id: int) -> Any:
        """Returns the response or exception kept for `req_id`; None if pending or evicted.

        Raises KeyError if there is no entry.
        """
        with self._entries_lock:
            entry = self._entries.get(self._serial(req_id)) if is_tracked(req_id) else None
            if entry is None:
                raise KeyError(req_id)
            return None if entry.state is EntryState.PENDING else entry.value

    @staticmethod
    def _pass_over(req_id: int) -> None:
        if not is_ignored(req_id):
            raise InvalidRequestIdError(req_id)

    # The methods below need _entries_lock to be held.

    def _serial(self, req_id: int) -> int:
        if not self._anchor:
            # A round up, so that ids from before a roll-over have positive serials too.
            return ROUND + req_id
        return self._anchor + ring_distance(req_id, id_of_serial(self._anchor))

    def _live_serial(self, req_id: int) -> int:
        serial = self._serial(req_id)
        if self._closed:
            raise CacheClosedError(req_id, self._close_reason)
        if serial <= self._acknowledged:
            raise AcknowledgedError(req_id, id_of_serial(self._acknowledged))
        return serial

    def _entry_to_settle(self, req_id: int) -> _Entry:
        serial = self._live_serial(req_id)
        entry = self._entries.get(serial)
        if entry is not None:
            return entry
        if serial <= self._evicted:
            raise EvictedError(req_id)
        raise UnknownRequestError(req_id)

    def _admit(self, serial: int, req_id: int, dropped: list[Any]) -> None:
        if serial <= self._evicted:
            raise EvictedError(req_id)
        if len(self._order) >= self._max_entries and not self._evict_oldest(dropped):
            raise CacheFullError(req_id, self._max_entries)
        if not self._anchor:
            self._anchor = serial
        place = len(self._order)
        while place and self._order[place - 1] > serial:
            place -= 1
        self._order.insert(place, serial)
        self._entries[serial] = _Entry()

    def _evict_oldest(self, dropped: list[Any]) -> bool:
        """Drops the oldest request that has ended; False if there is none."""
        for place, serial in enumerate(self._order):
            if self._entries[serial].state is not EntryState.PENDING:
                del self._order[place]
                dropped.append(self._take(serial))
                self._evicted = max(self._evicted, serial)
                self._anchor = max(self._anchor, self._evicted)
                return True
        return False

    def _take(self, serial: int) -> _Entry:
        entry = self._entries.pop(serial)
        self._bytes -= entry.size
        return entry

    def _settle(self, entry: _Entry, resp: Any, charge: int) -> None:
        if charge > self._max_bytes:
            state, resp, charge = EntryState.EVICTED, None, 0
        elif isinstance(resp, BaseException):
            state = EntryState.FAILED
        else:
            state = EntryState.DONE
        self._bytes += charge - entry.size
        entry.state, entry.value, entry.size = state, resp, charge

    def _realign(self, acknowledged: int) -> None:
        """Gives all entries the serials that are nearest to the first acknowledgement.

        Later ones can't leave entries more than half a round away; none is newer than that.
        """
        if not self._order:
            return
        far_ahead = self._order[-1] > acknowledged + HALF_ROUND
        if not far_ahead and self._order[0] >= acknowledged - HALF_ROUND:
            return
        latest = id_of_serial(acknowledged)
        self._entries = {
            acknowledged + ring_distance(id_of_serial(serial), latest): entry
            for serial, entry in self._entries.items()
        }
        self._order = deque(sorted(self._entries))
