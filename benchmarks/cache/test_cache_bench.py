"""The ordered cache beside stock's, in one run: speed alone and under threads, and memory.

A request is what a server does per request of a session: check, update, and an acknowledgement
with every 32nd. Both sides are measured in turn, round by round, so that a machine that gets
slower does so for both.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import threading
import time
import tracemalloc

import pytest

from benchmarks.cache.stock import stock_cache_class
from ray.util.client.cache import IMPLEMENTATION, OrderedResponseCache

REQUESTS = 100_000
ROUNDS = 9
THREADS = 4
ACKNOWLEDGE_EVERY = 32
RESPONSE = b"x" * 100
LEAST_RATIO = 6.0


def send(cache, count: int) -> float:
    """Sends `count` requests; returns the seconds that it took."""
    check, update, cleanup = cache.check_cache, cache.update_cache, cache.cleanup
    started = time.perf_counter()
    for req_id in range(1, count + 1):
        check(req_id)
        update(req_id, RESPONSE)
        if not req_id % ACKNOWLEDGE_EVERY:
            cleanup(req_id)
    return time.perf_counter() - started


def send_from_threads(cache, count: int) -> float:
    """Like send, from THREADS threads that mint from one counter; `count` in all.

    What is acknowledged is what no thread is at any more.
    """
    ids = itertools.count(1)
    current = [1] * THREADS
    start = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        check, update, cleanup = cache.check_cache, cache.update_cache, cache.cleanup
        start.wait()
        while (req_id := next(ids)) <= count:
            check(req_id)
            update(req_id, RESPONSE)
            current[number] = req_id
            if not req_id % ACKNOWLEDGE_EVERY and (done := min(current) - 1):
                cleanup(done)
        current[number] = sys.maxsize

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def compare(measure) -> tuple[list[float], list[float]]:
    """Returns the seconds per round of stock's cache and of ours, measured in turn."""
    stock = stock_cache_class()
    rounds = [
        (measure(stock(), REQUESTS), measure(OrderedResponseCache(), REQUESTS))
        for _ in range(ROUNDS)
    ]
    return [a for a, _ in rounds], [b for _, b in rounds]


def report(title: str, stock: list[float], ours: list[float]) -> float:
    """Prints both sides and the ratio per round; returns the ratio's median."""
    ratios = sorted(a / b for a, b in zip(stock, ours, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"\n{title}, {IMPLEMENTATION}: stock {1e6 * statistics.median(stock) / REQUESTS:.2f} us, "
        f"ours {1e6 * statistics.median(ours) / REQUESTS:.2f} us a request; "
        f"ratio {ratio:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f} over {ROUNDS} rounds)"
    )
    return ratio


def test_ratio_on_one_thread():
    ratio = report("cache hot path, one thread", *compare(send))
    assert IMPLEMENTATION != "cython" or ratio >= LEAST_RATIO


def test_ratio_under_threads():
    ratio = report(f"cache hot path, {THREADS} threads", *compare(send_from_threads))
    assert IMPLEMENTATION != "cython" or ratio >= 1.0


@pytest.mark.parametrize("side", ["stock", "ours"])
def test_hot_path(benchmark, side):
    kind = stock_cache_class() if side == "stock" else OrderedResponseCache
    benchmark.extra_info["requests"] = REQUESTS
    benchmark.pedantic(lambda: send(kind(), REQUESTS), rounds=5, warmup_rounds=1)


def memory_per_entry(kind: type, entries: int = 50_000) -> float:
    """Returns the bytes that the cache itself takes for an answered request."""
    # Ids as they come off the wire: an object each, which stock's cache keeps alive.
    ids = map(int, map(str, range(1, entries + 1)))
    gc.collect()
    tracemalloc.start()
    try:
        cache = kind()
        for req_id in ids:
            cache.check_cache(req_id)
            cache.update_cache(req_id, RESPONSE)
        return tracemalloc.get_traced_memory()[0] / entries
    finally:
        tracemalloc.stop()


def test_memory_per_entry():
    stock, ours = memory_per_entry(stock_cache_class()), memory_per_entry(OrderedResponseCache)
    print(f"\ncache state per entry, {IMPLEMENTATION}: stock {stock:.0f} bytes, ours {ours:.0f}")
    assert IMPLEMENTATION != "cython" or ours < stock
