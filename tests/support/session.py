"""A client program together with the specific server that serves it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, List

import psutil

from tests.support.client import Client, StepFailed
from tests.support.cluster import Cluster
from tests.support.processes import command_of, kill, paused

_STOCK_SPAWN_FAILED = "Starting Ray client server failed"


class Session:
    """A connected client program whose specific server can be killed.

    Args:
        client: the program; it has to be connected already.
        cluster: the head that it is connected to.
        server: the specific server that serves the session now.
    """

    def __init__(self, client: Client, cluster: Cluster, server: psutil.Process) -> None:
        self.client = client
        self.cluster = cluster
        self.server = server
        self._others: List[psutil.Process] = []
        self.port = int(command_of(server).split("--port=")[1].split()[0])

    def lose_server(self) -> None:
        """Kills the session's server (SIGKILL) and returns once it is dead. ``server`` stays the
        dead one until :meth:`await_server`."""
        self._others = self.cluster.servers()
        kill(self.server)

    def await_server(self) -> None:
        """Waits for the server that takes the dead one's place; ``server`` is that one then. No
        other session may begin or lose its server between the two calls."""
        self.server = self.cluster.next_server(self.server, *self._others)

    @contextmanager
    def gap(self) -> Iterator[None]:
        """Kills the server and keeps it from being replaced for the length of the block, during
        which the proxier is stopped (SIGSTOP)."""
        with paused(self.cluster.proxier):
            self.lose_server()
            yield


def connect(
    client: Client, cluster: Cluster, address: str, tries: int = 1, **options: Any
) -> Session:
    """Connects a client program and finds out which server serves it. Not thread-safe: no other
    session of the cluster may begin meanwhile.

    Args:
        client: a program that is not connected.
        cluster: the head.
        address: how the program reaches the head.
        tries: how often to try; stock's proxier fails to start a server every now and then.
        **options: of ``ray.init``.
    """
    for left in reversed(range(tries)):
        known = cluster.servers()
        try:
            client.connect(address, **options)
            break
        except StepFailed as error:
            if not left or _STOCK_SPAWN_FAILED not in error.failure.text:
                raise
    return Session(client, cluster, cluster.next_server(*known))
