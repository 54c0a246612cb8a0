"""Runs the schedules of many seeds, and shows those that break a promise in their smallest form."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.simulation import schedule
from tests.simulation.checker import Violation, judge
from tests.simulation.plan import Plan, Settings, plan_of
from tests.simulation.shrink import MOST_TRIES, shrink

# Rubbish is collected after so many schedules.
_COLLECT_EACH = 200


class Broken(NamedTuple):
    """A schedule that broke promises."""

    seed: int
    violations: list[Violation]


def verdict(plan: Plan) -> list[Violation]:
    """Runs a plan; returns what it broke."""
    return judge(schedule.run(plan))


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
        observed = schedule.run(plan, traced=True)
        violations = judge(observed)
    lines += ["", "The smallest plan that was found:", described(plan), "", *observed.trace, ""]
    lines += [f"{violation}" for violation in violations]
    return "\n".join(lines)


class Progress:
    """Counts schedules, and says now and then how many there were."""

    def __init__(self, say: Callable[[str], None], each: int) -> None:
        self._say = say
        self._each = each
        self._began = time.monotonic()
        self._cpu = time.process_time()
        self.count = 0

    def over(self, seeds: Iterable[int]) -> Iterator[int]:
        """The same seeds, counted as they are taken."""
        for seed in seeds:
            yield seed
            self.count += 1
            if self.count % self._each == 0:
                self._say(self.summary())

    def summary(self) -> str:
        took, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        rate = self.count / cpu if cpu else 0.0
        return f"{self.count} schedules in {took:.0f} s, {rate:.0f} in a second of processor time"
