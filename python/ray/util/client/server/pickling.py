"""Pickles values for a client, which has names of its own for some of what they refer to."""

from __future__ import annotations

import io
import pickle
from typing import Any, Dict, Optional

import ray
from ray.util.client.client_pickler import PickleStub
from ray.util.client.pickling import HANDLE, ID
from ray.util.client.server.server_pickler import ServerPickler


class _NamingPickler(ServerPickler):
    """Calls objects and actors by the names that the client has given to them.

    Args:
        names: the names of all that is referred to are added to it.
    """

    def __init__(self, names: Dict[bytes, None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names = names

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, ray.ObjectRef):
            kind, id = "Object", obj.binary()
            first_id = id
        elif isinstance(obj, ray.actor.ActorHandle):
            kind, id = "Actor", obj._actor_id.binary()
            first_id = self.server.held.first_id(obj)
        else:
            return None
        name = self._name_of(id)
        self._names[name] = None
        if name == id:
            return self._by_id(obj)
        return self._stub(kind, name, {ID: first_id})

    def _name_of(self, id: bytes) -> bytes:
        return self.server.held.name_of(self.client_id, id)

    def _by_id(self, obj: Any) -> Any:
        return super().persistent_id(obj)

    def _stub(self, kind: str, name: bytes, options: Optional[Dict[str, Any]] = None) -> Any:
        return PickleStub(
            type=kind, client_id=self.client_id, ref_id=name, name=None, baseline_options=options
        )


class _SourcePickler(_NamingPickler):
    """Pickles the value of ``source`` for a client that restores what came in it.

    What was had again out of an earlier value of ``source`` is called as it was then; and handles
    of actors that the client did not make come with what finds their actors again.
    """

    def __init__(self, source: bytes, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._picked = self.server.held.picks.names_in(source)
        self._places: Dict[bytes, int] = {}

    def _name_of(self, id: bytes) -> bytes:
        place = self._places.setdefault(id, len(self._places))
        return self._picked.get(place) or super()._name_of(id)

    def _by_id(self, obj: Any) -> Any:
        stub = super()._by_id(obj)
        if stub.type == "Actor":
            return self._stub(stub.type, stub.ref_id, {HANDLE: pickle.dumps(obj)})
        return stub


def pickle_for_client(
    value: Any,
    client_id: str,
    servicer: Any,
    source: Optional[bytes] = None,
    names: Optional[Dict[bytes, None]] = None,
) -> bytes:
    """Pickles a value; what it refers to is kept for the client.

    Args:
        value: of any kind.
        client_id: whose names are used.
        servicer: the ``RayletServicer`` that keeps what the value refers to.
        source: the name of the object that has the value, for a client that restores things.
        names: gets the names of what the value refers to, also if pickling fails half-way.

    Raises:
        Exception: the value can't be pickled; what its own code raises.
    """
    with io.BytesIO() as file:
        to = ({} if names is None else names, client_id, servicer, file)
        if source is None:
            pickler = _NamingPickler(*to, protocol=None)
        else:
            pickler = _SourcePickler(source, *to, protocol=None)
        pickler.dump(value)
        return file.getvalue()
