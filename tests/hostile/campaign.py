"""Thousands of hostile connections to a live proxier, while one session goes on with its work."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple

from tests.hostile import calls, raw
from tests.hostile.raw import Attack, Target
from tests.support.cluster import Cluster
from tests.support.leaks import _session_sockets
from tests.support.session import Session
from tests.support.waiting import eventually

# Of each hundred connections this many begin a true session, which costs a process.
COSTLY_PERCENT = 1
# For an attack to be over: its own patience is shorter.
_HANGS_S = 300.0

SETUP = """
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0
        def add(self):
            self.n += 1
            return self.n

    counter, kept, rounds = Counter.remote(), ray.put("kept"), 0

    def work():
        global rounds
        rounds += 1
        blob = bytes([rounds % 251]) * 300_000
        got = ray.get([kept, ray.put(rounds), double.remote(rounds), counter.add.remote(),
                       ray.put(blob)])
        assert got == ["kept", rounds, 2 * rounds, rounds, blob], (rounds, got[:4])
        return rounds
"""


class Held(NamedTuple):
    """What the proxier holds at one moment."""

    megabytes: float
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.megabytes:.0f} MiB, {self.descriptors} descriptors, {self.threads} threads"


# How much more the proxier may hold afterwards: what its allocator and gRPC keep for the next.
SLACK = Held(64, 10, 10)


@dataclass
class Report:
    """What came of a campaign.

    Attributes:
        outcomes: how often each attack ended how.
        faults: what must not be; empty if all is well.
        rounds: how often the session did its work meanwhile.
        slowest_s: its slowest round.
        held: what the proxier held before, and after each part.
        seconds: how long it took.
    """

    outcomes: Dict[str, Counter] = field(default_factory=dict)
    faults: List[str] = field(default_factory=list)
    rounds: int = 0
    slowest_s: float = 0.0
    held: List[Held] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def connections(self) -> int:
        """How many attacks were made."""
        return sum(sum(ended.values()) for ended in self.outcomes.values())

    def lines(self) -> List[str]:
        """The report as text."""
        counts = [
            f"{name:<28} " + ", ".join(f"{count} {how}" for how, count in sorted(ended.items()))
            for name, ended in self.outcomes.items()
        ]
        return [
            *counts,
            f"{self.connections} connections in {self.seconds:.0f} s",
            f"the session: {self.rounds} rounds, the slowest took {self.slowest_s:.2f} s",
            *(f"the proxier: {held}" for held in self.held),
            *(f"FAULT: {fault}" for fault in self.faults),
        ]


def _grown(before: Held, after: Held) -> List[str]:
    return [
        f"{name} grew from {old:.0f} to {new:.0f}"
        for name, old, new, slack in zip(Held._fields, before, after, SLACK)
        if new > old + slack
    ]


class Campaign:
    """Attacks the cluster of a session.

    Args:
        session: works on meanwhile; the only one of its cluster.
        at_once: how many connections there are at a time.
        seed: of the choice and the contents of attacks.
    """

    def __init__(self, session: Session, at_once: int, seed: int) -> None:
        self._session = session
        self._cluster: Cluster = session.cluster
        self._at_once = at_once
        self._chance = random.Random(seed)
        (victim,) = self._cluster.sessions()
        self._target = Target(self._cluster.client_port, victim)
        session.client.run(SETUP)

    def run(self, connections: int, parts: int = 1) -> Report:
        """Makes ``connections`` attacks, in so many parts; after each part, and before the first,
        what they left behind is waited for and what the proxier holds is looked at."""
        report = Report()
        report.held.append(self.held())
        for part in range(parts):
            self._run(connections * (part + 1) // parts - connections * part // parts, report)
            report.held.append(self.held())
        report.faults += _grown(report.held[0], report.held[-1])
        return report

    def _run(self, connections: int, report: Report) -> None:
        attacking = threading.Thread(
            target=lambda: asyncio.run(self._attack(connections, report)), daemon=True
        )
        began = time.monotonic()
        attacking.start()
        while attacking.is_alive():
            self._work(report)
        attacking.join()
        report.seconds += time.monotonic() - began
        self._settle(report)
        self._work(report)

    def held(self) -> Held:
        """What the proxier holds now."""
        proxier = self._cluster.proxier
        return Held(proxier.memory_info().rss / 2**20, proxier.num_fds(), proxier.num_threads())

    def _work(self, report: Report) -> None:
        began = time.monotonic()
        self._session.client.run("work()")
        report.rounds += 1
        report.slowest_s = max(report.slowest_s, time.monotonic() - began)

    def _settle(self, report: Report) -> None:
        # A channel of gRPC's is open until the errors of its calls, which hold on to it, are gone.
        gc.collect()
        mine = {self._target.victim}
        try:
            # Those that never got as far as an init have half a minute of their own.
            eventually(lambda: self._clients() == 1, "the end of the others' sessions", 120.0)
            eventually(lambda: self._cluster.sessions() == mine, "their end in the log")
            eventually(
                lambda: self._cluster.servers() == [self._session.server], "the end of servers"
            )
            # The session's own data, log and unary channels.
            eventually(lambda: len(_session_sockets(self._cluster)) <= 3, "the end of connections")
        except AssertionError as error:
            report.faults.append(str(error))

    def _clients(self) -> int:
        count = "ray.util.client.ray.get_context().client_worker.connection_info()['num_clients']"
        return self._session.client.run(count)

    async def _attack(self, connections: int, report: Report) -> None:
        turns = asyncio.Semaphore(self._at_once)
        running = set()
        for name, attack in self._choose(connections):
            await turns.acquire()
            task = asyncio.ensure_future(self._one(name, attack, report))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: turns.release())
        await asyncio.gather(*running)

    def _choose(self, connections: int) -> List[tuple]:
        cheap = [*raw.ATTACKS.items(), *calls.ATTACKS.items()]
        costly = list(calls.COSTLY.items())
        # Each attack is made, whatever the seed.
        chosen = [cheap[number % len(cheap)] for number in range(connections)]
        for number in range(0, connections, 100 // COSTLY_PERCENT):
            chosen[number] = costly[number // 100 % len(costly)]
        self._chance.shuffle(chosen)
        return chosen

    async def _one(self, name: str, attack: Attack, report: Report) -> None:
        chance = random.Random(self._chance.random())
        try:
            how = await asyncio.wait_for(attack(self._target, chance), _HANGS_S)
        except calls.Fault as fault:
            how = "FAULT"
            report.faults.append(f"{name}: {fault}")
        except Exception as error:  # An attacker that fails has found something, too.
            how = "FAULT"
            report.faults.append(f"{name}: {type(error).__name__}: {error}")
        report.outcomes.setdefault(name, Counter())[how] += 1
