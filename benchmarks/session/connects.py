"""Connects in a row, while another session runs tasks on the same head."""

from __future__ import annotations

from benchmarks.session.report import Fact, Row, Section
from benchmarks.session.sides import FORK, STOCK, Side
from tests.support.client import Client


def _connect_under_traffic(side: Side, client: Client, traffic: Client, count: int) -> list[dict]:
    running = traffic.start("make_traffic()", thread=True)
    try:
        return [client.run("connect_once(address)", address=side.address) for _ in range(count)]
    finally:
        traffic.run("end_traffic()")
        running.value()


def _measure(side: Side, count: int) -> list[dict]:
    with side.connected() as traffic, side.program() as client:
        return _connect_under_traffic(side, client, traffic, count)


def measure(fork: Side, stock: Side, connects: dict[str, int], rounds: int) -> Section:
    """Measures ``connects[side's name]`` connects a side, in ``rounds`` interleaved rounds.

    Stock makes fewer, since its failures take long; a share is what is compared.
    """
    outcomes: dict[str, list[dict]] = {FORK: [], STOCK: []}
    for done in range(rounds):
        for side in (fork, stock):
            share = connects[side.name] * (done + 1) // rounds - len(outcomes[side.name])
            outcomes[side.name] += _measure(side, share)
    return _summarise(outcomes)


def _reason(outcome: dict) -> str:
    return " ".join(outcome["error"].split())[:160]


def _summarise(outcomes: dict[str, list[dict]]) -> Section:
    failed = {side: [o for o in all_of if o["error"]] for side, all_of in outcomes.items()}
    failures = {side: f"{len(failed[side])} of {len(all_of)}" for side, all_of in outcomes.items()}
    times = {side: [o["seconds"] for o in all if not o["error"]] for side, all in outcomes.items()}
    reasons = {side: _reason(errors[0]) for side, errors in failed.items() if errors}
    facts = [Fact("failures", failures)] + ([Fact("first failure", reasons)] if reasons else [])
    problems = [f"a connect failed: {outcome['error']}" for outcome in failed[FORK]]
    title = "Connects in a row, under traffic of another session"
    return Section(title, [Row("connect", "s", times)], facts, problems)
