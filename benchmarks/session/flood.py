"""A flood: what one session's workers print, and another session's round trips meanwhile."""

from __future__ import annotations

import time

from benchmarks.session.report import Row, Section
from benchmarks.session.sides import FORK, Side
from tests.support.client import Client
from tests.support.heard import await_heard, heard

LINES = 100_000
# The flood takes longer than this on any machine, so that it goes on all the while.
_TRIPS_S = 1.0


def _flood(loud: Client, other: Client, number: int) -> tuple[list[float], float]:
    """Returns the other session's round trips, and the seconds until the last line was shown."""
    began = time.monotonic()
    step = loud.start("print_lines(number, count)", number=number, count=LINES)
    trips = other.run("time_trips(seconds)", seconds=_TRIPS_S)
    step.value()
    await_heard(loud, f"flood {number} line {LINES - 1} ")
    return trips, time.monotonic() - began


def _measure(side: Side, rounds: int) -> dict[str, list[float]]:
    got: dict[str, list[float]] = {"still": [], "flooded": [], "shown": [], "lines": []}
    with side.connected() as loud, side.connected() as other:
        loud.run("print_lines(-1, 1)")
        other.run("time_trips(seconds)", seconds=_TRIPS_S)
        for number in range(rounds):
            got["still"] += other.run("time_trips(seconds)", seconds=_TRIPS_S)
            trips, shown = _flood(loud, other, number)
            got["flooded"] += trips
            got["shown"].append(shown)
            got["lines"].append(heard(loud).count(f"flood {number} line "))
    return got


def measure(fork: Side, stock: Side, rounds: int) -> Section:
    """Prints 100,000 lines in one session, and puts and gets in another."""
    got = {side.name: _measure(side, rounds) for side in (fork, stock)}

    def row(what: str, unit: str, key: str, factor: float = 1.0) -> Row:
        return Row(what, unit, {s: [factor * v for v in g[key]] for s, g in got.items()})

    rows = [
        row("another session's put and get, before", "ms", "still", 1000.0),
        row("another session's put and get, meanwhile", "ms", "flooded", 1000.0),
        row("until the last line was shown", "s", "shown"),
    ]
    wrong = [f"{count:.0f} of {LINES} lines came" for count in got[FORK]["lines"] if count != LINES]
    return Section(f"{LINES:,} lines printed by one session", rows, problems=wrong)
