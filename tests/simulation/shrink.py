"""Makes a plan that breaks a promise as small as it gets while it still breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation.plan import Plan, Program, Settings

# How many plans are tried at most: each takes some ten milliseconds.
MOST_TRIES = 3000


class _Spent(Exception):
    """No more tries."""


class _Search:
    def __init__(self, plan: Plan, breaks: Callable[[Plan], bool], tries: int) -> None:
        self.plan = plan
        self._breaks = breaks
        self._left = tries

    def take_if_broken(self, plan: Plan) -> bool:
        """Goes on with a smaller plan if it still breaks the promise."""
        if plan == self.plan:
            return False
        if not self._left:
            raise _Spent()
        self._left -= 1
        if not self._breaks(plan):
            return False
        self.plan = plan
        return True

    def run(self) -> None:
        while any([self._parts(), self._settings(), self._faults()]):
            pass

    def _parts(self) -> bool:
        """Takes out steps and faults: many at once first, then fewer (delta debugging)."""
        found = False
        size = max(1, len(_places(self.plan)) // 2)
        while size:
            start = 0
            while start < len(places := _places(self.plan)):
                if self.take_if_broken(_without(self.plan, set(places[start : start + size]))):
                    found = True
                else:
                    start += size
            size //= 2
        return found

    def _settings(self) -> bool:
        """Sets what may be usual to what is usual."""
        found = False
        for field, value in Settings()._asdict().items():
            settings = self.plan.settings._replace(**{field: value})
            found = self.take_if_broken(self.plan._replace(settings=settings)) or found
        return found

    def _faults(self) -> bool:
        """Lets faults come earlier."""
        found = False
        for index, fault in enumerate(self.plan.faults):
            for smaller in (0, fault.deliveries // 2, fault.deliveries - 1):
                if not 0 <= smaller < fault.deliveries:
                    continue
                faults = list(self.plan.faults)
                faults[index] = fault._replace(deliveries=smaller)
                if self.take_if_broken(self.plan._replace(faults=tuple(faults))):
                    found = True
                    break
        return found


# Where something stands: (client, thread, step), or (-1, 0, fault).
_Place = tuple[int, int, int]


def _places(plan: Plan) -> list[_Place]:
    return list(_walk(plan))


def _walk(plan: Plan) -> Iterator[_Place]:
    for index in range(len(plan.faults)):
        yield -1, 0, index
    for client, program in enumerate(plan.programs):
        for thread, steps in enumerate(program.threads):
            for step in range(len(steps)):
                yield client, thread, step


def _without(plan: Plan, gone: set[_Place]) -> Plan:
    faults = tuple(f for index, f in enumerate(plan.faults) if (-1, 0, index) not in gone)
    programs = tuple(
        Program(
            tuple(
                tuple(s for n, s in enumerate(steps) if (client, thread, n) not in gone)
                for thread, steps in enumerate(program.threads)
            )
        )
        for client, program in enumerate(plan.programs)
    )
    return plan._replace(programs=programs, faults=faults)


def shrink(plan: Plan, breaks: Callable[[Plan], bool], tries: int = MOST_TRIES) -> Plan:
    """The smallest plan that was found.

    Args:
        plan: breaks a promise.
        breaks: whether a plan breaks it.
        tries: how many plans to run at most.
    """
    search = _Search(plan, breaks, tries)
    try:
        search.run()
    except _Spent:
        pass
    return search.plan
