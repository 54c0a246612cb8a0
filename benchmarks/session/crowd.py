"""Many sessions at once on one head."""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks.session.report import Fact, Row, Section
from benchmarks.session.sides import FORK, Side, keep_trying
from tests.support.client import Client, StepFailed, StepHangs

# A program is heavy, so that one has many sessions.
_SESSIONS_A_PROGRAM = 10
# Stock's connects fail and are tried again for longer than anybody wants to wait.
_OPEN_WITHIN_S = 300


def _open(side: Side, client: Client) -> tuple[int, float]:
    """Connects one more session; returns its number and the seconds, without failed attempts."""

    def once() -> tuple[int, float]:
        started = time.monotonic()
        number = client.run("open_session(address)", address=side.address)
        return number, time.monotonic() - started

    return keep_trying(once)


def _open_all(side: Side, clients: list[Client], count: int) -> list[tuple[Client, int, float]]:
    """Opens ``count`` sessions in turn, or as many as there is time for.

    A connect that does not come back ends it, and costs the sessions of its program.
    """
    opened: list[tuple[Client, int, float]] = []
    deadline = time.monotonic() + _OPEN_WITHIN_S
    for client in (clients * count)[:count]:
        if time.monotonic() > deadline:
            break
        try:
            opened.append((client, *_open(side, client)))
        except StepHangs as error:
            print(f"  (a connect of {side.name} hangs: {str(error)[-200:]})")
            clients.remove(client)
            return [one for one in opened if one[0] is not client]
    return opened


def _close_all(side: Side, client: Client) -> None:
    try:
        client.run("close_sessions()")
    except StepHangs:
        if side.name == FORK:
            raise


def _ask(sessions: list[tuple[Client, int]]) -> tuple[int, float]:
    """Runs a task in every session at the same time; returns the right answers and the seconds."""
    started = time.monotonic()
    steps = [client.start(f"ask({n})", thread=True) for client, n in sessions]
    right = 0
    for step, (_, number) in zip(steps, sessions, strict=True):
        try:
            right += step.value() == 2 * number
        except StepFailed as error:
            print(f"  (a session did not answer: {str(error.failure)[:200]})")
    return right, time.monotonic() - started


def _measure(side: Side, count: int) -> dict:
    with ExitStack() as stack:
        programs = -(-count // _SESSIONS_A_PROGRAM)
        clients = [stack.enter_context(side.program()) for _ in range(programs)]
        opened = _open_all(side, clients, count)
        sessions = [(client, number) for client, number, _ in opened]
        first, again = _ask(sessions), _ask(sessions)
        for client in clients:
            _close_all(side, client)
    seconds = [seconds for _, _, seconds in opened]
    return {"connect": seconds, "right": min(first[0], again[0]), "first": first, "again": again}


def measure(fork: Side, stock: Side, count: int) -> Section:
    """Opens ``count`` sessions a side and asks them all at the same time, twice.

    A side that takes more than 300 s to open them is asked with what it has opened by then.
    """
    got = {side.name: _measure(side, count) for side in (fork, stock)}
    rows = [
        Row("connect, one after another", "s", {s: g["connect"] for s, g in got.items()}),
        Row("a task in each, new workers", "s", {s: [g["first"][1]] for s, g in got.items()}),
        Row("a task in each, again", "s", {s: [g["again"][1]] for s, g in got.items()}),
    ]
    facts = [
        Fact(
            f"opened within {_OPEN_WITHIN_S} s", {s: str(len(g["connect"])) for s, g in got.items()}
        ),
        Fact("answering", {s: f"{g['right']} of {count}" for s, g in got.items()}),
    ]
    silent = count - got[FORK]["right"]
    problems = [f"{silent} of {count} sessions did not answer"] if silent else []
    return Section(f"{count} sessions at once", rows, facts, problems)
