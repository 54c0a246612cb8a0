"""The judge of chaos sees what it is to see."""

from __future__ import annotations

from itertools import islice
from typing import Any, Dict

import pytest

from tests.chaos import judge
from tests.chaos.plan import Kind, faults


def _violations(kind: str, outcome: str, runs: int) -> list[str]:
    begun = {"op": {"begin": "op", "kind": kind, "at": 0.0}}
    ended = {"op": {"end": "op", "outcome": outcome, "text": "why"}}
    return judge.violations(begun, ended, {"op": runs} if runs else {})


@pytest.mark.parametrize(
    "kind,outcome,runs",
    [
        ("task", "ok", 1),
        ("task", "ok", 7),
        ("task_not_to_be_retried", "ok", 1),
        ("task_not_to_be_retried", "OwnerDiedError", 0),
        ("task_not_to_be_retried", "OwnerDiedError", 1),
        ("task_with_a_budget", "OwnerDiedError", 3),
        ("mortal_actor", "ActorDiedError", 1),
        ("small_objects", "ok", 0),
    ],
)
def test_what_keeps_the_promises(kind: str, outcome: str, runs: int) -> None:
    assert _violations(kind, outcome, runs) == []


@pytest.mark.parametrize(
    "kind,outcome,runs,complaint",
    [
        ("task", "wrong", 1, "ended as wrong"),
        ("task", "error", 1, "ended as error"),
        ("task", "OwnerDiedError", 1, "ended as OwnerDiedError"),
        ("task", "ok", 0, "without a run"),
        ("task_not_to_be_retried", "ok", 2, "ran 2 times"),
        ("task_not_to_be_retried", "OwnerDiedError", 2, "ran 2 times"),
        ("task_with_a_budget", "ok", 4, "ran 4 times"),
        ("detached_actor", "ActorUnavailableError", 2, "ran 2 times"),
        ("detached_actor", "ActorDiedError", 1, "ended as ActorDiedError"),
    ],
)
def test_what_breaks_them(kind: str, outcome: str, runs: int, complaint: str) -> None:
    (line,) = _violations(kind, outcome, runs)
    assert complaint in line


def test_what_has_not_ended_is_a_violation() -> None:
    (line,) = judge.violations({"op": {"kind": "task"}}, {}, {})
    assert "has not ended" in line


def test_a_run_of_nothing_that_was_begun_is_a_violation() -> None:
    (line,) = judge.violations({}, {}, {"op": 1})
    assert "nothing of that name" in line


def test_what_is_under_way_for_too_long_hangs() -> None:
    under_way = [{"begin": "op", "kind": "task", "at": 100.0}]
    assert judge.hangs(under_way, 150.0, 60.0) == []
    assert len(judge.hangs(under_way, 170.0, 60.0)) == 1


def _told(at: float, state: str, incarnation: int) -> Dict[str, Any]:
    return {"at": at, "told": [state, incarnation]}


def test_a_recovery_lasts_until_the_next_server_answers() -> None:
    events = [
        {"at": 0.0, "begin": "op"},
        _told(5.5, "suspended", 1),
        _told(6.0, "connected", 2),
        _told(8.0, "suspended", 2),
        _told(8.5, "connected", 2),
        _told(9.0, "suspended", 2),
        _told(12.0, "connected", 4),
    ]
    # The third server died before the program was told of it.
    assert judge.recoveries(events, [(1, 5.0), (2, 9.0), (3, 10.0)]) == [1.0, 3.0, 2.0]


def test_a_death_that_nothing_follows_is_no_recovery() -> None:
    assert judge.recoveries([_told(1.0, "connected", 2)], [(2, 3.0)]) == []


def test_a_plan_is_its_seeds() -> None:
    plans = [list(islice(faults(seed, 3, 1.0), 500)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {fault.kind for fault in plans[0]} == set(Kind)
    assert {fault.session for fault in plans[0]} == {0, 1, 2}
