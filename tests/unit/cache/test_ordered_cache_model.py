"""Random histories, compared with a model that is too simple to be wrong."""

import functools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ray.util.client.cache import (
    INT32_MAX,
    AcknowledgedError,
    CacheClosedError,
    CacheError,
    CacheFullError,
    EntryState,
    EvictedError,
    UnknownRequestError,
    WaitTimeoutError,
    id_is_newer,
)

MAX_ENTRIES = 6
MAX_BYTES = 40
ENDED = (EntryState.DONE, EntryState.FAILED, EntryState.EVICTED)


class Model:
    """The contract, by comparing ids in pairs and looking through everything every time."""

    def __init__(self):
        self.entries = {}  # id: (state, value, size)
        self.acknowledged = None
        self.evicted = None
        self.closed = False

    def oldest_first(self):
        compare = functools.cmp_to_key(lambda a, b: id_is_newer(a, b) - id_is_newer(b, a))
        return sorted(self.entries, key=compare)

    def total(self):
        return sum(size for _, _, size in self.entries.values())

    def covered(self, mark, req_id):
        return mark is not None and not id_is_newer(req_id, mark)

    def state(self, req_id):
        if self.closed:
            return EntryState.CLOSED
        if self.covered(self.acknowledged, req_id):
            return EntryState.ACKNOWLEDGED
        if req_id in self.entries:
            return self.entries[req_id][0]
        return EntryState.EVICTED if self.covered(self.evicted, req_id) else EntryState.NEW

    def evict(self):
        for req_id in self.oldest_first():
            if self.entries[req_id][0] in ENDED:
                del self.entries[req_id]
                if not self.covered(self.evicted, req_id):
                    self.evicted = req_id
                return True
        return False

    def check(self, req_id):
        state = self.state(req_id)
        refusals = {
            EntryState.CLOSED: CacheClosedError,
            EntryState.ACKNOWLEDGED: AcknowledgedError,
            EntryState.EVICTED: EvictedError,
            EntryState.PENDING: WaitTimeoutError,
        }
        if state in refusals:
            return refusals[state]
        if state is not EntryState.NEW:
            return self.entries[req_id][1]
        if len(self.entries) == MAX_ENTRIES and not self.evict():
            return CacheFullError
        self.entries[req_id] = (EntryState.PENDING, None, 0)
        return None

    def update(self, req_id, value, size):
        while True:
            state = self.state(req_id)
            if state is EntryState.CLOSED:
                return CacheClosedError
            if state is EntryState.ACKNOWLEDGED:
                return AcknowledgedError
            if req_id not in self.entries:
                return EvictedError if state is EntryState.EVICTED else UnknownRequestError
            if size > MAX_BYTES:
                self.entries[req_id] = (EntryState.EVICTED, None, 0)
                return None
            if self.total() - self.entries[req_id][2] + size <= MAX_BYTES:
                failed = isinstance(value, Exception)
                state = EntryState.FAILED if failed else EntryState.DONE
                self.entries[req_id] = (state, value, size)
                return None
            self.evict()

    def cleanup(self, req_id):
        if self.closed or self.covered(self.acknowledged, req_id):
            return
        self.acknowledged = req_id
        for gone in [x for x in self.entries if self.covered(req_id, x)]:
            del self.entries[gone]

    def invalidate(self, error):
        for req_id, (state, _, _) in self.entries.items():
            if state is EntryState.PENDING:
                self.entries[req_id] = (EntryState.FAILED, error, 0)
        return self.closed or any(x[0] is EntryState.FAILED for x in self.entries.values())

    def close(self):
        self.closed = True
        self.entries = {}


def outcome(call, *args):
    """Returns what a call returns, or the class of its refusal."""
    try:
        return call(*args)
    except CacheError as error:
        return type(error)


# Relative to the latest acknowledgement: some are stale, most are new.
OFFSETS = st.integers(-3, 14)
RESPONSES = st.one_of(
    st.binary(max_size=15),
    st.binary(min_size=39, max_size=42),
    st.builds(ValueError, st.integers()),
    st.none(),
)


class Comparison(RuleBasedStateMachine):
    def __init__(self, make_cache):
        super().__init__()
        self.cache = make_cache(max_entries=MAX_ENTRIES, max_bytes=MAX_BYTES)
        self.model = Model()

    @initialize(base=st.sampled_from([4, 2**30, INT32_MAX - 8, INT32_MAX]))
    def set_base(self, base):
        self.base = base

    def id_at(self, offset):
        return (self.base + offset - 1) % INT32_MAX + 1

    @rule(offset=OFFSETS)
    def check(self, offset):
        req_id = self.id_at(offset)
        assert outcome(self.cache.check_cache, req_id, 0) == self.model.check(req_id)

    @rule(offset=OFFSETS, response=RESPONSES)
    def update(self, offset, response):
        req_id = self.id_at(offset)
        size = len(response) if isinstance(response, bytes) else 7
        expected = self.model.update(req_id, response, size)
        assert outcome(self.cache.update_cache, req_id, response, size) == expected

    @rule(offset=OFFSETS, response=RESPONSES)
    def run_request(self, offset, response):
        self.check(offset)
        self.update(offset, response)

    @rule(offset=st.integers(-3, 8))
    def acknowledge(self, offset):
        req_id = self.id_at(offset)
        self.cache.cleanup(req_id)
        self.model.cleanup(req_id)
        self.base = self.model.acknowledged or self.base

    @rule()
    def invalidate(self):
        error = RuntimeError("broken")
        assert self.cache.invalidate(error) == self.model.invalidate(error)

    @rule(offset=OFFSETS)
    def look(self, offset):
        req_id = self.id_at(offset)
        assert self.cache.state(req_id) is self.model.state(req_id)
        assert self.cache.has_entry(req_id) == (req_id in self.model.entries)

    @rule(sure=st.integers(0, 30))
    def close(self, sure):
        if sure == 30:
            self.cache.close()
            self.model.close()

    @invariant()
    def same_contents(self):
        assert list(self.cache.cache) == self.model.oldest_first()
        expected = {req_id: value for req_id, (_, value, _) in self.model.entries.items()}
        assert dict(self.cache.cache) == expected
        assert self.cache.byte_count == self.model.total() <= MAX_BYTES
        assert self.cache.entry_count <= MAX_ENTRIES


@pytest.mark.slow
def test_histories(make_cache):
    run_state_machine_as_test(
        lambda: Comparison(make_cache),
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
