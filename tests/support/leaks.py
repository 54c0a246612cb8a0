"""What must be as before once a test module is done."""

from __future__ import annotations

import os
import threading
from typing import Iterable, List

import psutil

from tests.support.cluster import Cluster
from tests.support.processes import command_of, open_sockets
from tests.support.waiting import eventually


class LeakCheck:
    """Remembers what this process holds when it is made; :meth:`run` compares."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._children = {child.pid for child in psutil.Process().children()}
        self._sockets = _socket_count()

    def run(self, clusters: Iterable[Cluster]) -> None:
        """Waits for the sessions of ``clusters`` to end, then compares.

        Raises:
            AssertionError: a session's server, a port, or something of this process is left.
        """
        heads = list(clusters)
        for cluster in heads:
            # A session that lost its server, and then its client, gets one more for a while.
            eventually(lambda c=cluster: not c.sessions(), "the end of every session")
            cluster.wait_no_servers()
            eventually(
                lambda c=cluster: not _session_sockets(c), "the proxier to let go of servers"
            )
        expected = self._children | {cluster.head_pid for cluster in heads}
        eventually(lambda: not self._new_children(expected), "the end of child processes")
        eventually(lambda: not self._new_threads(), "the end of threads that a test began")
        eventually(lambda: _socket_count() <= self._sockets, "the closing of sockets")

    def _new_children(self, expected: Iterable[int]) -> List[str]:
        children = psutil.Process().children()
        return [command_of(child) for child in children if child.pid not in expected]

    def _new_threads(self) -> List[threading.Thread]:
        # gRPC keeps threads of its own for the life of the process; those are daemons.
        return [t for t in threading.enumerate() if t not in self._threads and not t.daemon]


def _socket_count() -> int:
    held = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(_target(path).startswith("socket:") for path in held)


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # the descriptor that listed the folder is closed by now
        return ""


def _session_sockets(cluster: Cluster) -> List[object]:
    """Returns the proxier's connections from clients, which must end with their sessions."""
    return [
        entry
        for entry in open_sockets(cluster.proxier)
        if entry.laddr.port == cluster.client_port and entry.status == psutil.CONN_ESTABLISHED
    ]
