"""Destructors that call a cache in the midst of another call of it, as the garbage collector may
let them."""

from __future__ import annotations

import threading
from typing import Any, Callable

import pytest

from ray.util.client.cache import _python, _unary, _wait
from ray.util.client.cache._guard import Guard
from ray.util.client.cache._wait import Wait
from ray.util.client.cache.errors import CacheBusyError, WaitTimeoutError


def test_a_thread_is_let_in_once() -> None:
    guard = Guard()
    with guard:
        with pytest.raises(CacheBusyError):
            with guard:
                pass
    with guard:
        pass


def test_an_error_inside_lets_the_next_one_in() -> None:
    guard = Guard()
    with pytest.raises(KeyError):
        with guard:
            raise KeyError
    with guard:
        pass


def test_other_threads_wait() -> None:
    guard, order = Guard(), []

    def enter() -> None:
        with guard:
            order.append("other")

    thread = threading.Thread(target=enter, daemon=True)
    with guard:
        thread.start()
        order.append("first")
    thread.join(20)
    assert order == ["first", "other"]


CALLS = {
    "check": lambda cache, id: cache.check_cache(id, 0),
    "update": lambda cache, id: cache.update_cache(id, b"late"),
    "acknowledge": lambda cache, id: cache.cleanup(id),
    "look": lambda cache, id: cache.state(id),
    "invalidate": lambda cache, id: cache.invalidate(KeyError()),
    "close": lambda cache, id: cache.close(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_destructor_within_a_call_is_turned_away(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any, int], Any]
) -> None:
    cache, refused = _python.OrderedResponseCache(), []

    class Interrupted(Wait):
        def __init__(self) -> None:
            super().__init__()
            with pytest.raises(CacheBusyError, match="destructor") as refusal:
                call(cache, 1)
            refused.append(refusal)

    monkeypatch.setattr(_python, "Wait", Interrupted)
    cache.check_cache(1)
    with pytest.raises(WaitTimeoutError):
        cache.check_cache(1, 0)
    assert refused
    cache.update_cache(1, b"answer")
    assert cache.check_cache(1) == b"answer"


def test_so_it_is_by_the_cache_of_unary_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, refused = _unary.ResponseCache(), []

    class Interrupted(Wait):
        def __init__(self) -> None:
            super().__init__()
            with pytest.raises(CacheBusyError) as refusal:
                cache.update_cache("thread", 1, b"late")
            refused.append(refusal)

    monkeypatch.setattr(_unary, "Wait", Interrupted)
    cache.check_cache("thread", 1)
    with pytest.raises(WaitTimeoutError):
        cache.check_cache("thread", 1, 0)
    assert refused
    cache.update_cache("thread", 1, b"answer")
    assert cache.check_cache("thread", 1) == b"answer"


@pytest.mark.parametrize("timeout", [None, 0, 100])
def test_a_wait_may_end_while_it_begins(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    wait = Wait()
    made = threading.Lock

    class Locks:
        TIMEOUT_MAX = threading.TIMEOUT_MAX

        @staticmethod
        def Lock() -> Any:
            wait.answer("answer")
            return made()

    monkeypatch.setattr(_wait, "threading", Locks)
    assert wait.result(1, timeout) == "answer"


def test_a_wait_that_was_given_up_leaves_nothing() -> None:
    wait = Wait()
    with pytest.raises(WaitTimeoutError):
        wait.result(1, 0)
    assert not wait._gates
    wait.answer("answer")
    assert wait.result(1, 0) == "answer"
