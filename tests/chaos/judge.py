"""What histories and the ledger of runs say about the promises. No I/O."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

# How an operation may end, other than well, by its kind.
_MAY_BE_LOST = {
    "task_not_to_be_retried": {"OwnerDiedError"},
    "task_with_a_budget": {"OwnerDiedError"},
    "seen_value": {"OwnerDiedError"},
    "mortal_actor": {"ActorDiedError", "ActorUnavailableError"},
    "detached_actor": {"ActorUnavailableError"},
}
# How often what an operation submits may run; without limit if it is not here.
_MAX_RUNS = {
    "task_not_to_be_retried": 1,
    "task_with_a_budget": 3,
    "seen_value": 1,
    "mortal_actor": 1,
    "detached_actor": 1,
}
# What must have run if the operation ended well.
_RUNS = {*_MAX_RUNS, "task", "chain", "fan", "futures", "awaits"} - {"seen_value"}


def violations(
    begun: Mapping[str, Dict[str, Any]],
    ended: Mapping[str, Dict[str, Any]],
    runs: Mapping[str, int],
) -> List[str]:
    """A line for each broken promise.

    Args:
        begun, ended: by operation, the events of its beginning and end.
        runs: by operation, how often what it submitted ran.
    """
    found = []
    for op, event in begun.items():
        kind, end = event["kind"], ended.get(op)
        if end is None:
            found.append(f"{op} ({kind}) has not ended")
        elif end["outcome"] != "ok" and end["outcome"] not in _MAY_BE_LOST.get(kind, ()):
            found.append(f"{op} ({kind}) ended as {end['outcome']}: {end['text']}")
        elif end["outcome"] == "ok" and kind in _RUNS and not runs.get(op):
            found.append(f"{op} ({kind}) has a value without a run")
        if runs.get(op, 0) > _MAX_RUNS.get(kind, runs.get(op, 0)):
            found.append(f"{op} ({kind}) ran {runs[op]} times")
    found += [f"{op} ran, but nothing of that name was begun" for op in runs if op not in begun]
    return found


def hangs(open_operations: Iterable[Dict[str, Any]], now: float, limit_s: float) -> List[str]:
    """Operations that are under way for longer than ``limit_s``."""
    return [
        f"{event['begin']} ({event['kind']}) is under way for {now - event['at']:.0f} s"
        for event in open_operations
        if now - event["at"] > limit_s
    ]


def recoveries(
    events: Iterable[Dict[str, Any]], deaths: Iterable[Tuple[int, float]]
) -> List[float]:
    """Seconds from each death of a session's server until the program was told of another one.

    A server that dies before the program was told of it leaves both deaths to the next.

    Args:
        events: of one program, in their order.
        deaths: which of the session's servers died, from 1, and when.
    """
    told = [(event["at"], *event["told"]) for event in events if "told" in event]
    back = [(at, number) for at, state, number in told if state == "connected"]
    took = []
    for dead, died in deaths:
        after = [at - died for at, number in back if at > died and number > dead]
        took += after[:1]
    return took


def distribution(seconds: Sequence[float]) -> str:
    """A line with how many, and their quantiles."""
    if len(seconds) < 2:
        return f"{len(seconds)}: {', '.join(f'{s:.2f} s' for s in seconds)}"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    parts = {"min": min(seconds), "median": cuts[49], "90 %": cuts[89], "99 %": cuts[98]}
    told = ", ".join(f"{name} {value:.2f} s" for name, value in parts.items())
    return f"{len(seconds)}: {told}, max {max(seconds):.2f} s"


def outcomes(ended: Iterable[Dict[str, Any]]) -> str:
    """How operations ended: how many of each outcome."""
    counts = Counter(event["outcome"] for event in ended)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
