"""Pickles what goes to the cluster and unpickles what comes from it, noting the names inside.

Names are how objects and actors are called on the wire. What is submitted needs what it names; a
value that names nothing may be kept as bytes and read again at any time.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from ray.util.client.client_pickler import ClientPickler, ServerUnpickler

# What a function says of itself inside its own pickle is no name that it needs.
_NEEDED = frozenset({"Object", "Actor", "RemoteFunc", "RemoteActor", "RemoteMethod"})


class Pickled(NamedTuple):
    """A pickle for the cluster.

    Attributes:
        data: the bytes.
        needs: names of what it refers to, each once, in the order of their first occurrence.
    """

    data: bytes
    needs: tuple[bytes, ...]


class _NotingPickler(ClientPickler):
    def __init__(self, client_id: str, file: Any) -> None:
        super().__init__(client_id, file, protocol=None)
        self.needs: dict[bytes, None] = {}

    def persistent_id(self, obj: Any) -> Any:
        stub = super().persistent_id(obj)
        if stub is not None and stub.type in _NEEDED:
            self.needs[stub.ref_id] = None
        return stub


class _NotingUnpickler(ServerUnpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.names = False

    def persistent_load(self, pid: Any) -> Any:
        self.names = True
        return super().persistent_load(pid)


def pickle_for_server(value: Any, client_id: str) -> Pickled:
    """Pickles a value for the session's server.

    Raises:
        Exception: the value can't be pickled; what its own code raises.
    """
    with io.BytesIO() as file:
        pickler = _NotingPickler(client_id, file)
        pickler.dump(value)
        return Pickled(file.getvalue(), tuple(pickler.needs))


def unpickle_from_server(data: Any) -> tuple[Any, bool]:
    """Reads a value that the session's server sent.

    Args:
        data: bytes-like.

    Returns:
        The value, and whether it refers to objects or actors of the cluster.

    Raises:
        Exception: it can't be unpickled here; what its own code raises.
    """
    unpickler = _NotingUnpickler(io.BytesIO(data))
    return unpickler.load(), unpickler.names
