"""What a schedule consists of: the world's settings, the programs that users run, and the faults.

A plan is plain data that a seed decides, so that it can be printed, run again, and made smaller.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple, Union

from tests.simulation.cluster import Work

# A value: the variable that a step has defined, and which of its returns.
Value = tuple[int, int]


class Put(NamedTuple):
    """``ray.put`` of something that refers to ``args``."""

    var: int
    work: Work
    args: tuple[Value, ...] = ()


class Run(NamedTuple):
    """Submits a task."""

    var: int
    work: Work
    args: tuple[Value, ...]
    retries: int


class Make(NamedTuple):
    """Makes an actor."""

    var: int
    work: Work
    args: tuple[Value, ...]
    restarts: int
    call_retries: int
    name: str = ""
    detached: bool = False


class Call(NamedTuple):
    """Calls an actor's method."""

    var: int
    actor: int
    work: Work
    args: tuple[Value, ...]


class Find(NamedTuple):
    """``ray.get_actor``."""

    var: int
    name: str


class Get(NamedTuple):
    """``ray.get``. ``timeout`` None: as long as it takes."""

    values: tuple[Value, ...]
    timeout: float | None


class Open(NamedTuple):
    """``ray.get`` of a value whose references the variable then stands for."""

    var: int
    value: Value


class Later(NamedTuple):
    """A future of one value, which is not waited for. ``reads``: nor is what it refers to, which
    is got when it comes."""

    value: Value
    reads: bool = False


class Wait(NamedTuple):
    """``ray.wait``."""

    values: tuple[Value, ...]
    count: int
    timeout: float | None


class Drop(NamedTuple):
    """Lets go of what a variable holds."""

    var: int


class Kill(NamedTuple):
    """``ray.kill``."""

    var: int


class Cancel(NamedTuple):
    """``ray.cancel``."""

    value: Value


class Ask(NamedTuple):
    """A question on the data stream, or beside it."""

    beside: bool


class Pause(NamedTuple):
    """The program does something else for so many seconds."""

    seconds: float


Step = Union[Put, Run, Make, Call, Find, Get, Open, Later, Wait, Drop, Kill, Cancel, Ask, Pause]


class Program(NamedTuple):
    """What one client does: a list of steps for each of its threads."""

    threads: tuple[tuple[Step, ...], ...]


class Fault(NamedTuple):
    """Something that goes wrong.

    Attributes:
        kind: see ``FAULTS``.
        deliveries: after so many more messages than the fault before it …
        seconds: … and so many seconds.
        amount: seconds, or how many, by the kind.
        client: whose.
    """

    kind: str
    deliveries: int
    seconds: float
    amount: float = 0.0
    client: int = 0


# What there is, and how often.
FAULTS = {
    "kill server": 10,
    "stop server": 2,
    "cut client": 4,
    "cut server": 2,
    "silence client": 2,
    "silence server": 1,
    "part client": 2,
    "kill proxier": 2,
    "fail starts": 2,
    "slow starts": 1,
    "kill actor": 1,
    "kill client": 0.3,
    "shut down": 0.3,
}


class Settings(NamedTuple):
    """What a world is like. Times in seconds.

    Attributes:
        latency: of a message.
        window: messages under way before a sender waits.
        spread: what Ray takes for a step.
        think: what a thread of the client takes to hear of something.
        start: what a server takes to start.
        warm: how many servers wait.
        grace: the reconnect grace period.
        batch: requests a message.
        acknowledge: answers to an acknowledgement.
        chunk: bytes of a piece.
        journal_bytes, journal_entries, value_bytes: the journal's bounds.
        cache_entries, cache_bytes: the server's cache's bounds.
        compiled: whether the server's cache is the compiled one.
    """

    latency: float = 0.002
    window: int = 16
    spread: float = 0.001
    think: float = 0.0005
    start: float = 0.3
    warm: int = 1
    grace: int = 30
    batch: int = 128
    acknowledge: int = 4
    chunk: int = 64
    journal_bytes: int = 10**9
    journal_entries: int = 10**6
    value_bytes: int = 10**9
    cache_entries: int = 10**4
    cache_bytes: int = 10**9
    compiled: bool = False


class Plan(NamedTuple):
    """One schedule. ``seed`` decides what is left to chance while it runs."""

    seed: int
    settings: Settings
    programs: tuple[Program, ...]
    faults: tuple[Fault, ...]


def plan_of(seed: int) -> Plan:
    """The plan that a seed decides."""
    chance = Random(f"plan {seed}")
    settings = _settings(chance)
    clients = 2 if chance.random() < 0.15 else 1
    numbers = iter(range(1, 10**6))
    programs = tuple(_program(chance, numbers, client) for client in range(clients))
    return Plan(seed, settings, programs, _faults(chance, settings, clients))


def _settings(chance: Random) -> Settings:
    pick = chance.choice
    tight = chance.random()
    settings = Settings(
        latency=pick((0.0005, 0.002, 0.02)),
        window=pick((1, 2, 4, 16)),
        spread=pick((0.0005, 0.002, 0.02)),
        think=pick((0.0002, 0.002)),
        start=pick((0.05, 0.3, 2.0)),
        warm=pick((0, 1)),
        grace=pick((5, 30, 30, 60)),
        batch=pick((1, 3, 128)),
        acknowledge=pick((1, 4, 32)),
        chunk=pick((40, 10**6)),
        compiled=pick((False, True)),
    )
    if tight < 0.05:
        return settings._replace(journal_bytes=pick((0, 500, 2000)))
    if tight < 0.1:
        return settings._replace(journal_entries=pick((1, 5)))
    if tight < 0.2:
        return settings._replace(value_bytes=pick((0, 30, 100)))
    return settings


class _Variables:
    """What a thread's program has defined so far."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.actors: list[int] = []
        self._last = 0

    def new(self) -> int:
        self._last += 1
        return self._last


def _program(chance: Random, numbers: object, client: int) -> Program:
    threads = chance.choice((1, 1, 1, 2, 3))
    names = [f"actor{n}" for n in range(2)]
    most = 16 // threads
    lists = [_steps(chance, numbers, names, chance.randint(2, most)) for _ in range(threads)]
    if chance.random() < 0.15:
        lists.append(_questions(chance))
    return Program(tuple(map(tuple, lists)))


def _questions(chance: Random) -> list[Step]:
    """A thread that asks beside the data stream all the time."""
    return [Ask(True) if chance.random() < 0.7 else Pause(0.1) for _ in range(20)]


def _work(chance: Random, numbers: object, returns: int = 1) -> Work:
    return Work(
        number=next(numbers),  # type: ignore[call-overload]
        takes=chance.choice((0.0, 0.01, 0.1, 1.0)),
        fickle=chance.random() < 0.5,
        raises=chance.random() < 0.07,
        size=chance.choice((0, 0, 0, 100)),
        returns=returns,
        holds=chance.choice((1, 1, 2)) if chance.random() < 0.2 else 0,
    )


def _steps(chance: Random, numbers: object, names: list[str], count: int) -> list[Step]:
    variables = _Variables()
    steps: list[Step] = []
    while len(steps) < count:
        make = chance.choices(_MAKERS, _WEIGHTS)[0]
        step = make(chance, numbers, names, variables)
        if step is not None:
            steps.extend(step if isinstance(step, list) else [step])
    return steps


def _args(chance: Random, variables: _Variables) -> tuple[Value, ...]:
    count = min(chance.choice((0, 0, 1, 1, 2)), len(variables.values))
    return tuple(dict.fromkeys(chance.sample(variables.values, count)))


def _budget(chance: Random) -> int:
    return chance.choice((0, 0, 1, 1, 3, -1))


def _put(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    args = _args(chance, variables) if chance.random() < 0.3 else ()
    var = variables.new()
    variables.values.append((var, 0))
    return Put(var, _work(chance, numbers)._replace(raises=False), args)


def _run(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    returns = chance.choice((1, 1, 1, 2, 3))
    args = _args(chance, variables)
    var = variables.new()
    variables.values.extend((var, index) for index in range(returns))
    return Run(var, _work(chance, numbers, returns), args, _budget(chance))


def _make(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    args = _args(chance, variables)
    var = variables.new()
    variables.actors.append(var)
    named = chance.random() < 0.4
    work = _work(chance, numbers)._replace(raises=False)
    restarts, retries = _budget(chance), _budget(chance)
    if not named:
        return Make(var, work, args, restarts, retries)
    detached = chance.random() < 0.6
    return Make(var, work, args, restarts, retries, chance.choice(names), detached)


def _call(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    if not variables.actors:
        return _make(chance, numbers, names, variables)
    args = _args(chance, variables)
    actor = chance.choice(variables.actors)
    var = variables.new()
    variables.values.append((var, 0))
    return Call(var, actor, _work(chance, numbers), args)


def _find(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    var = variables.new()
    variables.actors.append(var)
    return Find(var, chance.choice(names))


def _timeout(chance: Random) -> float | None:
    return chance.choice((None, None, None, 0.0, 0.1, 2.0))


def _some(chance: Random, variables: _Variables) -> tuple[Value, ...]:
    count = min(chance.choice((1, 1, 2, 3)), len(variables.values))
    return tuple(dict.fromkeys(chance.sample(variables.values, count)))


def _get(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    if not variables.values:
        return None
    return Get(_some(chance, variables), _timeout(chance))


def _open(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    if not variables.values:
        return None
    value = chance.choice(variables.values)
    var = variables.new()
    variables.values.extend(((var, 0), (var, 0), (var, 1)))
    return Open(var, value)


def _later(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    if not variables.values:
        return None
    return Later(chance.choice(variables.values), chance.random() < 0.5)


def _cross(chance: Random, numbers: object, names: list[str], variables: _Variables) -> list[Step]:
    """Lets go of what a value refers to while the value comes, or comes once more."""
    inner, outer = variables.new(), variables.new()
    variables.values.append((outer, 0))
    if chance.random() < 0.5:
        works = [_work(chance, numbers)._replace(raises=False, holds=0) for _ in range(2)]
        puts = [Put(inner, works[0], ()), Put(outer, works[1], ((inner, 0),))]
        return [*puts, Later((outer, 0), True), Drop(inner)]
    work = _work(chance, numbers)._replace(raises=False, holds=1)
    later = [Later((outer, 0), chance.random() < 0.5) for _ in range(3)]
    return [Run(outer, work, (), _budget(chance)), *later]


def _wait(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    if not variables.values:
        return None
    values = _some(chance, variables)
    return Wait(values, chance.randint(1, len(values)), _timeout(chance))


def _drop(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    candidates = sorted({var for var, _ in variables.values} | set(variables.actors))
    if not candidates:
        return None
    var = chance.choice(candidates)
    variables.values = [value for value in variables.values if value[0] != var]
    variables.actors = [actor for actor in variables.actors if actor != var]
    return Drop(var)


def _kill(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step | None:
    return Kill(chance.choice(variables.actors)) if variables.actors else None


def _cancel(
    chance: Random, numbers: object, names: list[str], variables: _Variables
) -> Step | None:
    return Cancel(chance.choice(variables.values)) if variables.values else None


def _ask(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    return Ask(chance.random() < 0.5)


def _pause(chance: Random, numbers: object, names: list[str], variables: _Variables) -> Step:
    return Pause(chance.choice((0.01, 0.3, 3.0)))


_CHANCES = {
    _put: 2,
    _run: 6,
    _make: 2,
    _call: 6,
    _find: 1,
    _get: 5,
    _open: 1,
    _later: 1,
    _cross: 0.5,
    _wait: 2,
    _drop: 2,
    _kill: 0.5,
    _cancel: 0.5,
    _ask: 1.5,
    _pause: 1.5,
}
_MAKERS, _WEIGHTS = list(_CHANCES), list(_CHANCES.values())


def _faults(chance: Random, settings: Settings, clients: int) -> tuple[Fault, ...]:
    count = chance.choice((0, 1, 1, 2, 2, 3, 4, 6))
    kinds, weights = list(FAULTS), list(FAULTS.values())
    faults: list[Fault] = []
    while len(faults) < count:
        kind = chance.choices(kinds, weights)[0]
        faults.append(_fault(chance, settings, kind, clients))
        if kind in ("silence client", "part client") and chance.random() < 0.5:
            # The client does not hear of it.
            faults.append(Fault("kill server", 0, chance.expovariate(1 / settings.start)))
    return tuple(faults)


def _fault(chance: Random, settings: Settings, kind: str, clients: int) -> Fault:
    if chance.random() < 0.75:
        deliveries, seconds = int(chance.expovariate(1 / 25)), 0.0
    else:
        deliveries, seconds = 0, chance.expovariate(1 / settings.start)
    amount = 0.0
    if kind in ("silence client", "silence server", "part client", "stop server"):
        amount = chance.choice((0.5, 3.0, 25.0, 70.0))
    elif kind == "kill proxier":
        amount = chance.choice((0.5, 3.0, 40.0))
    elif kind == "fail starts":
        amount = chance.choice((1, 2, 4, 15))
    elif kind == "slow starts":
        amount = chance.choice((5.0, 20.0))
    return Fault(kind, deliveries, seconds, amount, chance.randrange(clients))
