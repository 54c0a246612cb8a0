"""A future whose waiters may be interrupted at any point."""

from __future__ import annotations

import threading
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from ray.util.client.slot import Slot


def test_a_value_that_is_there_is_returned_at_once():
    slot = Slot()
    assert not slot.done() and slot.running()
    slot.set_result(None)
    assert slot.done() and slot.result(0) is None and slot.exception(0) is None


def test_an_exception_is_raised():
    slot = Slot()
    slot.set_exception(KeyError("gone"))
    with pytest.raises(KeyError, match="gone"):
        slot.result(0)
    assert isinstance(slot.exception(0), KeyError)


def test_waiting_ends_by_the_timeout_and_leaves_nothing_behind():
    slot = Slot()
    assert not slot.wait(0)
    with pytest.raises(FutureTimeout):
        slot.result(0.001)
    assert not slot._gates


def test_a_waiter_may_give_up_while_others_are_woken():
    class Gates(list):
        """Where the last waiter gives up after it was found to be there."""

        def pop(self):
            last = super().pop()
            self.clear()
            return last

        def __bool__(self):
            return True

    slot, called = Slot(), []
    gates = [threading.Lock(), threading.Lock()]
    for gate in gates:
        gate.acquire()
    slot._gates = Gates(gates)
    slot.add_done_callback(called.append)
    slot.set_result(1)
    assert called == [slot] and not gates[1].locked()


@pytest.mark.parametrize("timeout", [None, 1e300])
def test_every_waiter_is_woken(timeout):
    slot, values = Slot(), []
    threads = [
        threading.Thread(target=lambda: values.append(slot.result(timeout))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    slot.set_result("x")
    for thread in threads:
        thread.join(30)
    assert values == ["x"] * 8


def test_callbacks_are_called_once_before_and_after_the_outcome():
    slot, called = Slot(), []
    slot.add_done_callback(called.append)
    assert called == []
    slot.set_result(1)
    slot.add_done_callback(called.append)
    assert called == [slot, slot]


def test_it_can_not_be_cancelled():
    slot = Slot()
    assert not slot.cancel() and not slot.cancelled()
    slot.set_result(1)
    assert slot.result() == 1
