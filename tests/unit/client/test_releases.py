"""Reference counts of a client."""

import queue
from concurrent.futures import Future

import pytest

from ray.util.client.releases import Releases


@pytest.fixture
def sent():
    return queue.SimpleQueue()


@pytest.fixture
def releases(sent):
    counted = Releases(sent.put)
    yield counted
    counted.close()


def test_released_with_the_last_reference(releases, sent):
    releases.retain(b"a")
    releases.retain(b"a")
    releases.retain(b"b")
    releases.release(b"a")
    releases.release(b"b")
    assert sent.get(timeout=10) == [b"b"]
    releases.release(b"a")
    assert sent.get(timeout=10) == [b"a"]
    assert not releases.held


def test_a_future_is_released_once_it_has_an_id(releases, sent):
    future = Future()
    releases.release(future)
    future.set_result(b"late")
    assert sent.get(timeout=10) == [b"late"]


def test_a_future_that_failed_has_nothing_to_release(releases, sent):
    failed = Future()
    failed.set_exception(ValueError())
    releases.release(failed)
    releases.retain(b"a")
    releases.release(b"a")
    assert sent.get(timeout=10) == [b"a"]


def test_many_go_together(sent):
    counted = Releases(sent.put)
    for i in range(5000):
        counted.retain(bytes(str(i), "ascii"))
    for i in range(5000):
        counted.release(bytes(str(i), "ascii"))
    counted.close()
    batches = [sent.get_nowait() for _ in range(sent.qsize())]
    assert sum(map(len, batches)) == 5000
    assert len(batches) < 5000


def test_a_failing_send_ends_nothing(sent):
    def send(ids):
        sent.put(ids)
        raise ConnectionError("gone")

    counted = Releases(send)
    for name in (b"a", b"b"):
        counted.retain(name)
        counted.release(name)
        assert sent.get(timeout=10) == [name]
    counted.close()
    assert not counted._thread.is_alive()
