"""Judges what a schedule came to: the promises that a session makes, on the history and the ledger.

Each check yields texts; none is a promise kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    OwnerDiedError,
    RayTaskError,
    TaskCancelledError,
)
from ray.util.client.server.actors import NAME_FREE_S
from ray.util.client.server.proxy.starter import ATTEMPTS
from ray.util.client.session.errors import GracePeriodOver, SessionClosed, SessionLost
from ray.util.client.session.grace import LONGEST_DELAY_S
from tests.simulation import plan
from tests.simulation.cluster import ProgramError, Submission
from tests.simulation.history import Failed, Ok, Operation, Thing
from tests.simulation.schedule import Observed
from tests.simulation.shell import LONGEST_RECONNECT_S
from tests.simulation.user import OutOfPatience, User

# How much later than its timeout a call may end (seconds): an answer's slack and the way of it.
LATE_S = 3.0

# How much longer than on average a start may take.
_LATE_START = 12.0

_FAILURES = (ProgramError, TaskCancelledError)
_LOSSES = (OwnerDiedError, ActorDiedError, ActorUnavailableError)


class Violation(NamedTuple):
    """A promise that was broken: which, and how."""

    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


def judge(observed: Observed) -> list[Violation]:
    """All promises that were broken, each as often as it was."""
    judgement = _Judgement(observed)
    return [Violation(name, text) for name, check in _CHECKS.items() for text in check(judgement)]


class _Judgement:
    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.plan = observed.plan
        self.history = observed.history
        self.ledger = observed.cluster.ledger
        self.users = {user.number: user for user in observed.users}
        self._losable: dict[bytes, bool] = {}
        self.submissions: dict[int, list[Submission]] = defaultdict(list)
        for submission in self.ledger.submissions:
            self.submissions[submission.work].append(submission)
        self.seen = self._seen()
        self.killed_names = self._killed_names()
        self.fired = {fault.kind for _, fault in observed.fired}

    def _seen(self) -> dict[bytes, list[tuple[float, Any]]]:
        """What was seen of each name, and when."""
        seen: dict[bytes, list[tuple[float, Any]]] = defaultdict(list)
        for operation in self.history.operations:
            if isinstance(operation.outcome, Ok) and operation.ended_at is not None:
                for name, value in _values_of(operation):
                    seen[name].append((operation.ended_at, value))
        return seen

    @property
    def tight(self) -> bool:
        """Whether the journal may have had no room."""
        settings = self.plan.settings
        return settings.journal_bytes < 10**6 or settings.journal_entries < 10**5

    @property
    def forgets(self) -> bool:
        """Whether values that were seen may not be kept."""
        return self.plan.settings.value_bytes < 10**6

    def budget(self, thing: Thing) -> int:
        """How often it may be run again; -1: without limit."""
        step = thing.step
        if isinstance(step, plan.Run):
            return step.retries
        if isinstance(step, plan.Make):
            return step.restarts
        if isinstance(step, plan.Call):
            actor = self.history.thing_of.get(thing.needs[0])
            return actor.step.call_retries if actor is not None else 0
        return -1

    def deaths_since(self, user: User, at: float) -> int:
        """How many other servers a client has met since."""
        return sum(1 for met, _ in _changes(user) if met >= at)

    # -- runs

    def runs(self) -> Iterator[str]:
        for number, thing in self.history.things.items():
            budget = self.budget(thing)
            runs = self.ledger.count[number]
            if budget >= 0 and runs > 1 + budget:
                yield f"work {number} ran {runs} times, and may be run again {budget} times"
            if budget >= 0 and isinstance(thing.step, plan.Run):
                for used, submission in enumerate(self.submissions[number]):
                    if submission.retries > budget - used:
                        yield (
                            f"work {number} was submitted for the time {used + 1} with "
                            f"{submission.retries} retries left of {budget}"
                        )

    # -- ends

    def ends(self) -> Iterator[str]:
        yield from self.observed.hung
        for operation in self.history.operations:
            if operation.outcome is None:
                yield f"{operation}, nor at the shutdown"

    def timeouts(self) -> Iterator[str]:
        for operation in self.history.operations:
            timeout = getattr(operation.step, "timeout", None)
            if timeout is None or operation.ended_at is None:
                continue
            took = operation.ended_at - operation.invoked_at
            if took > timeout + LATE_S:
                yield f"{operation}"

    # -- values

    def stays(self) -> Iterator[str]:
        for name, seen in self.seen.items():
            values = {value for _, value in seen}
            # What refers to other objects is kept for as long as the program holds its name.
            gone = self.forgets or (name in self.history.dropped and self._refers(name))
            if len(values) > 1 and not (gone and self._may_differ(name)):
                yield f"{name.hex()} was seen as {sorted(values)}"

    def errors_stay(self) -> Iterator[str]:
        """What has failed, as the program has seen, is neither tried again nor lost."""
        if self.forgets:
            return
        failed: dict[bytes, float] = {}
        for operation in self._gets_of_one():
            (name,), outcome = operation.names, operation.outcome
            if name in failed and operation.invoked_at > failed[name]:
                if isinstance(outcome, Ok) or isinstance(outcome.error, _LOSSES):
                    yield f"{name.hex()} was seen to fail; then {operation}"
            elif isinstance(outcome, Failed) and isinstance(outcome.error, _FAILURES):
                assert operation.ended_at is not None
                failed.setdefault(name, operation.ended_at)
        for name, at in failed.items():
            thing = self.history.thing_of.get(name)
            # Other returns of the same work may be wanted still.
            if thing is None or len(thing.names) > 1 or isinstance(thing.step, plan.Make):
                continue
            for submission in self.submissions[thing.step.work.number]:
                if submission.at > at:
                    yield f"{name.hex()} was seen to fail at {at:.3f}; then {submission}"

    def _gets_of_one(self) -> list[Operation]:
        """Gets of one object that have ended, in the order of their ends."""
        gets = [
            operation
            for operation in self.history.operations
            if isinstance(operation.step, plan.Get) or operation.step == "last look"
            if len(operation.names) == 1 and isinstance(operation.outcome, (Ok, Failed))
        ]
        return sorted(gets, key=lambda operation: operation.ended_at or 0.0)

    def _may_differ(self, name: bytes) -> bool:
        """Whether another run may give another value."""
        thing = self._origin(name)
        if thing is None or isinstance(thing.step, plan.Call) or thing.step.work.fickle:
            return True
        return any(self._may_differ(needed) for needed in thing.needs[1:])

    def _may_be_made_anew(self, name: bytes) -> bool:
        """Whether others may get another value of it than was seen: what was not kept, or refers
        to other objects, can't be put."""
        return (self.forgets or self._refers(name)) and self._may_differ(name)

    def _origin(self, name: bytes) -> Thing | None:
        """What has made an object, or the one in whose value it came; None: the cluster."""
        name = self._own(name)
        inner = self.history.inner.get(name)
        return self.history.thing_of.get(name if inner is None else inner[0])

    def _own(self, name: bytes) -> bytes:
        """The name that the client gave to what came back in a value that it had put."""
        inner = self.history.inner.get(name)
        source = None if inner is None else self.history.thing_of.get(inner[0])
        if inner is None or source is None or not isinstance(source.step, plan.Put):
            return name
        return self._own(source.needs[inner[1]])

    def values(self) -> Iterator[str]:
        for name, seen in self.seen.items():
            possible = self._possible(name)
            for _, value in seen:
                if value not in possible:
                    yield f"{name.hex()} of {self._origin(name)} was seen as {value!r}"
        for run in self.ledger.runs:
            thing = self.history.things[run.work]
            args = _args_of(thing)
            if len(args) != len(run.inputs):
                yield f"work {run.work} ran with {run.inputs}"
                continue
            for name, given in zip(args, run.inputs):
                value = str(given)
                if value not in self._possible(name):
                    yield f"work {run.work} ran with {value!r} for {self._origin(name)}"
                # A detached actor's constructor may be late; its arguments were told before.
                told = min(run.at, run.driver.stopped_at or run.at)
                known = [v for at, v in self.seen.get(name, ()) if at < told]
                if known and value not in known and not self._may_be_made_anew(name):
                    yield f"work {run.work} ran with {value!r}, where {known[0]!r} had been seen"

    def _possible(self, name: bytes) -> set[Any]:
        name = self._own(name)
        thing = self._origin(name)
        assert thing is not None, "the cluster gives nothing by itself"
        inner = self.history.inner.get(name)
        if inner is not None:
            source, place, _ = inner
            index = thing.names.index(source)
            return self.ledger.inner[thing.step.work.number, index, place]
        if isinstance(thing.step, plan.Put):
            work = thing.step.work
            return {f"put {work.number}".ljust(work.size, ".")}
        index = thing.names.index(name)
        made = self.ledger.values.get(thing.step.work.number, ())
        return {values[index] for values in made}

    # -- losses

    def losses(self) -> Iterator[str]:
        for operation in self.history.operations:
            if isinstance(operation.outcome, Failed):
                why = self._unjustified(operation, operation.outcome.error)
                if why:
                    yield f"{why}: {operation}"

    def _unjustified(self, operation: Operation, error: BaseException) -> str:
        user = self.users[operation.client]
        if isinstance(error, SessionLost):
            return self._unjustified_end(user, error)
        if isinstance(error, GetTimeoutError):
            return self._unjustified_timeout(operation)
        if isinstance(error, _LOSSES):
            if self.tight and _changes(user):
                return ""
            if any(self.losable(name) for name in operation.names):
                return ""
            return "nothing that justifies this loss"
        if isinstance(error, TaskCancelledError):
            if any(self._comes_of(name, self._was_ended) for name in operation.names):
                return ""
            return "nothing was cancelled"
        if isinstance(error, RayTaskError) and isinstance(error, ProgramError):
            if any(self._comes_of(name, self._raises) for name in operation.names):
                return ""
            return "nothing raises that"
        if isinstance(error, ValueError) and "actor" in str(error):
            if any(self._comes_of(name, self._is_named) for name in operation.names):
                return ""
        if isinstance(operation.step, plan.Ask) and isinstance(error, ConnectionError):
            return self._unjustified_refusal(operation, error)
        if operation.step == "init":
            return self._unjustified_refusal_to_begin()
        return "no error of the contract"

    def _unjustified_refusal_to_begin(self) -> str:
        """Of a session whose first server has not come up."""
        if self.fired & {"fail starts", "kill server", "shut down"}:
            return ""
        # The proxier could not talk to any of the servers that it has tried.
        kinds = [fault.kind for _, fault in self.observed.fired]
        apart = sum(kinds.count(kind) for kind in ("stop server", "cut server", "silence server"))
        return "" if apart >= ATTEMPTS else "nothing kept all its servers from beginning"

    def _unjustified_timeout(self, operation: Operation) -> str:
        timeout = getattr(operation.step, "timeout", None)
        if timeout is None:
            return "there was no timeout"
        assert operation.ended_at is not None
        if operation.ended_at - operation.invoked_at < timeout - 0.001:
            return "the time was not over"
        return ""

    def _unjustified_refusal(self, operation: Operation, error: ConnectionError) -> str:
        """Of a call beside the data stream, which does not wait for the session's end."""
        assert operation.ended_at is not None
        grace = self.plan.settings.grace
        if isinstance(error, OutOfPatience):
            took = operation.ended_at - operation.invoked_at
            return "" if took >= grace else "the grace period was not over"
        return self._unjustified_obituary(error, operation.ended_at)

    def _unjustified_obituary(self, error: ConnectionError, at: float) -> str:
        """Of what the proxier tells of a session that it has ended."""
        if "did not come back within the grace period" in str(error):
            return "" if self._was_away(at) else "the client was not away"
        if self.fired & {"fail starts", "kill server"}:
            if "The server of this session died" in str(error) or "Starting Ray" in str(error):
                return ""
        return "no reason to end the session"

    def _was_away(self, until: float) -> bool:
        """Whether a client may have been out of reach for a grace period."""
        return self._outage(until) >= 0.8 * self.plan.settings.grace

    def _outage(self, until: float) -> float:
        """How long faults may have kept a client and its server apart, in seconds, at most."""
        settings = self.plan.settings
        # A channel may just have tried in vain when all is well again.
        patience = LONGEST_RECONNECT_S + self._name_waits()
        for at, fault in self.observed.fired:
            if at > until:
                continue
            patience += _LATE_START * settings.start + fault.amount
            if fault.kind == "fail starts":
                patience += fault.amount * (LONGEST_DELAY_S + _LATE_START * settings.start)
            elif fault.kind == "slow starts":
                patience += _LATE_START * fault.amount
        return patience

    def _name_waits(self) -> float:
        """For how long a server may have waited for actors' names, which another one has. Unlike
        the product's, a simulated server does nothing else meanwhile."""
        steps = [
            step
            for program in self.plan.programs
            for thread in program.threads
            for step in thread
            if isinstance(step, plan.Make) and step.name
        ]
        return NAME_FREE_S * (len(steps) - len({step.name for step in steps}))

    def _unjustified_end(self, user: User, error: SessionLost) -> str:
        if isinstance(error, SessionClosed):
            return "" if self.fired & {"shut down"} or user.over else "nobody has shut it down"
        grace = self.plan.settings.grace
        if isinstance(error, GracePeriodOver):
            began = user.shell.gaps[-1][0]
            if len(user.shell.gaps[-1]) == 2 or user.shell.ended_at - began < grace - 0.001:
                return f"the grace period of {grace} s was not over: {user.shell.gaps}"
            return "" if self._was_away(user.shell.ended_at) else "nothing kept it away so long"
        return self._unjustified_obituary(error, user.shell.ended_at)

    def _was_ended(self, thing: Thing) -> bool:
        """Whether it was cancelled or killed, by whatever handle."""
        if any(name in self.history.ended for name in thing.names):
            return True
        return getattr(thing.step, "name", "") in self.killed_names

    def _killed_names(self) -> set[str]:
        """What actors were called by the cluster that were killed: others may have been found."""
        killed = set()
        for name in self.history.ended:
            thing = self.history.thing_of.get(name)
            step = None if thing is None else thing.step
            killed.add(self.history.found.get(name, "") or getattr(step, "name", ""))
        return killed - {""}

    @staticmethod
    def _raises(thing: Thing) -> bool:
        return thing.step.work.raises

    def _is_named(self, thing: Thing) -> bool:
        return isinstance(thing.step, plan.Make) and bool(thing.step.name)

    def _comes_of(self, name: bytes, what: Callable[[Thing], bool]) -> bool:
        """Whether it is so of a thing, or of what it needs. What was found by name may be."""
        thing = self._origin(name)
        if thing is None:
            return name in self.history.found
        return what(thing) or any(self._comes_of(needed, what) for needed in thing.needs)

    def losable(self, name: bytes) -> bool:
        """Whether the contract allows to lose it."""
        known = self._losable.get(name)
        if known is None:
            self._losable[name] = False
            known = self._losable[name] = self._may_be_lost(name)
        return known

    def _may_be_lost(self, name: bytes) -> bool:
        thing = self._origin(name)
        if thing is None:
            return name in self.history.found
        inner = self.history.inner.get(name)
        if inner is not None and self._own(name) != name:
            # Its own name was let go of, and nothing here can make it again; or it had failed.
            gone = self.deaths_since(self.users[thing.client], inner[2]) > 0
            return gone or self.losable(self._own(name))
        if inner is not None:
            return self._may_be_out_of_reach(thing, inner[2])
        deaths = self.deaths_since(self.users[thing.client], thing.at)
        if any(self.losable(needed) for needed in thing.needs):
            return True
        if self.tight and deaths:
            return True
        step = thing.step
        if isinstance(step, (plan.Make, plan.Call)) and "kill actor" in self.fired:
            return True
        if isinstance(step, plan.Put):
            return False
        if self._was_ended(thing):
            return True
        if isinstance(step, plan.Make) and step.detached:
            if any(self._comes_of(needed, self._raises) for needed in thing.needs):
                return True
            # One that no cluster was told of can't be told from a dead one of its name.
            return deaths > 0 and self._has_namesake(thing)
        if isinstance(step, plan.Make):
            if any(self._comes_of(needed, self._raises) for needed in thing.needs):
                return True
            if any(self._comes_of(needed, self._was_ended) for needed in thing.needs):
                return True
        return 0 <= self.budget(thing) < deaths

    def _has_namesake(self, thing: Thing) -> bool:
        return any(
            other is not thing
            and isinstance(other.step, plan.Make)
            and other.step.name == thing.step.name
            for other in self.history.things.values()
        )

    def _may_be_out_of_reach(self, source: Thing, since: float) -> bool:
        """Whether what came in a value may be lost: where that can't be had once more."""
        if not self.deaths_since(self.users[source.client], since):
            return False
        return self.forgets or any(self.losable(name) for name in source.names)

    # -- order

    def order(self) -> Iterator[str]:
        for (actor, life, driver), works in self.ledger.calls.items():
            yield from self._in_order(works, f"calls of actor {actor}, life {life}, by {driver}")
        by_driver = defaultdict(list)
        for submission in self.ledger.submissions:
            by_driver[submission.driver].append(submission.work)
        for driver, works in by_driver.items():
            yield from self._in_order(works, f"submissions of {driver}")

    def _in_order(self, works: list[int], where: str) -> Iterator[str]:
        latest: dict[int, Thing] = {}
        for work in works:
            thing = self.history.things[work]
            before = latest.get(thing.client)
            if before is not None and before.order > thing.order:
                if not self._is_restored_late(thing):
                    yield f"{where}: {before.step} came before {thing.step}"
                continue
            latest[thing.client] = thing

    def _is_restored_late(self, thing: Thing) -> bool:
        """Whether it may come after younger ones: it had finished before a death, or is needed by
        nothing but what is restored late."""
        changes = [met for met, _ in _changes(self.users[thing.client])]
        if isinstance(thing.step, plan.Put) or (
            isinstance(thing.step, plan.Make) and thing.step.detached
        ):
            return bool(changes)
        return bool(changes) and all(
            self.history.finished.get(name, float("inf")) <= changes[-1] for name in thing.names
        )

    # -- what is over

    def released(self) -> Iterator[str]:
        for number, submissions in self.submissions.items():
            thing = self.history.things[number]
            for submission in submissions[1:]:
                met = self._met(thing, submission)
                if met is None:
                    continue
                if self._is_released(thing, met):
                    yield f"{thing.step} was run again in {submission.driver} though released"
                if all(self.history.ended.get(name, met) < met for name in thing.names):
                    yield f"{thing.step} was run again in {submission.driver} though ended"

    def _met(self, thing: Thing, submission: Submission) -> float | None:
        for met, incarnation in self.users[thing.client].shell.met:
            if incarnation == submission.driver.incarnation:
                return met
        return None

    def _inside(self, thing: Thing) -> list[bytes]:
        """Names of what came in its values."""
        return [name for name, where in self.history.inner.items() if where[0] in thing.names]

    def _is_released(self, thing: Thing, at: float) -> bool:
        names = (*thing.names, *self._inside(thing))
        if any(self.history.dropped.get(name, at) >= at for name in names):
            return False
        users = [
            other
            for other in self.history.things.values()
            if any(name in other.needs for name in (*thing.names, *self._inside(thing)))
        ]
        return all(self._is_released(user, at) for user in users) and not any(
            self._stood_in_line(user, at) for user in users
        )

    def _stood_in_line(self, thing: Thing, at: float) -> bool:
        """Whether no server was given it by then, so that it was sent for the first time after:
        also if nobody holds what it makes."""
        given = [submission.at for submission in self.submissions.get(thing.step.work.number, ())]
        # It may be refused, since something else that it needs is lost.
        return thing.at < at and min(given, default=at) >= at

    # -- servers

    def fencing(self) -> Iterator[str]:
        done = set()
        for client, key, incarnation in self.ledger.asked:
            number = int(client.rsplit("-", 1)[1])
            if incarnation not in self.users[number].meant[key]:
                meant = self.users[number].meant[key]
                yield f"a call meant for {meant} was done by incarnation {incarnation}"
            if (client, key, incarnation) in done:
                yield f"a call was done twice by incarnation {incarnation}"
            done.add((client, key, incarnation))

    def bounds(self) -> Iterator[str]:
        settings = self.plan.settings
        for user in self.observed.users:
            most = user.shell.most
            if most["bytes"] > settings.journal_bytes:
                yield f"the journal held {most['bytes']} bytes"
            if most["values"] > settings.value_bytes:
                yield f"the journal held values of {most['values']} bytes"
        for server in self.observed.servers:
            if server.most_entries > settings.cache_entries:
                yield f"{server} cached {server.most_entries} responses"
            if server.most_bytes > settings.cache_bytes:
                yield f"{server} cached {server.most_bytes} bytes"

    def leaks(self) -> Iterator[str]:
        yield from self.observed.leaks

    def _refers(self, name: bytes) -> bool:
        """Whether a value refers to other objects."""
        thing = self.history.thing_of.get(name)
        if thing is None:
            return False
        return thing.step.work.holds > 0 or (isinstance(thing.step, plan.Put) and bool(thing.needs))

    def faults(self) -> Iterator[str]:
        yield from self.observed.faults


def _changes(user: User) -> list[tuple[float, int]]:
    """When a client met another server than before."""
    met = user.shell.met
    return [now for before, now in zip(met, met[1:]) if now[1] != before[1]]


def _values_of(operation: Operation) -> list[tuple[bytes, Any]]:
    value = operation.outcome.value  # type: ignore[union-attr]
    step = operation.step
    if isinstance(step, plan.Get) or step == "last look":
        return list(zip(operation.names, value))
    if isinstance(step, (plan.Later, plan.Open)) and operation.names:
        return [(operation.names[0], value)]
    return []


def _args_of(thing: Thing) -> tuple[bytes, ...]:
    return thing.needs[1:]


_CHECKS: dict[str, Callable[[_Judgement], Iterator[str]]] = {
    "runs are counted": _Judgement.runs,
    "every call ends": _Judgement.ends,
    "timeouts hold": _Judgement.timeouts,
    "a seen value stays": _Judgement.stays,
    "a seen error stays": _Judgement.errors_stay,
    "values are right": _Judgement.values,
    "losses have a cause": _Judgement.losses,
    "order is kept": _Judgement.order,
    "what is over is not run again": _Judgement.released,
    "stale incarnations are refused": _Judgement.fencing,
    "bounds hold": _Judgement.bounds,
    "nothing leaks": _Judgement.leaks,
    "nothing breaks": _Judgement.faults,
}
PROMISES = tuple(_CHECKS)
