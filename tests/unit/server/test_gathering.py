"""Values that come in any order on any thread are told once, in their places."""

from __future__ import annotations

import threading
from typing import Any, Callable, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    OwnerDiedError,
    RayTaskError,
    TaskCancelledError,
    UnserializableException,
    WorkerCrashedError,
)
from ray.util.client.server.gathering import Failure, Values, gather


class Ref:
    """Stands for a reference whose value comes when the test says so."""

    def __init__(self) -> None:
        self.tell: Callable[[Any], None] = lambda _: None

    def _on_completed(self, tell: Callable[[Any], None]) -> None:
        self.tell = tell


def failed_task() -> RayTaskError:
    return RayTaskError("f", "traceback", ZeroDivisionError("by nothing"))


OUTCOMES = st.lists(
    st.one_of(st.integers(), st.none(), st.just("crash"), st.just("raise")), min_size=1, max_size=8
)


def value_of(outcome: Any) -> Any:
    return {"crash": WorkerCrashedError(), "raise": failed_task()}.get(outcome, outcome)


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_any_order(outcomes: List[Any], random: Any) -> None:
    refs, told = [Ref() for _ in outcomes], []
    gather(refs, told.append)
    order = list(range(len(refs)))
    random.shuffle(order)
    for index in order:
        refs[index].tell(value_of(outcomes[index]))
    errors = [outcomes[n] for n in order if outcomes[n] in ("crash", "raise")]
    if not errors:
        assert told == [Values(outcomes)]
        return
    (failure,) = told
    assert isinstance(failure, Failure)
    kind = WorkerCrashedError if errors[0] == "crash" else ZeroDivisionError
    assert isinstance(failure.error, kind), "the first error that came is told"
    assert outcomes[failure.index] == errors[0] and failure.is_final


@pytest.mark.parametrize(
    "error, final",
    [
        (failed_task(), True),
        (RayTaskError("f", "", GetTimeoutError("its own")).as_instanceof_cause(), True),
        (TaskCancelledError(), True),
        (UnserializableException("trace"), True),
        (OwnerDiedError("00", b"", ""), False),
        (GetTimeoutError("not yet"), False),
        (ActorUnavailableError("away", None), False),
        (ActorDiedError(), False),
        (ValueError("unknown"), False),
    ],
)
def test_what_a_task_has_come_to_is_told_from_what_may_pass(error: Any, final: bool) -> None:
    assert Failure(error, 0).is_final is final


@pytest.mark.parametrize("failing", [False, True])
def test_many_threads_tell_once(failing: bool) -> None:
    refs, told = [Ref() for _ in range(64)], []
    gather(refs, told.append)
    start = threading.Barrier(8)

    def complete(mine: List[int]) -> None:
        start.wait(30)
        for index in mine:
            refs[index].tell(failed_task() if failing and index % 8 == 7 else index)

    threads = [
        threading.Thread(target=complete, args=(range(n, 64, 8),), daemon=True) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 1
    assert isinstance(told[0], Failure) if failing else told == [Values(list(range(64)))]
