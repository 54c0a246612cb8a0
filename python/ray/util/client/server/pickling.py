"""Pickles values for a client, which has names of its own for some of what they refer to."""

from __future__ import annotations

import io
from typing import Any

import ray
from ray.util.client.client_pickler import PickleStub
from ray.util.client.server.server_pickler import ServerPickler


class _NamingPickler(ServerPickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, ray.ObjectRef):
            kind, id = "Object", obj.binary()
        elif isinstance(obj, ray.actor.ActorHandle):
            kind, id = "Actor", obj._actor_id.binary()
        else:
            return None
        name = self.server.held.name_of(self.client_id, id)
        if name == id:
            return super().persistent_id(obj)
        return PickleStub(
            type=kind, client_id=self.client_id, ref_id=name, name=None, baseline_options=None
        )


def pickle_for_client(value: Any, client_id: str, servicer: Any) -> bytes:
    """Pickles a value; what it refers to is kept for the client.

    Raises:
        Exception: the value can't be pickled; what its own code raises.
    """
    with io.BytesIO() as file:
        _NamingPickler(client_id, servicer, file, protocol=None).dump(value)
        return file.getvalue()
