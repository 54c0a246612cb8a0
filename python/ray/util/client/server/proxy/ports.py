"""The ports that specific servers listen on."""

from __future__ import annotations

import random
import socket
from collections import deque
from typing import Deque, Iterable

# Stock's range, which operators may have opened or excluded.
FIRST_PORT = 23000
END_PORT = 24000


class NoFreePort(Exception):
    """Every port of the range is taken."""


class Ports:
    """Hands ports out, the one that has been free for longest first. Not thread-safe.

    Args:
        host: where the ports are to be bound.
        ports: what to hand out.
    """

    def __init__(self, host: str, ports: Iterable[int] = range(FIRST_PORT, END_PORT)) -> None:
        self._host = host
        self._free: Deque[int] = deque(ports)

    @classmethod
    def scattered(cls, host: str) -> Ports:
        """The usual ports, from a random one on: several clusters may share a machine."""
        usual = deque(range(FIRST_PORT, END_PORT))
        usual.rotate(random.randrange(len(usual)))
        return cls(host, usual)

    def take(self) -> int:
        """A port that nobody listened on just now.

        Raises:
            NoFreePort: there is none.
        """
        for _ in range(len(self._free)):
            port = self._free.popleft()
            if self._unused(port):
                return port
            self._free.append(port)
        raise NoFreePort("All ports for specific servers are taken.")

    def give_back(self, port: int) -> None:
        """Takes back a port from :meth:`take`; to be called once for each."""
        self._free.append(port)

    def _unused(self, port: int) -> bool:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections of an earlier server in TIME_WAIT don't keep a new one from listening.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, port))
            except OSError:
                return False
        return True
