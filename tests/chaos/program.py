"""A running workload: its process, and the history that it has written so far."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

from tests.support.cluster import ray_environment
from tests.support.waiting import eventually

_WORKLOAD = Path(__file__).with_name("workload.py")
# A guard against hanging for ever, never a promise about speed.
_PATIENCE_S = 300.0


class Program:
    """One client program under chaos.

    Args:
        python: the interpreter that runs it.
        address: what it connects to.
        folder: where it writes.
        name: of its files, and the beginning of its operations' names.
        seed: decides what it does.
        threads: how many work.

    Attributes:
        events: what it has written, as of the last :meth:`read`.
        begun: by operation, the event of its beginning.
        ended: by operation, the event of its end.
    """

    def __init__(
        self, python: str, address: str, folder: Path, name: str, seed: int, threads: int
    ) -> None:
        self.name = name
        self.events: List[Dict[str, Any]] = []
        self.begun: Dict[str, Dict[str, Any]] = {}
        self.ended: Dict[str, Dict[str, Any]] = {}
        self._history = folder / f"{name}.history"
        self._read_bytes = 0
        with (folder / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, str(_WORKLOAD), address, str(folder), name, str(seed), str(threads)],
                env=ray_environment({"RAY_ENABLE_AUTO_CONNECT": "0"}),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def client_id(self) -> Optional[str]:
        """Of its session; None until it has connected."""
        return self._first("client_id")

    @property
    def is_up(self) -> bool:
        """Whether its threads are at work."""
        self.read()
        return self._first("held") is not None

    def held(self) -> List[Dict[str, int]]:
        """What its process held when it was up, and at its end."""
        return [event["held"] for event in self.events if "held" in event]

    def read(self) -> None:
        """Takes in what the program has written since the last time."""
        if not self._history.exists():
            return
        with self._history.open("rb") as history:
            history.seek(self._read_bytes)
            data = history.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            self.events.append(event)
            if "begin" in event:
                self.begun[event["begin"]] = event
            elif "end" in event:
                self.ended[event["end"]] = event

    def open_operations(self) -> List[Dict[str, Any]]:
        """What has begun and not ended."""
        return [event for op, event in self.begun.items() if op not in self.ended]

    def await_up(self) -> None:
        eventually(lambda: self.is_up or self._has_ended(), f"{self.name} to begin", _PATIENCE_S)
        assert self.is_up, f"{self.name} has ended"

    def stop(self) -> None:
        """Asks the program to end, and returns at once."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def await_end(self) -> bool:
        """Waits for the program's end. False if it does not come, or not well."""
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.dump_stacks()
            return False
        self.read()
        return self.process.returncode == 0 and self._first("done") is not None

    def dump_stacks(self) -> None:
        """Has the program write to its log where its threads are."""
        if not self._has_ended():
            self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def _first(self, what: str) -> Any:
        return next((event[what] for event in self.events if what in event), None)
