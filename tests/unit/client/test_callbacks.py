"""Programs' callbacks run on a thread of their own, each once, in order, whatever they do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ray.util.client import callbacks as client_callbacks
from ray.util.client import ray
from ray.util.client.callbacks import Callbacks

_PATIENCE_S = 20.0
CONTEXT = object()


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    callbacks = Callbacks(CONTEXT)
    yield callbacks
    callbacks.close()


@pytest.fixture
def told() -> queue.SimpleQueue:
    return queue.SimpleQueue()


def taken(told: queue.SimpleQueue, count: int) -> list[Any]:
    return [told.get(timeout=_PATIENCE_S) for _ in range(count)]


def test_calls_are_made_in_order(callbacks: Callbacks, told: queue.SimpleQueue) -> None:
    for number in range(100):
        callbacks.call(told.put, number)
    assert taken(told, 100) == list(range(100))


def test_one_that_waits_keeps_nobody_waiting_who_calls(
    callbacks: Callbacks, told: queue.SimpleQueue
) -> None:
    gate = threading.Event()
    callbacks.call(gate.wait, _PATIENCE_S)
    callbacks.call(lambda _: told.put(threading.current_thread()), None)
    assert told.empty()
    gate.set()
    assert taken(told, 1)[0].name == "ray_client_callbacks"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("stop")])
def test_what_one_raises_is_logged(
    callbacks: Callbacks,
    told: queue.SimpleQueue,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr(client_callbacks.logger, "exception", told.put)
    callbacks.call(fail, None)
    callbacks.call(told.put, "next")
    assert taken(told, 2) == ["A program's callback for an object failed.", "next"]


@pytest.mark.parametrize(
    "error, kind", [(ValueError("no"), ValueError), (SystemExit(3), RuntimeError)]
)
def test_a_value_that_can_not_be_read_is_the_reason(
    callbacks: Callbacks, told: queue.SimpleQueue, error: BaseException, kind: type
) -> None:
    def read() -> Any:
        raise error

    callbacks.tell(told.put, read)
    callbacks.tell(told.put, lambda: threading.current_thread().name)
    reason, thread = taken(told, 2)
    assert type(reason) is kind and error in (reason, reason.__cause__)
    assert thread == "ray_client_callbacks"


def test_what_is_in_line_at_the_end_is_called(told: queue.SimpleQueue) -> None:
    callbacks = Callbacks(CONTEXT)
    gate = threading.Event()
    callbacks.call(gate.wait, _PATIENCE_S)
    callbacks.call(told.put, "before")
    callbacks.close()
    callbacks.call(told.put, "after")
    gate.set()
    assert taken(told, 2) == ["before", "after"]


def test_they_belong_to_the_context_of_the_session(
    callbacks: Callbacks, told: queue.SimpleQueue
) -> None:
    callbacks.call(lambda _: told.put(ray.get_context()), None)
    assert taken(told, 1) == [CONTEXT]


def test_the_end_can_be_waited_for(told: queue.SimpleQueue) -> None:
    callbacks = Callbacks(CONTEXT)
    gate = threading.Event()
    callbacks.call(gate.wait, _PATIENCE_S)
    callbacks.call(told.put, "called")
    callbacks.call(lambda _: callbacks.join(), None)  # That must not wait for itself.
    callbacks.close()
    threading.Timer(0.05, gate.set).start()
    callbacks.join()
    assert told.get_nowait() == "called"


def test_nobody_waits_for_one_for_ever(
    told: queue.SimpleQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_callbacks, "PATIENCE_S", 0.01)
    monkeypatch.setattr(client_callbacks.logger, "warning", lambda text, *_: told.put(text))
    callbacks = Callbacks(CONTEXT)
    gate = threading.Event()
    callbacks.call(gate.wait, _PATIENCE_S)
    callbacks.close()
    callbacks.join()
    assert "still running" in told.get_nowait()
    gate.set()


def test_what_comes_after_the_end_is_called(told: queue.SimpleQueue) -> None:
    callbacks = Callbacks(CONTEXT)
    callbacks.close()
    callbacks._thread.join(_PATIENCE_S)
    assert not callbacks._thread.is_alive()
    callbacks.call(told.put, "late")
    assert taken(told, 1) == ["late"]


def test_nothing_is_kept_of_a_call_that_was_made(
    callbacks: Callbacks, told: queue.SimpleQueue
) -> None:
    class Dropped:
        def __del__(self) -> None:
            told.put("dropped")

    callbacks.call(lambda value: None, Dropped())
    assert taken(told, 1) == ["dropped"]
