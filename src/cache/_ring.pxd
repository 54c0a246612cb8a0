# cython: language_level=3
"""The compiled cache's bookkeeping: a ring of slots in ascending order of serials.

Only declarations and inline C; nothing here calls Python. What belongs to the slot at an index
is kept by the ring's owner at the same index.
"""

from libc.stdint cimport int64_t


cdef enum State:
    PENDING
    DONE
    FAILED
    EVICTED


cdef struct Slot:
    int64_t serial  # the request id, counted on past its roll-over
    int64_t size  # bytes that the response is charged with
    int state


cdef struct Ring:
    Slot* slots
    Py_ssize_t head  # index of the oldest entry
    Py_ssize_t count
    Py_ssize_t mask  # the ring's length - 1; the length is a power of two


cdef inline Py_ssize_t index_of(Ring* ring, Py_ssize_t place) noexcept:
    """Returns the index of the entry at `place`, counted from the oldest."""
    return (ring.head + place) & ring.mask


cdef inline Slot* slot_of(Ring* ring, Py_ssize_t place) noexcept:
    """Returns the slot of the entry at `place`, counted from the oldest."""
    return &ring.slots[index_of(ring, place)]


cdef inline Py_ssize_t find(Ring* ring, int64_t serial) noexcept:
    """Returns the place of `serial`, or -1. Constant time without holes, else logarithmic."""
    cdef Py_ssize_t low = 0, high = ring.count - 1, middle
    cdef int64_t found, first
    if high < 0:
        return -1
    found = slot_of(ring, high).serial
    if serial >= found:
        return high if serial == found else -1
    first = slot_of(ring, 0).serial
    if serial < first:
        return -1
    # Serials ascend, so no place is beyond the distance to the first; without holes it is that.
    if serial - first < high:
        high = serial - first
    middle = high
    while low <= high:
        found = slot_of(ring, middle).serial
        if found == serial:
            return middle
        if found < serial:
            low = middle + 1
        else:
            high = middle - 1
        middle = (low + high) // 2
    return -1
