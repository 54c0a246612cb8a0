"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from typing import List

LOOPBACK = "127.0.0.1"
# Where heads and nodes run. Ray puts the machine's own, reachable address in place of the usual
# loopback one; this one is as much of the loopback interface, and Ray leaves it alone.
NODE_ADDRESS = "127.0.0.2"
# Below the kernel's ephemeral range, so that no outgoing connection takes a port between the
# moment we find it and the moment its server binds it; above Ray's specific servers (23000-24000).
_FIRST, _LAST = 24100, 32000


def free_ports(count: int) -> List[int]:
    """Returns ``count`` different ports that nothing is bound to at this moment."""
    found: List[int] = []
    with ExitStack() as held:
        for port in random.sample(range(_FIRST, _LAST), _LAST - _FIRST):
            sock = held.enter_context(socket.socket())
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"fewer than {count} free ports between {_FIRST} and {_LAST}")


def is_open(port: int) -> bool:
    """Tells whether something accepts TCP connections at the port of the loopback interface."""
    with socket.socket() as sock:
        sock.settimeout(5)
        return sock.connect_ex((LOOPBACK, port)) == 0
