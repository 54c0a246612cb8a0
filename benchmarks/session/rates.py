"""Calls per second of one session, beside stock and a driver on the head's machine."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from benchmarks.session.report import Row, Section
from benchmarks.session.sides import Side, native_of


def measure(fork: Side, stock: Side, rounds: int, seconds: float) -> Section:
    """Measures each action for ``seconds`` a side and round. The sides take turns, so that a
    machine that gets slower does so for all."""
    sides = (fork, stock, native_of(stock))
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        clients = {side.name: stack.enter_context(side.connected()) for side in sides}
        for client in clients.values():
            actions = client.run("actions = make_actions(); list(actions)")
        for _ in range(rounds):
            for action in actions:
                for side, client in clients.items():
                    rate = client.run("rate(*actions[name], seconds)", name=action, seconds=seconds)
                    rates[action][side].append(rate)
    rows = [Row(action, "/s", dict(by_side)) for action, by_side in rates.items()]
    return Section("Rates of one session", rows)
