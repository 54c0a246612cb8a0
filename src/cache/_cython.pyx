# cython: language_level=3
# cython: boundscheck=False
# cython: wraparound=False
# cython: binding=False
"""The ordered response cache, compiled. `_python.py` beside it states the contract.

The GIL is the guard: state is read and changed only in stretches that call no other code, so
that no other thread can get in between. "Other code" is whatever may run Python: making objects
that the garbage collector tracks (before Python 3.12 that may collect, and run finalizers), the
death of a value, a Wait's methods. Wherever that happens the state is whole before, and what
was looked up is looked up again after. A free-threaded interpreter turns its GIL on when it
imports this module.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

# By its bare name: it is found beside this file, wherever the sources lie.
from _ring cimport DONE, EVICTED, FAILED, PENDING, Ring, Slot, find, index_of, slot_of

from ray.util.client.cache import _ids, _sizes
from ray.util.client.cache._limits import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_ENTRIES,
    positive_limit,
)
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

cdef extern from "Python.h":
    bint PyExceptionInstance_Check(object)
    void PyList_SET_ITEM(list, Py_ssize_t, PyObject*) noexcept

cdef int64_t LAST_ID = _ids.INT32_MAX
cdef int64_t ROUND = _ids.ROUND
cdef int64_t HALF_ROUND = _ids.HALF_ROUND
cdef int64_t FLAT_SIZE = _sizes.FLAT_SIZE
cdef int64_t LAST_SERIAL = 2**63 - 1
cdef Py_ssize_t SHORTEST = 64

# In the order of the C enum.
cdef tuple STATES = (
    EntryState.PENDING, EntryState.DONE, EntryState.FAILED, EntryState.EVICTED
)


cdef inline bint is_tracked(int64_t req_id) noexcept:
    return 0 < req_id <= LAST_ID


cdef inline int64_t id_of_serial(int64_t serial) noexcept:
    return (serial - 1) % ROUND + 1


cdef object pass_over(int64_t req_id):
    if not _ids.is_ignored(req_id):
        raise InvalidRequestIdError(req_id)
    return None


@cython.final
cdef class OrderedResponseCache:
    """Keeps a stream's responses until the client acknowledges them.

    Same contract as `ray.util.client.cache._python.OrderedResponseCache`.
    """

    cdef Ring _ring
    # What belongs to the slots, in a list so that the garbage collector sees it. A free slot's
    # value is None, a pending one's its Wait or None.
    cdef list _values
    cdef Py_ssize_t _max_entries
    cdef int64_t _max_bytes
    cdef int64_t _bytes
    # Serials; 0 means "none yet".
    cdef int64_t _anchor
    cdef int64_t _anchor_id
    cdef int64_t _acknowledged
    cdef int64_t _evicted
    cdef bint _closed
    cdef object _close_reason
    cdef object _flat_kind  # the type that was last seen to have no size of its own
    cdef object _message_kind  # the type that was last seen to have a ByteSize
    cdef object __weakref__

    def __cinit__(
        self, max_entries=DEFAULT_MAX_ENTRIES, max_bytes=DEFAULT_MAX_BYTES
    ):
        self._max_entries = positive_limit("max_entries", max_entries)
        self._max_bytes = positive_limit("max_bytes", max_bytes)
        self._ring.mask = -1
        self._resize(SHORTEST)

    def __dealloc__(self):
        PyMem_Free(self._ring.slots)

    def check_cache(self, int64_t req_id, timeout=None):
        """Returns the response to `req_id`, or None if the caller has to run the request."""
        cdef int64_t serial
        cdef Py_ssize_t place
        cdef Slot* slot
        cdef object gone, wait = None
        if not is_tracked(req_id):
            return pass_over(req_id)
        while True:
            serial = self._serial(req_id)
            if self._closed or serial <= self._acknowledged:
                raise self._refusal(req_id)
            place = find(&self._ring, serial)
            if place < 0:
                if serial <= self._evicted:
                    raise EvictedError(req_id)
                if self._ring.count == self._max_entries:
                    place = self._oldest_ended()
                    if place < 0:
                        raise CacheFullError(req_id, self._max_entries)
                    gone = self._evict(place)  # dies at the end, when all is in place
                elif self._ring.count > self._ring.mask:
                    self._resize(2 * (self._ring.mask + 1))
                    continue
                self._insert(serial)
                return None
            place = index_of(&self._ring, place)
            slot = &self._ring.slots[place]
            if slot.state == EVICTED:
                raise EvictedError(req_id)
            if slot.state != PENDING:
                return self._values[place]
            if self._values[place] is not None:
                wait = self._values[place]
            elif wait is None:
                wait = Wait()
                continue
            else:
                self._values[place] = wait
            return wait.result(req_id, timeout)

    def update_cache(self, int64_t req_id, resp, size=None):
        """Keeps `resp`, the outcome of `req_id`, and hands it to waiting duplicates."""
        cdef int64_t serial, charge
        cdef Py_ssize_t place
        cdef Slot* slot
        cdef object gone, old
        cdef bint awaited
        if not is_tracked(req_id):
            pass_over(req_id)
            return
        charge = self._charge(resp) if size is None else _sizes.checked_size(size)
        while True:
            serial = self._serial(req_id)
            if self._closed or serial <= self._acknowledged:
                raise self._refusal(req_id)
            place = find(&self._ring, serial)
            if place < 0:
                raise self._missing(req_id, serial)
            place = index_of(&self._ring, place)
            slot = &self._ring.slots[place]
            if charge > self._max_bytes or self._bytes - slot.size + charge <= self._max_bytes:
                break
            gone = self._evict(self._oldest_ended())
        old = self._values[place]  # lives until all is done
        awaited = slot.state == PENDING and old is not None
        if charge > self._max_bytes:
            self._bytes -= slot.size
            slot.size = 0
            slot.state = EVICTED
            self._values[place] = None
        else:
            self._bytes += charge - slot.size
            slot.size = charge
            slot.state = FAILED if PyExceptionInstance_Check(resp) else DONE
            self._values[place] = resp
        if awaited:
            old.answer(resp)

    def cleanup(self, int64_t last_received):
        """Drops all requests up to and including `last_received`, which the client has."""
        cdef int64_t serial
        if not is_tracked(last_received):
            pass_over(last_received)
            return
        serial = self._serial(last_received)
        if self._closed or serial <= self._acknowledged:
            return
        if self._acknowledged == 0:
            self._realign(serial)
        self._acknowledged = serial
        self._set_anchor(max(serial, self._evicted))
        self._drop_through(serial)
        if self._ring.mask >= SHORTEST and self._ring.count * 8 <= self._ring.mask:
            self._resize((self._ring.mask + 1) // 2)

    def invalidate(self, e):
        """Fails all requests that are being run with `e`; tells if the cache holds an error."""
        cdef list waits = []
        cdef Py_ssize_t place, index
        cdef bint invalid = self._closed
        for place in range(self._ring.count):
            index = index_of(&self._ring, place)
            if self._ring.slots[index].state == PENDING:
                if self._values[index] is not None:
                    waits.append(self._values[index])
                self._ring.slots[index].state = FAILED
                self._values[index] = e
            if self._ring.slots[index].state == FAILED:
                invalid = True
        for wait in waits:
            wait.answer(e)
        return invalid

    def close(self, error=None):
        """Drops everything and ends all waits with a CacheClosedError that names `error`."""
        if self._closed:
            return
        self._closed = True
        self._close_reason = error
        self._drop_through(LAST_SERIAL)
        self._resize(SHORTEST)

    def has_entry(self, int64_t req_id):
        """Tells whether there is an entry for `req_id`: pending, done, failed or evicted."""
        if not is_tracked(req_id):
            pass_over(req_id)
            return False
        return find(&self._ring, self._serial(req_id)) >= 0

    def state(self, int64_t req_id):
        """Returns what the cache knows about `req_id`, without changing it."""
        cdef int64_t serial
        cdef Py_ssize_t place
        if not is_tracked(req_id):
            pass_over(req_id)
            return EntryState.UNTRACKED
        serial = self._serial(req_id)
        place = find(&self._ring, serial)
        if self._closed:
            return EntryState.CLOSED
        if serial <= self._acknowledged:
            return EntryState.ACKNOWLEDGED
        if place >= 0:
            return STATES[slot_of(&self._ring, place).state]
        return EntryState.EVICTED if serial <= self._evicted else EntryState.NEW

    @property
    def cache(self):
        """The entries as a live read-only mapping of id to response."""
        return CacheView(self)

    @property
    def last_received(self):
        """The id up to which the client has acknowledged; 0 if it has not yet."""
        return id_of_serial(self._acknowledged) if self._acknowledged else 0

    @property
    def entry_count(self):
        """The number of entries."""
        return self._ring.count

    @property
    def byte_count(self):
        """The bytes that the kept responses are charged with."""
        return self._bytes

    def entry_ids(self):
        """Returns the ids of all entries, oldest first."""
        cdef list ids = []
        cdef Py_ssize_t place
        for place in range(self._ring.count):
            ids.append(id_of_serial(slot_of(&self._ring, place).serial))
        return ids

    def entry_value(self, int64_t req_id):
        """Returns what is kept for `req_id`; None if pending or evicted."""
        cdef Py_ssize_t place = -1
        if is_tracked(req_id):
            place = find(&self._ring, self._serial(req_id))
        if place < 0:
            raise KeyError(req_id)
        place = index_of(&self._ring, place)
        return None if self._ring.slots[place].state == PENDING else self._values[place]

    # From here to _charge: no calls to other code, so nothing else can run in between.

    cdef int64_t _serial(self, int64_t req_id) noexcept:
        cdef int64_t distance
        if self._anchor == 0:
            return ROUND + req_id
        distance = req_id - self._anchor_id
        if distance > HALF_ROUND:
            distance -= ROUND
        elif distance < -HALF_ROUND:
            distance += ROUND
        return self._anchor + distance

    cdef void _swap(self, Py_ssize_t one, Py_ssize_t other) noexcept:
        """Exchanges what stands at two indices; no reference count changes."""
        cdef list values = self._values
        cdef PyObject* value = PyList_GET_ITEM(values, one)
        cdef Slot slot = self._ring.slots[one]
        PyList_SET_ITEM(values, one, PyList_GET_ITEM(values, other))
        PyList_SET_ITEM(values, other, value)
        self._ring.slots[one] = self._ring.slots[other]
        self._ring.slots[other] = slot

    cdef void _insert(self, int64_t serial) noexcept:
        """Adds a pending entry. There must be room."""
        cdef Py_ssize_t place = self._ring.count
        cdef Slot* slot
        if self._anchor == 0:
            self._set_anchor(serial)
        while place and slot_of(&self._ring, place - 1).serial > serial:
            self._swap(index_of(&self._ring, place - 1), index_of(&self._ring, place))
            place -= 1
        slot = slot_of(&self._ring, place)
        slot.serial = serial
        slot.size = 0
        slot.state = PENDING
        self._ring.count += 1

    cdef object _remove(self, Py_ssize_t place):
        """Takes an entry out and returns its value, which so outlives the change."""
        cdef Py_ssize_t index = index_of(&self._ring, place)
        cdef object value = self._values[index]
        self._values[index] = None
        self._bytes -= self._ring.slots[index].size
        while place:
            self._swap(index_of(&self._ring, place - 1), index_of(&self._ring, place))
            place -= 1
        self._ring.head = (self._ring.head + 1) & self._ring.mask
        self._ring.count -= 1
        return value

    cdef Py_ssize_t _oldest_ended(self) noexcept:
        """Returns the place of the oldest entry that is not pending, or -1."""
        cdef Py_ssize_t place
        for place in range(self._ring.count):
            if slot_of(&self._ring, place).state != PENDING:
                return place
        return -1

    cdef object _evict(self, Py_ssize_t place):
        """Takes out an entry whose duplicates must not run, and returns its value."""
        cdef int64_t serial = slot_of(&self._ring, place).serial
        if serial > self._evicted:
            self._evicted = serial
            if serial > self._anchor:
                self._set_anchor(serial)
        return self._remove(place)

    cdef void _realign(self, int64_t acknowledged) noexcept:
        """Gives all entries the serials that are nearest to the first acknowledgement."""
        cdef Py_ssize_t last, first
        while self._ring.count:
            last = index_of(&self._ring, self._ring.count - 1)
            if self._ring.slots[last].serial <= acknowledged + HALF_ROUND:
                break
            self._ring.head = (self._ring.head - 1) & self._ring.mask
            self._swap(last, self._ring.head)
            slot_of(&self._ring, 0).serial -= ROUND
        while self._ring.count:
            first = self._ring.head
            if self._ring.slots[first].serial >= acknowledged - HALF_ROUND:
                break
            last = index_of(&self._ring, self._ring.count)
            self._swap(first, last)
            self._ring.slots[last].serial += ROUND
            self._ring.head = (self._ring.head + 1) & self._ring.mask

    cdef void _set_anchor(self, int64_t serial) noexcept:
        self._anchor = serial
        self._anchor_id = id_of_serial(serial)

    # The methods below may let other code run.

    cdef int64_t _charge(self, resp) except -1:
        """Returns the size of `resp`, quickly for the kinds that come again and again."""
        kind = type(resp)
        if kind is bytes:
            return len(<bytes>resp)
        if kind is str:
            return len(<str>resp)
        if kind is self._flat_kind:
            return FLAT_SIZE
        if kind is self._message_kind:
            return _sizes.checked_size(resp.ByteSize())
        if _sizes.has_flat_size(kind):
            self._flat_kind = kind
        elif _sizes.is_message(kind):
            self._message_kind = kind
        return _sizes.response_size(resp)

    cdef int _drop_through(self, int64_t serial) except -1:
        """Drops all entries up to `serial` and refuses those who wait for them."""
        cdef int64_t first
        cdef bint pending
        cdef object value
        while self._ring.count:
            first = slot_of(&self._ring, 0).serial
            if first > serial:
                break
            pending = slot_of(&self._ring, 0).state == PENDING
            value = self._remove(0)
            if pending and value is not None:
                value.refuse(self._refusal(id_of_serial(first)))
        return 0

    cdef int _resize(self, Py_ssize_t length) except -1:
        """Moves the entries to a ring of `length`, unless they don't fit in (any more)."""
        cdef list values = [None] * length  # may let other code run
        cdef Slot* slots
        cdef Py_ssize_t place, index
        if self._ring.count > length:
            return 0
        slots = <Slot*>PyMem_Malloc(length * sizeof(Slot))
        if slots == NULL:
            raise MemoryError()
        for place in range(self._ring.count):
            index = index_of(&self._ring, place)
            slots[place] = self._ring.slots[index]
            values[place] = self._values[index]
        PyMem_Free(self._ring.slots)
        self._ring.slots = slots
        self._values = values  # the old list dies here, but what it holds lives on
        self._ring.head = 0
        self._ring.mask = length - 1
        return 0

    cdef object _refusal(self, int64_t req_id):
        if self._closed:
            return CacheClosedError(req_id, self._close_reason)
        return AcknowledgedError(req_id, id_of_serial(self._acknowledged))

    cdef object _missing(self, int64_t req_id, int64_t serial):
        if serial <= self._evicted:
            return EvictedError(req_id)
        return UnknownRequestError(req_id)
