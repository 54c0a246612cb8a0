"""The gap: from SIGKILL of a session's server to the next answered call."""

from __future__ import annotations

import time

from benchmarks.session.report import Fact, Row, Section
from benchmarks.session.sides import FORK, STOCK, Side, keep_trying
from tests.support.client import Client
from tests.support.session import connect

# Stock's client sleeps in its grace period, 30 s by default, before the error comes.
_STOCK_GRACE_S = "5"


def _lose_server(side: Side, client: Client, warm: bool = False) -> float:
    """Connects, runs a task, and kills the server, once another one stands warm if that is asked.

    Returns when it was killed (monotonic s).
    """
    session = keep_trying(lambda: connect(client, side.cluster, side.address))
    client.run("warm_up()")
    if warm:
        side.cluster.wait_warm()
    killed = time.monotonic()
    session.server.kill()
    return killed


def _gaps(fork: Side, rounds: int, warm: bool) -> tuple[list[float], list[float]]:
    """Returns the seconds until an object came and until a task was done, for new sessions each:
    a server that dies again and again is replaced more slowly."""
    objects, tasks = [], []
    with fork.program() as client:
        for _ in range(rounds):
            killed = _lose_server(fork, client, warm)
            object_came, task_done = client.run("times_of_answers()")
            objects.append(object_came - killed)
            tasks.append(task_done - killed)
            client.run("ray.shutdown()")
    return objects, tasks


def _fate_of_stock(stock: Side) -> str:
    with stock.program({"RAY_CLIENT_RECONNECT_GRACE_PERIOD": _STOCK_GRACE_S}) as client:
        killed = _lose_server(stock, client)
        failure = client.fails("times_of_answers()")
        seconds = time.monotonic() - killed
        client.run("ray.shutdown()")
    text = " ".join(str(failure).split())
    return f"ends after {seconds:.0f} s (grace period {_STOCK_GRACE_S} s): {text[:300]}"


def measure(fork: Side, stock: Side, rounds: int) -> Section:
    """Measures the fork's gaps, and what becomes of stock's session, once."""
    objects, tasks = _gaps(fork, rounds, warm=True)
    cold_objects, cold_tasks = _gaps(fork, rounds, warm=False)
    rows = [
        Row("to the next put and get", "s", {FORK: objects}),
        Row("to the next task, in a new worker process", "s", {FORK: tasks}),
        Row("put and get, right after connecting", "s", {FORK: cold_objects}),
        Row("task, right after connecting", "s", {FORK: cold_tasks}),
    ]
    fate = Fact("the session", {FORK: "goes on", STOCK: _fate_of_stock(stock)})
    return Section("Gap after SIGKILL of the session's server", rows, [fate])
