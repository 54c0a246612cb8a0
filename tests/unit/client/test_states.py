"""Listeners of a session."""

from __future__ import annotations

import threading

import pytest

from ray.util.client.session.info import SessionInfo, SessionState
from ray.util.client.states import Listeners


def info(incarnation):
    return SessionInfo(SessionState.CONNECTED, incarnation, 0, 0, 0, {}, None, 0, 0)


@pytest.fixture
def listeners():
    listeners = Listeners(None)
    yield listeners
    listeners.close()


class Ear:
    def __init__(self, count):
        self.heard, self._count, self.full = [], count, threading.Event()

    def __call__(self, told):
        self.heard.append(told.incarnation)
        if len(self.heard) == self._count:
            self.full.set()


def test_changes_are_told_in_order_and_once_to_each(listeners):
    ears = [Ear(3), Ear(3)]
    for ear in (*ears, ears[0]):
        listeners.add(ear)
    for n in range(3):
        listeners.tell(info(n))
    assert all(ear.full.wait(30) for ear in ears)
    assert [ear.heard for ear in ears] == [[0, 1, 2]] * 2


def test_one_that_raises_harms_nobody(listeners):
    ear = Ear(2)
    listeners.add(lambda told: 1 / 0)
    listeners.add(ear)
    listeners.tell(info(1))
    listeners.tell(info(2))
    assert ear.full.wait(30)


def test_a_removed_one_hears_nothing_more(listeners):
    gone, ear = Ear(1), Ear(1)
    listeners.add(gone)
    listeners.add(ear)
    listeners.remove(gone)
    listeners.remove(gone)
    listeners.tell(info(1))
    assert ear.full.wait(30) and gone.heard == []


def test_telling_calls_nobody_on_the_spot(listeners):
    threads, ear = [], Ear(1)
    listeners.add(lambda told: threads.append(threading.current_thread()))
    listeners.add(ear)
    listeners.tell(info(1))
    assert ear.full.wait(30) and threads != [threading.current_thread()]
