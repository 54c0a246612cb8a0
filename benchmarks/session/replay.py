"""Replay: from SIGKILL of a session's server to the end of the tasks that were pending then."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.session.report import Row, Section
from benchmarks.session.sides import FORK, NATIVE, Side, native_of
from tests.support.session import connect

TASKS = 1000


def _replayed(fork: Side, rounds: int) -> list[float]:
    times = []
    with fork.program() as client, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            gate = Path(folder, str(number))
            session = connect(client, fork.cluster, fork.address)
            client.run("submit_gated(gate, count)", gate=str(gate), count=TASKS)
            fork.cluster.wait_warm()
            killed = time.monotonic()
            session.server.kill()
            gate.touch()
            times.append(client.run("finish_gated()") - killed)
            client.run("ray.shutdown()")
    return times


def _native(side: Side, rounds: int) -> list[float]:
    times = []
    with native_of(side).connected() as client, tempfile.TemporaryDirectory() as folder:
        client.run("warm_up()")
        for _ in range(rounds):
            code = "begun = time.monotonic(); submit_gated(gate, count); finish_gated() - begun"
            times.append(client.run(code, gate=folder, count=TASKS))
    return times


def measure(fork: Side, stock: Side, rounds: int) -> Section:
    """Measures how long the fork's sessions take to replay, and a driver to submit and finish.

    Stock's sessions end instead, so stock's head serves the driver only.
    """
    samples = {FORK: _replayed(fork, rounds), NATIVE: _native(stock, rounds)}
    what = f"{TASKS} pending tasks: replayed and finished after a SIGKILL; submitted and finished"
    return Section("Replay after SIGKILL of the session's server", [Row(what, "s", samples)])
