"""What a server holds for its clients: object references and actor handles."""

from __future__ import annotations

import gc
import itertools
import pickle
import threading
from collections import defaultdict
from typing import Any, Callable, Dict, Iterable, List, Set

from ray.util.client.server.lost import lost_actor, lost_object
from ray.util.client.server.picks import Picks


class TokenReused(ValueError):
    """A client used one name for two different things. The first one stays."""

    def __init__(self, token: bytes) -> None:
        super().__init__(token)
        self.token = token

    def __str__(self) -> str:
        return f"The name {self.token.hex()} stands for something else already."


UNHELD_ACTOR = "Can't run an actor the server doesn't have a handle for"


class _Epoch:
    """Tells whether clients may rightly ask for what this process never had."""

    def __init__(self) -> None:
        self.follows_a_death = False


class Failed:
    """Stands where a reference would, had its submission not failed. Looking it up raises.

    The error is kept pickled: as it is, its traceback would keep alive whatever the submission
    had in its hands, references to objects among it.
    """

    __slots__ = ("pickled",)

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled


class _Raising(Dict[bytes, Any]):
    """Raises the error where what is looked up has failed. ``get`` and ``in`` don't."""

    def __getitem__(self, id: bytes) -> Any:
        found = super().__getitem__(id)
        if type(found) is Failed:
            raise pickle.loads(found.pickled)
        return found


class ObjectRefs(_Raising):
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


class ActorRefs(_Raising):
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
        tokens: client id -> cluster's id -> the name that the client gave to it.
        first_ids: id of an actor that was created again -> the id that it had at first.
        digests: name given by a client -> what it was given to, and the answer.
        picks: what is had again out of the values of others.
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
        self.tokens: Dict[str, Dict[bytes, bytes]] = defaultdict(dict)
        self.first_ids: Dict[bytes, bytes] = {}
        self.digests: Dict[bytes, Any] = {}
        self.picks = Picks()
        self.function_refs: Dict[bytes, Any] = {}
        self.registered_actor_classes: Dict[bytes, Any] = {}

    def note_incarnation(self, incarnation: int) -> None:
        """From incarnation 2 on, unknown ids are taken to be those of the dead server."""
        if incarnation > 1:
            self._epoch.follows_a_death = True

    @property
    def follows_a_death(self) -> bool:
        """Whether clients' sessions had another server before this one."""
        return self._epoch.follows_a_death

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
        found = self.object_refs.get(client_id, {}).get(object_id)
        return self._epoch.follows_a_death if found is None else type(found) is Failed

    def keep_object(self, client_id: str, ref: Any, token: bytes) -> bytes:
        """Keeps the reference for the client, under its name for it; returns the cluster's id."""
        object_id = ref.binary()
        self.object_refs[client_id][token] = ref
        self.tokens[client_id][object_id] = token
        return object_id

    def keep_actor(self, client_id: str, actor: Any, token: bytes = b"") -> bytes:
        """Keeps the handle for the client, under its name for it; returns the actor's id."""
        actor_id = actor._actor_id.binary()
        name = token or actor_id
        self.actor_refs.setdefault(name, actor)
        self.actor_owners[client_id].add(name)
        if token:
            self.tokens[client_id][actor_id] = token
        return actor_id

    def first_id(self, actor: Any) -> bytes:
        """The id by which the session first knew an actor."""
        actor_id = actor._actor_id.binary()
        return self.first_ids.get(actor_id, actor_id)

    def keep_failures(
        self, client_id: str, tokens: Iterable[bytes], actor: bool, error: bytes
    ) -> None:
        """What the client has named does not exist; ``error`` is the pickled reason."""
        failed = Failed(error)
        for token in tokens:
            if not token:
                continue
            if actor:
                self.actor_refs[token] = failed
                self.actor_owners[client_id].add(token)
            else:
                self.object_refs[client_id][token] = failed

    def once(self, token: bytes, meaning: Any, make: Callable[[], Any]) -> Any:
        """Makes what a client has named, unless that was done already.

        Args:
            token: the name; b"" makes it in any case.
            meaning: tells what it is; hashable.
            make: makes it and returns the answer.

        Raises:
            TokenReused: the name stands for something else.
        """
        if not token:
            return make()
        digest = hash(meaning)
        known = self.digests.get(token)
        if known is None:
            answer = make()
            self.digests[token] = (digest, answer)
            return answer
        if known[0] != digest:
            raise TokenReused(token)
        return known[1]

    def forget(self, token: bytes) -> None:
        """What :meth:`once` has made of a name is to be made in another way."""
        self.digests.pop(token, None)

    def name_of(self, client_id: str, id: bytes) -> bytes:
        """How the client calls what the cluster calls ``id``."""
        tokens = self.tokens.get(client_id)
        return tokens.get(id, id) if tokens else id

    def release(self, client_id: str, id: bytes) -> bool:
        """Drops one object or actor handle; False if the client has no such thing."""
        # References must outlive the lock: their destructors call into Ray.
        dropped: List[Any] = []
        with self._release_lock:
            self.digests.pop(id, None)
            self.picks.drop(id)
            if id in self.object_refs.get(client_id, ()):
                ref = self.object_refs[client_id].pop(id)
                dropped.append(ref)
                self._forget_token(client_id, ref, id)
                self._drop_registrations((id,), dropped)
                return True
            if id in self.actor_owners.get(client_id, ()):
                self.actor_owners[client_id].discard(id)
                self._forget_token(client_id, self.actor_refs.get(id), id)
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
            self.tokens.pop(client_id, None)
            owned = self.actor_owners.pop(client_id, set())
            # Also of what has failed, which has no id of the cluster's.
            for name in itertools.chain(refs, owned):
                self.digests.pop(name, None)
            self._drop_unowned_actors(owned, dropped)
        del dropped, refs
        # What hangs in cycles must be gone too before Ray is shut down, which does not survive
        # the destructors of references that come later.
        gc.collect()

    def _forget_token(self, client_id: str, held: Any, token: bytes) -> None:
        tokens = self.tokens.get(client_id)
        if not tokens or held is None or type(held) is Failed:
            return
        id = held._actor_id.binary() if hasattr(held, "_actor_id") else held.binary()
        if tokens.get(id) == token:
            del tokens[id]

    def _drop_registrations(self, ids: Iterable[bytes], dropped: List[Any]) -> None:
        for id in ids:
            dropped.append(self.function_refs.pop(id, None))
            dropped.append(self.registered_actor_classes.pop(id, None))

    def _drop_unowned_actors(self, ids: Iterable[bytes], dropped: List[Any]) -> None:
        for id in ids:
            owned = any(id in actors for actors in list(self.actor_owners.values()))
            if owned or id in self.named_actors:
                continue
            actor = self.actor_refs.pop(id, None)
            dropped.append(actor)
            actor_id = getattr(actor, "_actor_id", None)
            if actor_id is not None and actor_id.binary() in self.named_actors:
                # The first handle of an actor keeps it alive, which was found by its name since.
                self.actor_refs.setdefault(actor_id.binary(), actor)
