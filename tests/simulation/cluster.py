"""A simulated Ray: jobs, objects, tasks and actors, and a ledger of all that ever ran.

As much of Ray as a session's server needs, with what was measured of it: shortly after a driver's
death its tasks have stopped and its actors are gone, their names are free a moment later, and
detached actors live on.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)
from tests.simulation.world import World

# Until when after a driver's death its work may still begin, and its names are taken (seconds).
STOPS_WITHIN_S = 0.01
FREE_WITHIN_S = 0.02


class ProgramError(Exception):
    """What a task raises that is made to fail."""


class Work(NamedTuple):
    """What a task, an actor's constructor or a call does.

    Attributes:
        number: tells works apart; the ledger counts by it.
        takes: seconds, on average.
        fickle: whether each run gives another value.
        raises: whether it fails.
        size: bytes that its value is padded to.
        returns: how many values it gives.
        holds: how many objects each of its values refers to.
    """

    number: int
    takes: float = 0.0
    fickle: bool = False
    raises: bool = False
    size: int = 0
    returns: int = 1
    holds: int = 0


class Bag(NamedTuple):
    """A value that refers to objects. ``text`` is the rest of it."""

    text: str
    inside: tuple[Any, ...]

    def __str__(self) -> str:
        return self.text


class Submission(NamedTuple):
    """Something that a driver was asked to do."""

    at: float
    work: int
    driver: Driver
    retries: int


class Run(NamedTuple):
    """Something that began to run."""

    at: float
    work: int
    driver: Driver
    # Of an actor: which of its lives.
    life: int
    inputs: tuple[Any, ...]


class Ledger:
    """What was submitted and what ran, whoever has died since."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.runs: list[Run] = []
        self.count: Counter[int] = Counter()
        # The values that runs of a work have given, each a tuple of one value a return.
        self.values: dict[int, set[Any]] = {}
        # Those of objects within such values: (work, which return, place in it) -> values.
        self.inner: dict[tuple[int, int, int], set[str]] = defaultdict(set)
        # Unary calls that were done: (client, key, incarnation of the server).
        self.asked: list[tuple[str, bytes, int]] = []
        # (actor's work, life, driver that called) -> the works of the calls, as they ran.
        self.calls: dict[tuple[int, int, Driver], list[int]] = defaultdict(list)


class Driver:
    """A job, by whose death everything ends that it owns.

    Attributes:
        client, incarnation: whose it is, and the number of the server that it runs in.
        stopped_at: when the last of its work has stopped; None while it lives.
    """

    def __init__(self, client: str, incarnation: int, began: float) -> None:
        self.client = client
        self.incarnation = incarnation
        self.began = began
        self.stopped_at: float | None = None

    def runs_at(self, now: float) -> bool:
        return self.stopped_at is None or now <= self.stopped_at

    def __repr__(self) -> str:
        return f"{self.client}/{self.incarnation}"


class _Id:
    """Of an actor; Ray wraps it as well."""

    __slots__ = ("_bytes",)

    def __init__(self, number: int) -> None:
        self._bytes = b"A" + number.to_bytes(15, "big")

    def binary(self) -> bytes:
        return self._bytes


class Ref:
    """A reference to an object. Two are equal where they are of one object."""

    __slots__ = ("_callbacks", "_cluster", "_id", "outcome", "owner")

    def __init__(self, cluster: Cluster, owner: Driver) -> None:
        self._cluster = cluster
        self._id = b"O" + cluster.mint().to_bytes(27, "big")
        self._callbacks: list[Callable[[Any], None]] = []
        self.owner = owner
        # The value, or a RayError; None until there is one.
        self.outcome: Any = None

    def binary(self) -> bytes:
        return self._id

    @property
    def ready(self) -> bool:
        return self.outcome is not None

    def settle(self, outcome: Any) -> None:
        if self.outcome is None:
            self.outcome = outcome
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(outcome)

    def when_ready(self, callback: Callable[[Any], None]) -> None:
        """Calls back at once, or when it is ready."""
        if self.outcome is not None:
            callback(self.outcome)
        else:
            self._callbacks.append(callback)

    def _on_completed(self, callback: Callable[[Any], None]) -> None:
        # As Ray's: on another thread, a little later, and never while the caller still runs.
        world = self._cluster.world
        self.when_ready(lambda value: world.after(world.about(0.0002), callback, value))


class _Task:
    """A task, or a call of an actor's method, that was submitted."""

    __slots__ = ("args", "cancelled", "driver", "missing", "refs", "started", "work")

    def __init__(self, driver: Driver, work: Work, args: list[Any], refs: list[Ref]) -> None:
        self.driver = driver
        self.work = work
        self.args = args
        self.refs = refs
        self.missing = sum(1 for arg in args if isinstance(arg, Ref) and not arg.ready)
        self.started = False
        self.cancelled = False

    def settle(self, outcomes: Any) -> None:
        if isinstance(outcomes, RayError):
            outcomes = [outcomes] * len(self.refs)
        for ref, outcome in zip(self.refs, outcomes):
            ref.settle(outcome)

    def failed_argument(self) -> RayError | None:
        for arg in self.args:
            if isinstance(arg, Ref) and isinstance(arg.outcome, RayError):
                return arg.outcome
        return None

    def inputs(self) -> list[Any]:
        return [arg.outcome if isinstance(arg, Ref) else arg for arg in self.args]


class Actor:
    """An actor: does one call after another, in the order of their submission."""

    def __init__(self, cluster: Cluster, driver: Driver, maker: _Task, detached: bool) -> None:
        self.id = _Id(cluster.mint())
        self.life = cluster.mint()
        self.driver = driver
        self.detached = detached
        self.work = maker.work
        self.maker = maker
        self.name: tuple[str, str] | None = None
        # Whether its constructor was begun, and has ended.
        self.begun = False
        self.made = False
        self.dead = False
        # Whether it died with its owner before it was begun.
        self.unstarted = False
        self.busy = False
        self.calls: list[_Task] = []
        self.count = 0

    def lives_at(self, now: float) -> bool:
        return not self.dead and (self.detached or self.driver.runs_at(now))


class Cluster:
    """All that outlives drivers.

    Args:
        world: whose time and chance it uses.
        spread: seconds that Ray itself takes for a step, on average.
    """

    def __init__(self, world: World, spread: float = 0.001) -> None:
        self.world = world
        self.spread = spread
        self.ledger = Ledger()
        self.named: dict[tuple[str, str], Actor] = {}
        self.drivers: list[Driver] = []
        self.actors: list[Actor] = []
        self._ids = 0
        self._tasks_by_ref: dict[Ref, _Task] = {}

    def mint(self) -> int:
        self._ids += 1
        return self._ids

    # -- drivers

    def begin(self, client: str, incarnation: int) -> Driver:
        driver = Driver(client, incarnation, self.world.now)
        self.drivers.append(driver)
        return driver

    def living(self, client: str) -> list[Driver]:
        """The drivers of a client that live."""
        return [d for d in self.drivers if d.client == client and d.stopped_at is None]

    def end(self, driver: Driver) -> None:
        """The driver has died, or has left."""
        if driver.stopped_at is not None:
            return
        world = self.world
        driver.stopped_at = world.now + world.random() * STOPS_WITHIN_S
        for actor in self.actors:
            if actor.driver is driver and not actor.detached:
                free_at = driver.stopped_at + world.random() * (FREE_WITHIN_S - STOPS_WITHIN_S)
                world.at(free_at, self._end_actor, actor)
            elif actor.driver is driver and actor.maker.missing:
                # Nobody will ever have the arguments that it waits for.
                self._end_with_owner(actor)
            elif actor.detached:
                # What a dead driver has handed to the actor is done or not; what waited for an
                # argument was not handed to it.
                actor.calls = [
                    call
                    for call in actor.calls
                    if call.driver is not driver or not call.missing and world.random() < 0.5
                ]

    def _end_with_owner(self, actor: Actor) -> None:
        actor.unstarted = not actor.begun and not actor.dead
        self._end_actor(actor)

    def _end_actor(self, actor: Actor) -> None:
        if actor.dead:
            return
        actor.dead = True
        if actor.name is not None and self.named.get(actor.name) is actor:
            del self.named[actor.name]
        for call in actor.calls:
            call.settle(ActorDiedError())
        actor.calls.clear()

    # -- objects and tasks

    def put(self, driver: Driver, value: Any) -> Ref:
        ref = Ref(self, driver)
        ref.settle(value)
        return ref

    def run(self, driver: Driver, work: Work, args: list[Any], retries: int) -> list[Ref]:
        """Submits a task."""
        self._submitted(driver, work, retries)
        task = _Task(driver, work, args, [Ref(self, driver) for _ in range(work.returns)])
        for ref in task.refs:
            self._tasks_by_ref[ref] = task
        self._when_args_ready(task, self._start)
        return task.refs

    def _submitted(self, driver: Driver, work: Work, retries: int) -> None:
        entry = Submission(self.world.now, work.number, driver, retries)
        self.ledger.submissions.append(entry)
        self.world.note(f"cluster: {driver} submits {work.number}, retries {retries}")

    def _when_args_ready(self, task: _Task, go: Callable[[_Task], None]) -> None:
        if not task.missing:
            self.world.after(self.world.about(self.spread), go, task)
            return

        def one_more(_: Any) -> None:
            task.missing -= 1
            if not task.missing:
                self.world.after(self.world.about(self.spread), go, task)

        for arg in task.args:
            if isinstance(arg, Ref) and not arg.ready:
                arg.when_ready(one_more)

    def _start(self, task: _Task) -> None:
        if not task.driver.runs_at(self.world.now) or task.cancelled:
            return
        failed = task.failed_argument()
        if failed is not None:
            task.settle(failed)
            return
        task.started = True
        values = self._values(task, self._record(task, 0), "")
        self.world.after(self.world.about(task.work.takes), self._finish, task, values)

    def _record(self, task: _Task, life: int) -> int:
        """Enters a run into the ledger; returns which one of this work it is."""
        ledger, work = self.ledger, task.work.number
        run = Run(self.world.now, work, task.driver, life, tuple(task.inputs()))
        ledger.runs.append(run)
        ledger.count[work] += 1
        self.world.note(f"cluster: {work} runs for {task.driver}")
        return ledger.count[work]

    def _values(self, task: _Task, number: int, state: str) -> Any:
        work = task.work
        if work.raises:
            return RayTaskError(f"work {work.number}", "", ProgramError(work.number))
        text = f"{work.number}({','.join(short(value) for value in task.inputs())}){state}"
        if work.fickle:
            text += f"#{number}"
        texts = [f"{text}[{index}]" for index in range(work.returns)]
        values = [each.ljust(work.size, ".") for each in texts]
        self.ledger.values.setdefault(work.number, set()).add(tuple(values))
        if not work.holds:
            return values
        return [
            Bag(value, tuple(self._inner(task, index, place) for place in range(work.holds)))
            for index, value in enumerate(values)
        ]

    def _inner(self, task: _Task, index: int, place: int) -> Ref:
        """An object that a task has put, and whose reference it returns."""
        number = task.work.number
        text = f"{number}[{index}]/{place}"
        if task.work.fickle:
            text += f"#{self.ledger.count[number]}"
        self.ledger.inner[number, index, place].add(text)
        return self.put(task.driver, text)

    def pick(self, driver: Driver, source: Ref, index: int) -> Ref:
        """A copy of what has a place in the value of another object."""
        copy = Ref(self, driver)

        def look(value: Any) -> None:
            if not driver.runs_at(self.world.now):
                return
            if isinstance(value, RayError):
                copy.settle(value)
            elif isinstance(value, Bag) and index < len(value.inside):
                value.inside[index].when_ready(copy.settle)
            else:
                copy.settle(RayTaskError("pick", "", ValueError("refers to fewer objects")))

        world = self.world
        source.when_ready(lambda value: world.after(world.about(self.spread), look, value))
        return copy

    def _finish(self, task: _Task, values: Any) -> None:
        if task.driver.runs_at(self.world.now) and not task.cancelled:
            task.settle(values)

    def cancel(self, ref: Ref) -> None:
        task = self._tasks_by_ref.get(ref)
        if task is None or ref.ready:
            return
        task.cancelled = True
        task.settle(TaskCancelledError())

    # -- actors

    def make_actor(
        self, driver: Driver, work: Work, args: list[Any], options: dict[str, Any], namespace: str
    ) -> Actor:
        """Raises ValueError if the name is taken."""
        name = options.get("name")
        key = (options.get("namespace") or namespace, name) if name else None
        if key in self.named:
            raise ValueError(f"Actor with name '{name}' already exists")
        task = _Task(driver, work, args, [])
        actor = Actor(self, driver, task, options.get("lifetime") == "detached")
        actor.name = key
        self.actors.append(actor)
        if key is not None:
            self.named[key] = actor
        self._submitted(driver, work, options.get("max_restarts", 0))
        self._when_args_ready(task, lambda task: self._construct(actor, task))
        return actor

    def _construct(self, actor: Actor, task: _Task) -> None:
        if not actor.lives_at(self.world.now):
            return
        if not task.driver.runs_at(self.world.now) and self.world.random() < 0.5:
            # A detached actor whose maker dies first may never be made.
            self._end_with_owner(actor)
            return
        if task.failed_argument() is not None:
            self._end_actor(actor)
            return
        actor.begun = True
        self._record(task, actor.life)
        self.world.after(self.world.about(task.work.takes), self._constructed, actor)

    def _constructed(self, actor: Actor) -> None:
        actor.made = True
        self._next_call(actor)

    def call(self, driver: Driver, actor: Actor, work: Work, args: list[Any], retries: int) -> Any:
        """Submits a call of an actor's method."""
        self._submitted(driver, work, retries)
        task = _Task(driver, work, args, [Ref(self, driver) for _ in range(work.returns)])
        for ref in task.refs:
            self._tasks_by_ref[ref] = task
        if actor.dead:
            task.settle(ActorDiedError())
            return task.refs
        actor.calls.append(task)
        self._when_args_ready(task, lambda task: self._next_call(actor))
        return task.refs

    def _next_call(self, actor: Actor) -> None:
        if not actor.made or actor.busy or not actor.calls or not actor.lives_at(self.world.now):
            return
        # Calls of one driver are done in their order; those of others don't wait for them.
        drivers: set[Driver] = set()
        for task in actor.calls:
            if not task.missing and task.driver not in drivers:
                break
            drivers.add(task.driver)
        else:
            return
        actor.calls.remove(task)
        actor.busy = True
        failed = task.failed_argument()
        if failed is not None or task.cancelled:
            if failed is not None:
                task.settle(failed)
            self.world.after(0, self._called, actor, None, None)
            return
        task.started = True
        number = self._record(task, actor.life)
        key = (actor.work.number, actor.life, task.driver)
        self.ledger.calls[key].append(task.work.number)
        actor.count += 1
        values = self._values(task, number, f"@{actor.life}:{actor.count}")
        self.world.after(self.world.about(task.work.takes), self._called, actor, task, values)

    def _called(self, actor: Actor, task: _Task | None, values: Any) -> None:
        actor.busy = False
        if not actor.lives_at(self.world.now):
            if task is not None:
                task.settle(ActorDiedError())
            return
        if task is not None and not task.cancelled:
            task.settle(values)
        self._next_call(actor)

    def kill(self, actor: Actor) -> None:
        self._end_actor(actor)

    def had_name(self, name: str, namespace: str) -> list[Actor]:
        """All that ever had the name, the oldest first."""
        return [actor for actor in self.actors if actor.name == (namespace, name)]

    def find(self, name: str, namespace: str) -> Actor:
        """Raises ValueError if no actor has that name."""
        actor = self.named.get((namespace, name))
        if actor is None:
            raise ValueError(f"Failed to look up actor with name '{name}'")
        return actor


def short(value: Any) -> str:
    """A value as it stands inside another one: without padding, and never long."""
    text = str(value).rstrip(".")
    return text if len(text) < 40 else f"{zlib.crc32(text.encode()):x}"


def check_ready(refs: list[Ref]) -> None:
    """Raises GetTimeoutError unless all are ready."""
    if not all(ref.ready for ref in refs):
        raise GetTimeoutError("The objects are not ready.")
