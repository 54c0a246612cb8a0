"""Runs one plan: builds its world, lets the faults happen, and brings everything to an end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
from collections.abc import Iterator
from typing import Any

from ray.util.client import chunking
from ray.util.client.cache import OrderedResponseCache as CompiledCache
from ray.util.client.cache._python import OrderedResponseCache as PythonCache
from ray.util.client.server import held, payloads, sessions
from ray.util.client.server.proxy import host
from ray.util.client.session import client
from tests.simulation import plan as plans
from tests.simulation.answers import UnaryCaller
from tests.simulation.cluster import Cluster
from tests.simulation.history import History, Operation, Unknown
from tests.simulation.network import Metadata, Route, Wire
from tests.simulation.plan import Fault, Plan, Settings
from tests.simulation.proxier import ProxierProcess, Starts
from tests.simulation.server import ServerProcess
from tests.simulation.shell import Bounds, Shell
from tests.simulation.user import User
from tests.simulation.world import Livelock, World

# Until when all programs must have ended, after the last fault (seconds of the world's time).
ENDS_WITHIN_S = 1200.0
# More events than this are a loop.
MOST_EVENTS = 400_000


class Observed:
    """What a schedule's run came to, for the checker.

    Attributes:
        plan, history, cluster, users: of the run.
        faults: what no process may do, as text.
        leaks: what was left when everything had ended, as text.
        hung: calls that had not ended when nothing was to happen any more, as text.
        fired: the plan's faults that happened, and when.
    """

    def __init__(self, plan: Plan, world: World, cluster: Cluster, history: History) -> None:
        self.plan = plan
        self.world = world
        self.cluster = cluster
        self.history = history
        self.users: list[User] = []
        self.servers: list[ServerProcess] = []
        self.faults: list[str] = []
        self.leaks: list[str] = []
        self.hung: list[str] = []
        self.fired: list[tuple[float, Fault]] = []
        self.events = 0

    @property
    def trace(self) -> list[str]:
        return self.world.trace


class Schedule:
    """The run of one plan.

    Args:
        plan: what to run.
        traced: whether to keep a trace.
    """

    def __init__(self, plan: Plan, traced: bool = False) -> None:
        self.plan = plan
        settings = plan.settings
        self.world = world = World(f"world {plan.seed}", traced)
        self.cluster = Cluster(world, settings.spread)
        self.history = History()
        self.observed = Observed(plan, world, self.cluster, self.history)
        self.starts = Starts(settings.start)
        self._ports = itertools.count(1)
        self._servers = self.observed.servers
        self._shut: set[int] = set()
        self._killed: set[int] = set()
        self._parted_until = [0.0] * len(plan.programs)
        self._faults = iter(plan.faults)
        self._fault: Fault | None = None
        self._left = -1
        self.outward = [self._route() for _ in plan.programs]
        self.inward = self._route()
        self.proxier: ProxierProcess | None = None

    def _route(self) -> Route:
        settings = self.plan.settings
        return Route(self.world, settings.latency, settings.window, self._delivered)

    # -- processes

    def _start_proxier(self) -> None:
        proxier = ProxierProcess(
            self.world,
            self.cluster,
            self.inward,
            self.starts,
            self.plan.settings.warm,
            lambda: next(self._ports),
            self._servers.append,
        )
        self.proxier = proxier
        self.world.note("the proxier starts")

    def _connect(self, number: int, wire: Wire, metadata: Metadata) -> Any:
        proxier = self.proxier
        return None if proxier is None else proxier.accept(wire, metadata)

    def _reachable(self, number: int) -> bool:
        up = self.proxier is not None and self.proxier.alive
        return up and self.world.now >= self._parted_until[number]

    def _call(
        self, shell: Shell, number: int, name: str, request: bytes, metadata: Metadata
    ) -> asyncio.Future:
        caller = UnaryCaller(shell, self.outward[number])

        def serve(wire: Wire) -> Any:
            if self.proxier is None or not self._reachable(number):
                return None
            return self.proxier.accept_unary(wire, name, metadata)

        caller.wire.open(serve)
        caller.wire.send(request)
        return caller.future

    def _start_client(self, number: int) -> None:
        settings = self.plan.settings
        shell = Shell(
            self.world,
            f"client-{number}",
            self.outward[number],
            lambda wire, metadata: self._connect(number, wire, metadata),
            lambda: self._reachable(number),
            settings.grace,
            Bounds(settings.journal_bytes, settings.journal_entries, settings.value_bytes),
            settings.batch,
            settings.think,
        )
        user = User(
            number,
            shell,
            self.plan.programs[number],
            self.history,
            lambda name, request, metadata: self._call(shell, number, name, request, metadata),
        )
        self.observed.users.append(user)
        user.start()

    # -- the run

    def run(self) -> Observed:
        """Runs the plan to its end."""
        observed, world = self.observed, self.world
        with world.awake(), _patched(self.plan.settings, world):
            try:
                self._start_proxier()
                for number in range(len(self.plan.programs)):
                    self._start_client(number)
                self._next_fault()
                self._run_programs()
                self._end()
            except Livelock as e:
                observed.faults.append(str(e))
        observed.faults += world.faults
        observed.events = world.events
        return observed

    def _live(self) -> list[User]:
        return [user for user in self.observed.users if user.shell.process.alive]

    def _run_programs(self) -> None:
        world = self.world
        give_up_at = ENDS_WITHIN_S
        while world.pending and world.now < give_up_at:
            if all(user.over for user in self._live()) and not self._under_way():
                break
            world.run(min(world.now + 50.0, give_up_at), MOST_EVENTS)
        self.observed.hung += [f"{operation}" for operation in self._under_way()]

    def _under_way(self) -> list[Operation]:
        """Calls that have not ended, a shutdown among them; not those of a client that died."""
        return [
            operation
            for operation in self.history.operations
            if operation.outcome is None and operation.client not in self._killed
        ]

    def _end(self) -> None:
        """Acknowledges everything, looks for what is left, and shuts all down."""
        world = self.world
        self._left = -1
        self._fault = None
        world.run(world.now + 60.0, MOST_EVENTS)
        for user in self._live():
            if user.over and not user.shell.session.ended:
                self._look_for_leaks(user)
        for user in self._live():
            if user.number not in self._shut:
                self._shut_down(user)
        # The longest grace period there is, and then some.
        world.run(world.now + 200.0, MOST_EVENTS)
        proxier = self.proxier
        if proxier is not None and proxier.alive:
            leaks = self.observed.leaks
            if len(proxier.hosts):
                leaks.append(f"the proxier has {len(proxier.hosts)} sessions")
            proxier.stop()
            world.run(world.now + 60.0, MOST_EVENTS)
            if proxier.ports.taken:
                leaks.append(f"the proxier holds ports {proxier.ports.taken}")
            leaks += [f"{server} is alive" for server in self._servers if server.alive]
            leaks += proxier.unfinished()
        if world.pending:
            self.observed.leaks.append(f"{world.pending} events are still to come")

    def _look_for_leaks(self, user: User) -> None:
        found = self._left_by(user)
        if found:
            # A long silence may not have been over, and have swallowed the acknowledgement; or have
            # been longer than the grace period, and then nothing is left to be looked at.
            found = [] if user.shell.session.ended else self._left_by(user)
        self.observed.leaks += [f"{user.shell.client_id}: {text}" for text in found]

    def _left_by(self, user: User) -> list[str]:
        shell = user.shell
        shell.acknowledge_all()
        self.world.run(self.world.now + 60.0, MOST_EVENTS)
        found = shell.leaks()
        for server in self._servers:
            if server.alive and server.listens:
                found += server.leaks(shell.client_id)
        return found

    def _shut_down(self, user: User) -> None:
        self._shut.add(user.number)
        user.shell.process.task(user.shut_down())

    # -- faults

    def _next_fault(self) -> None:
        fault = self._fault = next(self._faults, None)
        if fault is None:
            self._left = -1
        elif fault.seconds:
            self._left = -1
            self.world.after(fault.seconds, self._fire, fault)
        else:
            self._left = fault.deliveries

    def _delivered(self) -> None:
        if self._left < 0:
            return
        self._left -= 1
        if self._left < 0 and self._fault is not None:
            self._fire(self._fault)

    def _fire(self, fault: Fault) -> None:
        if fault is not self._fault:
            return
        self.world.note(f"FAULT {fault.kind} {fault.amount:g} client {fault.client}")
        self.observed.fired.append((self.world.now, fault))
        _FAULTS[fault.kind](self, fault)
        self._next_fault()

    def _serving(self) -> list[ServerProcess]:
        return [server for server in self._servers if server.alive]

    def _kill_server(self, fault: Fault) -> None:
        serving = self._serving()
        used = [server for server in serving if server.serving]
        if used or serving:
            self.world.chance.choice(used or serving).kill()

    def _stop_server(self, fault: Fault) -> None:
        serving = self._serving()
        if serving:
            self.world.chance.choice(serving).stop_for(fault.amount)

    def _cut_client(self, fault: Fault) -> None:
        self.outward[fault.client].cut()

    def _cut_server(self, fault: Fault) -> None:
        self.inward.cut()

    def _silence_client(self, fault: Fault) -> None:
        self.outward[fault.client].silence(fault.amount)

    def _silence_server(self, fault: Fault) -> None:
        self.inward.silence(fault.amount)

    def _part_client(self, fault: Fault) -> None:
        self._parted_until[fault.client] = self.world.now + fault.amount
        self.outward[fault.client].cut()

    def _kill_proxier(self, fault: Fault) -> None:
        if self.proxier is not None and self.proxier.alive:
            self.proxier.kill()
            self.world.after(fault.amount, self._start_proxier)

    def _fail_starts(self, fault: Fault) -> None:
        self.starts.fail += int(fault.amount)
        self._kill_server(fault)

    def _slow_starts(self, fault: Fault) -> None:
        self.starts.takes = fault.amount
        self.world.after(3 * fault.amount, self._quick_starts)

    def _quick_starts(self) -> None:
        self.starts.takes = self.plan.settings.start

    def _kill_actor(self, fault: Fault) -> None:
        living = [actor for actor in self.cluster.actors if not actor.dead]
        if living:
            self.cluster.kill(self.world.chance.choice(living))

    def _kill_client(self, fault: Fault) -> None:
        user = self.observed.users[fault.client]
        if user.number in self._killed or user.number in self._shut:
            return
        self._killed.add(user.number)
        user.shell.kill()
        for operation in self.history.operations:
            if operation.client == user.number and operation.outcome is None:
                operation.outcome = Unknown()

    def _shut_client_down(self, fault: Fault) -> None:
        user = self.observed.users[fault.client]
        if user.number not in self._killed and user.number not in self._shut:
            self._shut_down(user)


_FAULTS = {
    "kill server": Schedule._kill_server,
    "stop server": Schedule._stop_server,
    "cut client": Schedule._cut_client,
    "cut server": Schedule._cut_server,
    "silence client": Schedule._silence_client,
    "silence server": Schedule._silence_server,
    "part client": Schedule._part_client,
    "kill proxier": Schedule._kill_proxier,
    "fail starts": Schedule._fail_starts,
    "slow starts": Schedule._slow_starts,
    "kill actor": Schedule._kill_actor,
    "kill client": Schedule._kill_client,
    "shut down": Schedule._shut_client_down,
}
assert _FAULTS.keys() == plans.FAULTS.keys()


class _NoCollector:
    """Stands for ``gc`` in the product: rubbish is collected between schedules."""

    @staticmethod
    def collect() -> None:
        pass


class _Log:
    """Stands for the logger of the proxier's hosts: what they report as a fault is one."""

    def __init__(self, world: World) -> None:
        self._faults = world.faults

    def info(self, text: str, *args: Any) -> None:
        pass

    def error(self, text: str, *args: Any, exc_info: BaseException | None = None) -> None:
        if exc_info is not None:
            self._faults.append(f"{text % args}: {exc_info!r}")


@contextlib.contextmanager
def _patched(settings: Settings, world: World) -> Iterator[None]:
    """The product's constants as the settings want them."""
    kind = CompiledCache if settings.compiled else PythonCache

    def cache() -> Any:
        return kind(settings.cache_entries, settings.cache_bytes)

    constants = [
        (sessions, "OrderedResponseCache", cache),
        (client, "ACKNOWLEDGE_BATCH_SIZE", settings.acknowledge),
        (payloads, "OBJECT_TRANSFER_CHUNK_SIZE", settings.chunk),
        (chunking, "OBJECT_TRANSFER_CHUNK_SIZE", settings.chunk),
        (chunking, "_INLINE_BYTES", settings.chunk),
        (held, "gc", _NoCollector),
        (host, "logger", _Log(world)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in constants]
    for module, name, value in constants:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For many runs: the product's loggers say nothing, and rubbish is collected now and then."""
    collects = gc.isenabled()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if collects:
            gc.enable()
        logging.disable(before)


def run(plan: Plan, traced: bool = False) -> Observed:
    """Runs a plan."""
    return Schedule(plan, traced).run()
