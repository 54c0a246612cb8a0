"""Pickles what goes to the cluster and unpickles what comes from it, noting the names inside.

Names are how objects and actors are called on the wire. What is submitted needs what it names; a
value that names nothing may be kept as bytes and read again at any time.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from ray.util.client import ray
from ray.util.client.client_pickler import ClientPickler, ServerUnpickler

# What a function says of itself inside its own pickle is no name that it needs.
_NEEDED = frozenset({"Object", "Actor", "RemoteFunc", "RemoteActor", "RemoteMethod"})


# Keys in the ``baseline_options`` of a stub, which stock leaves empty for objects and actors: how
# the cluster serialises an actor's handle, and its id of what is called by a token.
HANDLE = "handle"
ID = "id"


class KnownId(bytes):
    """The cluster's id of something that the client calls by another name.

    Attributes:
        token: that name.
    """

    token: bytes

    @classmethod
    def of(cls, token: bytes, id: bytes) -> KnownId:
        """``id``, of what is called ``token``."""
        known = cls(id)
        known.token = token
        return known


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


class Named(dict[bytes, Any]):
    """What a value refers to, by name, in the order of first occurrence.

    Attributes:
        handles: of those that are actors, how the cluster serialises their handles.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handles: dict[bytes, bytes] = {}


class _NotingUnpickler(ServerUnpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.named = Named()

    def persistent_load(self, pid: Any) -> Any:
        options = pid.baseline_options or {}
        found = super().persistent_load(_identified(pid, options.get(ID)))
        handle = options.get(HANDLE)
        if handle is not None:
            self.named.handles[pid.ref_id] = handle
        self.named[pid.ref_id] = found
        return found


def _identified(pid: Any, id: bytes | None) -> Any:
    if id is None:
        return pid
    worker = ray.get_context().client_worker
    # What was submitted again keeps the id that it had first.
    known = id if worker is None else worker.id_of(pid.ref_id, id)
    return pid._replace(ref_id=KnownId.of(pid.ref_id, known))


def pickle_for_server(value: Any, client_id: str) -> Pickled:
    """Pickles a value for the session's server.

    Raises:
        Exception: the value can't be pickled; what its own code raises.
    """
    with io.BytesIO() as file:
        pickler = _NotingPickler(client_id, file)
        pickler.dump(value)
        return Pickled(file.getvalue(), tuple(pickler.needs))


def unpickle_from_server(data: Any) -> tuple[Any, Named]:
    """Reads a value that the session's server sent.

    Args:
        data: bytes-like.

    Returns:
        The value, and what objects and actors of the cluster it refers to.

    Raises:
        Exception: it can't be unpickled here; what its own code raises.
    """
    unpickler = _NotingUnpickler(io.BytesIO(data))
    return unpickler.load(), unpickler.named
