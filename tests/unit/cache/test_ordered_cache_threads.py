"""Several threads in one cache: each request runs once, each duplicate is answered."""

import itertools
import sys
import threading

import pytest

from ray.util.client.cache import INT32_MAX, AcknowledgedError, CacheError

THREADS = 6
WITHIN = 120  # seconds; only to end a hang


@pytest.fixture(autouse=True)
def frequent_switches():
    """Gives up the GIL as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def run_threads(target, count=THREADS):
    """Runs `target(number)` in threads, and raises what one of them raised."""
    errors = []
    start = threading.Barrier(count)

    def main(number):
        try:
            start.wait(WITHIN)
            target(number)
        except BaseException as error:  # handed to the test
            errors.append(error)

    threads = [threading.Thread(target=main, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_every_request_runs_once(cache):
    """All threads send all requests, as after a reconnect, and all get the same answers."""
    runs = [0] * 2001
    first_id = INT32_MAX - 1000

    def send_all(number):
        for i in range(2000):
            req_id = (first_id + i - 1) % INT32_MAX + 1
            response = cache.check_cache(req_id, WITHIN)
            if response is None:
                runs[i] += 1
                cache.update_cache(req_id, (req_id,))
            else:
                assert response == (req_id,)

    run_threads(send_all)
    assert runs == [1] * 2000 + [0]
    assert cache.entry_count == 2000


def test_acknowledgements_race_with_requests(cache):
    """Each thread mints ids from one counter; acknowledged is what all threads are past."""
    ids = itertools.count(INT32_MAX - 5000)
    current = [INT32_MAX - 5000] * THREADS  # lower bounds of what each still asks for

    def as_id(number):
        return (number - 1) % INT32_MAX + 1

    def work(number):
        for count in range(3000):
            i = next(ids)
            req_id = as_id(i)
            assert cache.check_cache(req_id) is None
            cache.update_cache(req_id, i)
            assert cache.check_cache(req_id) == i
            current[number] = i + 1
            if count % 32 == 31:
                acknowledged = min(current) - 1
                cache.cleanup(as_id(acknowledged))
        current[number] = sys.maxsize

    run_threads(work)
    cache.cleanup(as_id(next(ids) - 1))
    assert cache.entry_count == 0
    assert cache.byte_count == 0


def test_bounds_hold_under_contention(make_cache):
    cache = make_cache(max_entries=50, max_bytes=200)
    ids = itertools.count(1)
    over = []

    def work(number):
        for _ in range(3000):
            req_id = next(ids)
            try:
                cache.check_cache(req_id)
                cache.update_cache(req_id, b"x" * (req_id % 17))
            except CacheError:
                pass  # evicted or refused: the bounds are what counts here
            if cache.entry_count > 50 or cache.byte_count > 200:
                over.append((cache.entry_count, cache.byte_count))

    run_threads(work)
    assert not over
    cache.cleanup(next(ids))
    assert (cache.entry_count, cache.byte_count) == (0, 0)


def test_close_races_with_everything(cache):
    """Whatever a thread is at when the cache closes, it ends."""
    ids = itertools.count(1)

    def work(number):
        if number == 0:
            while cache.entry_count < 500:
                pass
            cache.close(ConnectionError("over"))
            return
        with pytest.raises(CacheError):
            while True:
                req_id = next(ids)
                cache.check_cache(req_id)
                if number == 1:
                    cache.check_cache(req_id)  # waits until the end
                cache.update_cache(req_id, req_id)

    run_threads(work)
    assert cache.entry_count == 0


def test_acknowledged_waits_all_end(cache):
    """Half of the threads wait for requests that another half acknowledges away."""

    def work(number):
        if number % 2:
            for req_id in range(1, 2001):
                try:
                    cache.check_cache(req_id, WITHIN)
                except AcknowledgedError:
                    pass  # what the other half is for
        else:
            for req_id in range(1, 2001):
                cache.cleanup(req_id)

    run_threads(work)
    assert cache.entry_count == 0
