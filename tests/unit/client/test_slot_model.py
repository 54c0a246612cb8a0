"""Random histories of a slot: one outcome, told to all, each callback called once."""

from __future__ import annotations

import threading
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Dict, List

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.util.client.slot import Slot

PATIENCE_S = 60


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.slot = Slot()
        self.outcome: Any = None
        self.settled = False
        self.calls: Dict[int, int] = {}
        self.waiters: List[threading.Thread] = []
        self.heard: List[Any] = []

    @precondition(lambda self: not self.settled)
    @rule(value=st.one_of(st.none(), st.integers()), failed=st.booleans())
    def settle(self, value: Any, failed: bool) -> None:
        self.settled = True
        self.outcome = KeyError(value) if failed else value
        if failed:
            self.slot.set_exception(self.outcome)
        else:
            self.slot.set_result(value)

    @rule(nested=st.booleans())
    def add_callback(self, nested: bool) -> None:
        number = len(self.calls)
        self.calls[number] = 0

        def called(slot: Slot) -> None:
            assert slot is self.slot and slot.done()
            self.calls[number] += 1
            if nested:
                self.add_callback(False)

        self.slot.add_done_callback(called)

    @precondition(lambda self: len(self.waiters) < 4)
    @rule(timeout=st.sampled_from([None, PATIENCE_S, 1e300]))
    def wait_in_a_thread(self, timeout: Any) -> None:
        thread = threading.Thread(target=self._wait, args=(timeout,), daemon=True)
        thread.start()
        self.waiters.append(thread)

    def _wait(self, timeout: Any) -> None:
        try:
            self.heard.append(self.slot.result(timeout))
        except BaseException as error:  # looked at in the end
            self.heard.append(error)

    @rule()
    def look(self) -> None:
        if self.settled:
            failed = isinstance(self.outcome, KeyError)
            assert self.slot.exception(0) is (self.outcome if failed else None)
            if failed:
                with pytest.raises(KeyError):
                    self.slot.result(0)
            else:
                assert self.slot.result(0) == self.outcome
        else:
            assert not self.slot.wait(0)
            for look in (self.slot.result, self.slot.exception):
                with pytest.raises(FutureTimeout):
                    look(0)

    @invariant()
    def says_what_it_is(self) -> None:
        assert self.slot.done() is self.settled is not self.slot.running()
        assert not self.slot.cancel() and not self.slot.cancelled()
        assert set(self.calls.values()) <= {1 if self.settled else 0}

    def teardown(self) -> None:
        if not self.settled:
            self.settle(None, False)
        for thread in self.waiters:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in self.waiters)
        assert self.heard == [self.outcome] * len(self.waiters)
        # What a waiter leaves behind when the outcome comes just as it begins to wait.
        assert len(self.slot._gates) <= len(self.waiters)


History.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
test_any_history = History.TestCase


def test_callbacks_that_are_added_while_the_outcome_comes_are_each_called_once() -> None:
    for _ in range(200):
        slot, called, start = Slot(), [], threading.Barrier(4)

        def add(slot: Slot = slot, start: Any = start, called: List[int] = called) -> None:
            start.wait(PATIENCE_S)
            for number in range(20):
                slot.add_done_callback(lambda _, number=number: called.append(number))

        threads = [threading.Thread(target=add, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE_S)
        slot.set_result(1)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(called) == sorted([*range(20)] * 3)
