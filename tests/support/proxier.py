"""A proxier of the tests' own, beside the head's, which may be killed and started again."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Set

import psutil

from tests.support.cluster import Cluster
from tests.support.ports import LOOPBACK, free_ports, is_open
from tests.support.processes import descendants, is_running, kill, wait_gone
from tests.support.waiting import eventually

_SERVER = re.compile(r"Server number (\d+) of client (\S+) listens on port (\d+), pid (\d+)\.")
_OVER = re.compile(r"Session of client (\S+) is over")


@dataclass(frozen=True)
class Server:
    """A session's server: its process, and which of the session's it is, from 1."""

    process: psutil.Process
    number: int


class Proxier:
    """Started as the head starts its own. Use as a context manager.

    Args:
        cluster: the head that it belongs to.
        log: where its output goes; it is appended to at each start.
    """

    def __init__(self, cluster: Cluster, log: Path) -> None:
        (self.port,) = free_ports(1)
        model = cluster.proxier
        self.log = log
        self._environment = model.environ()
        self._command = [
            f"--port={self.port}" if word.startswith("--port=") else word
            for word in model.cmdline()
        ]
        self.start()

    @property
    def address(self) -> str:
        return f"ray://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Proxier:
        return self

    def __exit__(self, *_: Any) -> None:
        for process in [*descendants(self.process.pid), psutil.Process(self.process.pid)]:
            kill(process)
        self.process.wait()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: is_open(self.port), "the proxier to listen")

    def kill(self) -> None:
        """Kills it (SIGKILL), and returns when its servers are gone, too."""
        servers = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        for server in servers:
            wait_gone(server)

    def server_of(self, client_id: str) -> Optional[Server]:
        """The server that a session has now; None in a gap. By the log, so a moment late."""
        found = [entry for entry in _SERVER.findall(self._text()) if entry[1] == client_id]
        if not found:
            return None
        number, *_, pid = found[-1]
        children = {child.pid: child for child in descendants(self.process.pid)}
        process = children.get(int(pid))
        return Server(process, int(number)) if process and is_running(process) else None

    def sessions(self) -> Set[str]:
        """The clients whose sessions have begun, in whichever run of the proxier, and not ended."""
        text = self._text()
        return {entry[1] for entry in _SERVER.findall(text)} - set(_OVER.findall(text))

    def ports(self) -> Set[int]:
        """All ports that servers of sessions have listened on."""
        return {int(entry[2]) for entry in _SERVER.findall(self._text())}

    def _text(self) -> str:
        return self.log.read_text(errors="replace")
