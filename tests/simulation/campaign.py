"""Runs the schedules of many seeds, and shows those that break a promise in their smallest form."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.simulation import schedule
from tests.simulation.checker import Violation, judge
from tests.simulation.plan import Plan, Settings, plan_of
from tests.simulation.shrink import MOST_TRIES, shrink

# What every schedule promises of itself.
RUNS_THROUGH = "the simulation runs through"

# Rubbish is collected after so many schedules: while it is still in the processor's caches.
_COLLECT_EACH = 4


class Broken(NamedTuple):
    """A schedule that broke promises."""

    seed: int
    violations: list[Violation]


def verdict(plan: Plan) -> list[Violation]:
    """Runs a plan; returns what it broke. An error on the way is such a thing, too."""
    try:
        return judge(schedule.run(plan))
    except Exception:
        return [Violation(RUNS_THROUGH, traceback.format_exc(limit=-3))]


def broken(
    seeds: Iterable[int], changed: Callable[[Plan], Plan] = lambda plan: plan
) -> Iterator[Broken]:
    """Runs the schedules of the seeds; yields those that break a promise.

    Args:
        seeds: of the schedules.
        changed: what to make of their plans.
    """
    with schedule.quiet():
        for count, seed in enumerate(seeds):
            if count % _COLLECT_EACH == 0:
                gc.collect()
            violations = verdict(changed(plan_of(seed)))
            if violations:
                yield Broken(seed, violations)


def smallest(plan: Plan, promise: str, tries: int = MOST_TRIES) -> Plan:
    """The smallest plan found that breaks the same promise."""

    def breaks(smaller: Plan) -> bool:
        return any(violation.promise == promise for violation in verdict(smaller))

    with schedule.quiet():
        return shrink(plan, breaks, tries)


def described(plan: Plan) -> str:
    """A plan for people: what is not usual, the programs, the faults."""
    usual = Settings()._asdict()
    unusual = [f"{k}={v!r}" for k, v in plan.settings._asdict().items() if v != usual[k]]
    lines = [f"seed {plan.seed}; settings: {', '.join(unusual) or 'the usual ones'}"]
    for client, program in enumerate(plan.programs):
        for thread, steps in enumerate(program.threads):
            if steps:
                lines.append(f"client {client}, thread {thread}:")
                lines += [f"    {step}" for step in steps]
    lines += [f"{fault}" for fault in plan.faults]
    return "\n".join(lines)


def report(found: Broken, shrinks: bool = True) -> str:
    """What a broken schedule did, in its smallest form, and how to see it again."""
    lines = [f"SEED {found.seed} breaks promises:"]
    lines += [f"  {violation}" for violation in found.violations]
    lines.append(f"Again: make simulate N=1 SEED={found.seed}")
    plan = plan_of(found.seed)
    if shrinks:
        plan = smallest(plan, found.violations[0].promise)
    with schedule.quiet():
        trace = _traced(plan)
    return "\n".join([*lines, "", "The smallest plan that was found:", described(plan), "", *trace])


def _traced(plan: Plan) -> list[str]:
    """What happens in a plan's run, and what that breaks."""
    try:
        observed = schedule.run(plan, traced=True)
        return [*observed.trace, "", *map(str, judge(observed))]
    except Exception:
        return [traceback.format_exc()]
