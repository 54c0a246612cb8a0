"""A session together with functions and an actor class whose runs are counted outside Ray.

Each run appends a line to a file, so what was run twice shows whatever Ray believes.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.session import Session
from tests.support.waiting import eventually

SETUP = """
    def note(path, line):
        with open(path, "a") as file:
            file.write(line + "\\n")

    @ray.remote(num_cpus=0)
    def add_one(x, name="run"):
        note(runs, name)
        return x + 1

    @ray.remote(num_cpus=0)
    def gated(name, value):
        import os, time
        note(runs, name)
        while not os.path.exists(gate):
            time.sleep(0.01)
        return value

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self, start=0):
            note(runs, "constructor")
            self.count = start

        def add(self, name="call"):
            note(runs, name)
            self.count += 1
            return self.count

        def gated(self, name):
            import os, time
            note(runs, name)
            while not os.path.exists(gate):
                time.sleep(0.01)
            return self.count
"""


class Held:
    """A session, a file that counts runs, and a gate that running tasks wait at."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.client = session.client
        self._runs, self._gate = folder / "runs", folder / "gate"
        self._runs.touch()
        self.client.run("pass", runs=str(self._runs), gate=str(self._gate))
        self.client.run(SETUP)

    def runs(self, name: str = "run") -> int:
        return self._runs.read_text().splitlines().count(name)

    def started(self, name: str, times: int = 1) -> None:
        eventually(lambda: self.runs(name) >= times, f"run {times} of {name!r}")

    def open_gate(self) -> None:
        self._gate.touch()

    def die(self) -> None:
        self.session.lose_server()
        self.session.await_server()
