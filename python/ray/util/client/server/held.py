"""What a server holds for its clients: object references and actor handles."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from typing import Any, Dict, Iterable, List, Set

from ray.util.client.server.lost import lost_actor, lost_object

UNHELD_ACTOR = "Can't run an actor the server doesn't have a handle for"


class _Epoch:
    """Tells whether clients may rightly ask for what this process never had."""

    def __init__(self) -> None:
        self.follows_a_death = False


class ObjectRefs(Dict[bytes, Any]):
    """One client's object references by the id that the client uses.

    Looking up what is not held raises the error that the client is to see; ``get`` and ``in``
    don't raise.
    """

    def __init__(self, client_id: str, epoch: _Epoch) -> None:
        super().__init__()
        self._client_id = client_id
        self._epoch = epoch

    def __missing__(self, object_id: bytes) -> Any:
        if self._epoch.follows_a_death:
            raise lost_object(object_id)
        raise ValueError(
            f"ClientObjectRef with id {object_id!r} not found for client {self._client_id}"
        )


class ActorRefs(Dict[bytes, Any]):
    """Actor handles by actor id. Looking up what is not held raises what the client is to see."""

    def __init__(self, epoch: _Epoch) -> None:
        super().__init__()
        self._epoch = epoch

    def __missing__(self, actor_id: bytes) -> Any:
        if self._epoch.follows_a_death:
            raise lost_actor(actor_id)
        raise Exception(UNHELD_ACTOR)


class _ObjectRefsByClient(Dict[str, ObjectRefs]):
    """Makes a client's entry when it is first asked for."""

    def __init__(self, epoch: _Epoch) -> None:
        super().__init__()
        self._epoch = epoch

    def __missing__(self, client_id: str) -> ObjectRefs:
        return self.setdefault(client_id, ObjectRefs(client_id, self._epoch))


class Held:
    """The references and handles of all clients of one server.

    The pickler and the servicers read and fill the dicts directly (each such step is atomic);
    releases, which look at several of them, go through the methods. All may be called from any
    thread.

    Attributes:
        object_refs: client id -> id -> ``ray.ObjectRef``.
        client_side_ref_map: client id -> id made by the client -> id in ``object_refs``.
        actor_refs: actor id -> ``ray.ActorHandle``.
        actor_owners: client id -> ids of the actors that the client has a handle for.
        named_actors: ids of actors that were looked up by name; their handles stay.
        function_refs, registered_actor_classes: id -> remote function or actor class.
    """

    def __init__(self) -> None:
        self._epoch = _Epoch()
        self._release_lock = threading.Lock()
        self.object_refs = _ObjectRefsByClient(self._epoch)
        self.client_side_ref_map: Dict[str, Dict[bytes, bytes]] = defaultdict(dict)
        self.actor_refs = ActorRefs(self._epoch)
        self.actor_owners: Dict[str, Set[bytes]] = defaultdict(set)
        self.named_actors: Set[bytes] = set()
        self.function_refs: Dict[bytes, Any] = {}
        self.registered_actor_classes: Dict[bytes, Any] = {}

    def note_incarnation(self, incarnation: int) -> None:
        """From incarnation 2 on, unknown ids are taken to be those of the dead server."""
        if incarnation > 1:
            self._epoch.follows_a_death = True

    def object_ref(self, client_id: str, object_id: bytes) -> Any:
        """The reference that the client knows as ``object_id``.

        Raises:
            OwnerDiedError: it was lost with an earlier server of the session.
            ValueError: there never was one.
        """
        held = self.object_refs.get(client_id)
        if held is None:
            # Asking must not leave an entry behind for a client that has gone.
            held = ObjectRefs(client_id, self._epoch)
        return held[object_id]

    def is_lost(self, client_id: str, object_id: bytes) -> bool:
        """Tells whether the object is gone with an earlier server of the session."""
        held = object_id in self.object_refs.get(client_id, ())
        return self._epoch.follows_a_death and not held

    def keep_actor(self, client_id: str, actor: Any) -> bytes:
        """Keeps the handle for the client and returns the actor's id."""
        actor_id = actor._actor_id.binary()
        self.actor_refs.setdefault(actor_id, actor)
        self.actor_owners[client_id].add(actor_id)
        return actor_id

    def release(self, client_id: str, id: bytes) -> bool:
        """Drops one object or actor handle; False if the client has no such thing."""
        # References must outlive the lock: their destructors call into Ray.
        dropped: List[Any] = []
        with self._release_lock:
            if id in self.object_refs.get(client_id, ()):
                dropped.append(self.object_refs[client_id].pop(id))
                self._drop_registrations((id,), dropped)
                return True
            if id in self.actor_owners.get(client_id, ()):
                self.actor_owners[client_id].discard(id)
                self._drop_unowned_actors((id,), dropped)
                return True
        return False

    def release_all(self, client_id: str) -> None:
        """Drops all that is held for the client."""
        dropped: List[Any] = []
        with self._release_lock:
            refs = self.object_refs.pop(client_id, {})
            dropped.append(refs)
            self._drop_registrations(refs, dropped)
            self.client_side_ref_map.pop(client_id, None)
            self._drop_unowned_actors(self.actor_owners.pop(client_id, ()), dropped)
        del dropped, refs
        # What hangs in cycles must be gone too before Ray is shut down, which does not survive
        # the destructors of references that come later.
        gc.collect()

    def _drop_registrations(self, ids: Iterable[bytes], dropped: List[Any]) -> None:
        for id in ids:
            dropped.append(self.function_refs.pop(id, None))
            dropped.append(self.registered_actor_classes.pop(id, None))

    def _drop_unowned_actors(self, ids: Iterable[bytes], dropped: List[Any]) -> None:
        for id in ids:
            owned = any(id in actors for actors in list(self.actor_owners.values()))
            if not owned and id not in self.named_actors:
                dropped.append(self.actor_refs.pop(id, None))
