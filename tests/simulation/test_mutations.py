"""The simulation finds faults: those that are put into the product on purpose."""

from __future__ import annotations

import pytest

from tests.simulation.campaign import broken, smallest, verdict
from tests.simulation.checker import PROMISES
from tests.simulation.faults import MUTATIONS
from tests.simulation.plan import Plan, plan_of

# Each fault must be found within so many schedules.
BOUND = 400


def _in_python(plan: Plan) -> Plan:
    """The plan with the cache that a test can put a fault into."""
    return plan._replace(settings=plan.settings._replace(compiled=False))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_deliberate_fault_is_found(name: str) -> None:
    mutation = MUTATIONS[name]
    assert mutation.promise in PROMISES
    with mutation.in_place():
        for found in broken(range(BOUND), _in_python):
            if any(violation.promise == mutation.promise for violation in found.violations):
                break
        else:
            pytest.fail(f"{BOUND} schedules have not shown: {name}")
    assert not verdict(_in_python(plan_of(found.seed))), "the seed breaks without the fault too"


@pytest.mark.timeout(600)
def test_what_breaks_is_made_small() -> None:
    mutation = MUTATIONS["a budget not counted"]
    with mutation.in_place():
        found = next(
            each
            for each in broken(range(BOUND), _in_python)
            if any(violation.promise == mutation.promise for violation in each.violations)
        )
        plan = smallest(_in_python(plan_of(found.seed)), mutation.promise, tries=600)
        assert any(violation.promise == mutation.promise for violation in verdict(plan))
    steps = sum(len(thread) for program in plan.programs for thread in program.threads)
    # A task, and a death or two.
    assert steps <= 3 and 1 <= len(plan.faults) <= 3
