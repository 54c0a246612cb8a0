"""Many threads do everything at once, with values whose death calls the cache again."""

from __future__ import annotations

import gc
import itertools
import os
import random
import sys
import threading
from typing import Any, Callable, List

import pytest

from ray.util.client.cache import INT32_MAX, CacheError, EntryState

THREADS = 12
# How often each thread does something; `make sanitize` has more.
STEPS = int(os.environ.get("CACHE_STRESS_STEPS", "2000"))
MAX_ENTRIES = 300  # more than the shortest ring, so that rings grow and shrink
MAX_BYTES = 30_000
WITHIN = 600  # seconds; only to end a hang


class Mortal:
    """A response whose death, wherever it comes, goes back into the cache."""

    def __init__(self, cache: Any, req_id: int) -> None:
        self.cache, self.req_id = cache, req_id
        self.itself = self if req_id % 7 == 0 else None  # some die by the garbage collector

    def __del__(self) -> None:
        try:
            self.cache.state(self.req_id)
            self.cache.check_cache(self.req_id, 0)
            self.cache.update_cache(self.req_id, b"late")
        except CacheError:
            pass


class Shared:
    """What the threads share: the cache, the ids that they mint, and what went wrong."""

    def __init__(self, make_cache: type) -> None:
        self.cache = make_cache(max_entries=MAX_ENTRIES, max_bytes=MAX_BYTES)
        # Ids roll over in the midst of it.
        self.ids = itertools.count(INT32_MAX - THREADS * STEPS // 8)
        self.newest = next(self.ids)
        self.faults: List[str] = []

    def mint(self) -> int:
        self.newest = number = next(self.ids)
        return (number - 1) % INT32_MAX + 1

    def near(self, chance: random.Random, back: int, least: int = 0) -> int:
        return (self.newest - chance.randrange(least, back) - 1) % INT32_MAX + 1


def _run(shared: Shared, chance: random.Random) -> None:
    req_id = shared.mint()
    # Whoever repeats what is near may be quicker, and then leaves it unanswered.
    if shared.cache.check_cache(req_id, 0.01) is not None:
        return
    kinds: List[Callable[[], Any]] = [
        lambda: b"x" * chance.randrange(200),
        lambda: Mortal(shared.cache, req_id),
        lambda: ValueError(req_id),
        lambda: (req_id, [req_id]),
    ]
    shared.cache.update_cache(req_id, chance.choice(kinds)())


def _leave_pending(shared: Shared, chance: random.Random) -> None:
    shared.cache.check_cache(shared.mint(), 0)


def _repeat(shared: Shared, chance: random.Random) -> None:
    shared.cache.check_cache(shared.near(chance, 150), chance.choice([0, 0.0001, 0.01]))


def _answer_again(shared: Shared, chance: random.Random) -> None:
    req_id = shared.near(chance, 100)
    shared.cache.update_cache(req_id, Mortal(shared.cache, req_id), chance.randrange(100))


def _acknowledge(shared: Shared, chance: random.Random) -> None:
    shared.cache.cleanup(shared.near(chance, 900, chance.choice([0, 200, 200, 200, 200])))


def _invalidate(shared: Shared, chance: random.Random) -> None:
    shared.cache.invalidate(ConnectionError())


def _look(shared: Shared, chance: random.Random) -> None:
    cache = shared.cache
    if cache.entry_count > MAX_ENTRIES or not 0 <= cache.byte_count <= MAX_BYTES:
        shared.faults.append(f"{cache.entry_count} entries, {cache.byte_count} bytes")
    if not isinstance(cache.state(shared.near(chance, 400)), EntryState):
        shared.faults.append("no state")
    for req_id in list(cache.cache)[:20]:
        cache.has_entry(req_id)
        cache.cache.get(req_id)


def _collect(shared: Shared, chance: random.Random) -> None:
    gc.collect(0)


STEP_OF = [_run] * 40 + [_repeat] * 20 + [_leave_pending] * 6 + [_answer_again] * 10 + [_look] * 4
STEP_OF += [_acknowledge, _invalidate, _collect]


@pytest.fixture
def _frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_frequent_switches")
@pytest.mark.parametrize("seed", range(3))
def test_everything_at_once(make_cache: type, seed: int) -> None:
    shared, start, ended = Shared(make_cache), threading.Barrier(THREADS), []

    def work(number: int) -> None:
        chance = random.Random(seed * THREADS + number)
        start.wait(WITHIN)
        for _ in range(STEPS):
            try:
                chance.choice(STEP_OF)(shared, chance)
            except CacheError:
                pass  # evicted, acknowledged, full, not in time: all of that is to be expected
            except BaseException as error:  # told below
                shared.faults.append(repr(error))
        ended.append(number)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
    assert len(ended) == THREADS, "a thread hangs"
    assert not shared.faults
    cache = shared.cache
    assert list(cache.cache) == cache.entry_ids()
    cache.close(ConnectionError("over"))
    assert (cache.entry_count, cache.byte_count) == (0, 0)
    gc.collect()
    assert (cache.entry_count, cache.byte_count) == (0, 0)
