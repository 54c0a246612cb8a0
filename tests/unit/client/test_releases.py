"""Reference counts of a client."""

import queue
from concurrent.futures import Future

import pytest

from ray.util.client.releases import Handed, Releases
from ray.util.client.session.client import Receipt


class Sent(queue.SimpleQueue):
    """Takes what is released, and its receipts apart."""

    def __init__(self):
        self.receipts = queue.SimpleQueue()

    def send(self, ids, receipts):
        self.put(ids)
        self.receipts.put(receipts)


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def releases(sent):
    counted = Releases(sent.send)
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
    counted = Releases(sent.send)
    for i in range(5000):
        counted.retain(bytes(str(i), "ascii"))
    for i in range(5000):
        counted.release(bytes(str(i), "ascii"))
    counted.close()
    batches = [sent.get_nowait() for _ in range(sent.qsize())]
    assert sum(map(len, batches)) == 5000
    assert len(batches) < 5000


def test_a_release_tells_how_often_the_id_was_handed_out(releases, sent):
    for _ in range(3):
        releases.retain(b"a")
        releases.note_handed([b"a", b"b"], 7)
    releases.retain(b"b")
    for id in (b"a", b"a", b"a", b"b"):
        releases.release(id)
    releases.close()
    told = [sent.receipts.get_nowait() for _ in range(sent.receipts.qsize())]
    assert sorted(sum(told, [])) == [Receipt(b"a", 7, 3), Receipt(b"b", 7, 3)]


def test_each_hand_out_is_told_of_once(releases, sent):
    for handing in (7, 7):
        releases.retain(b"a")
        releases.note_handed([b"a"], handing)
        releases.release(b"a")
        assert sent.get(timeout=10) == [b"a"]
        assert sent.receipts.get(timeout=10) == [Receipt(b"a", 7, 1)]
    releases.retain(b"a")
    releases.release(b"a")
    assert sent.get(timeout=10) == [b"a"] and sent.receipts.get(timeout=10) == []


def test_hand_outs_of_a_stream_that_has_ended_are_not_told(releases, sent):
    releases.retain(b"a")
    releases.retain(b"b")
    releases.note_handed([b"a", b"b"], 7)
    releases.note_handed([b"b"], 8)
    releases.release(b"a")
    assert sent.get(timeout=10) == [b"a"] and sent.receipts.get(timeout=10) == []
    releases.release(b"b")
    assert sent.receipts.get(timeout=10) == [Receipt(b"b", 8, 1)]


def test_what_is_held_again_before_its_release_stands_in_line_is_not_released(sent):
    counted = Releases(sent.send)
    counted.retain(b"a")
    with counted._lock:  # The releasing thread can't decide while this is held.
        counted.release(b"a")
        counted.held[b"a"] += 1
    counted.close()
    assert sent.empty() and counted.held == {b"a": 1}


class Counting:
    """Notes what it is told, as a worker."""

    def __init__(self):
        self.told = []

    def call_handed(self, names, handing):
        self.told.append((*names, handing))

    def call_release(self, names):
        self.told.append(names)


def test_what_an_answer_refers_to_is_held_for_as_long_as_that_lives():
    worker = Counting()
    held = Handed(worker, [b"a", b"b"], 5)
    assert worker.told == [(b"a", b"b", 5)]
    del held
    assert worker.told[1:] == [(b"a", b"b")]


def test_several_are_released_in_one_step(releases, sent):
    for id in (b"a", b"b", b"b"):
        releases.retain(id)
    releases.release((b"a", b"b"))
    assert sent.get(timeout=10) == [b"a"] and releases.held == {b"b": 1}


def test_a_destructor_may_hold_things_of_its_own_in_the_midst_of_a_release(sent):
    counted = []

    class Sending(Sent):
        def send(self, ids, receipts):
            counted[0].retain(b"new")
            super().send(ids, receipts)

    ids = Sending()
    counted.append(Releases(ids.send))
    counted[0].retain(b"a")
    counted[0].release(b"a")
    assert ids.get(timeout=10) == [b"a"] and counted[0].held == {b"new": 1}
    counted[0].close()
