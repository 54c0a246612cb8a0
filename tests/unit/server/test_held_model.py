"""Random histories of what clients keep and release; afterwards nothing is left of anything."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any, Dict, Iterator, Set, Tuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.exceptions import ActorDiedError, OwnerDiedError
from ray.util.client.server.held import Held, TokenReused

CLIENTS = st.sampled_from(["a", "b"])
IDS = st.integers(0, 3)


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Keeps what was imported out of the garbage collections that a release of all begins."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Thing:
    """Stands for an object reference, or for an id."""

    def __init__(self, id: bytes) -> None:
        self.id = id

    def binary(self) -> bytes:
        return self.id


class Actor:
    """Stands for an actor handle."""

    def __init__(self, id: bytes) -> None:
        self._actor_id = Thing(id)


class Comparison(RuleBasedStateMachine):
    """The model: what each client may look up under which name; ``Exception`` where it raises."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held()
        self.objects: Dict[Tuple[str, bytes], Any] = {}
        self.actors: Dict[bytes, Any] = {}
        self.owners: Dict[str, Set[bytes]] = {"a": set(), "b": set()}
        self.names: Dict[Tuple[str, bytes], bytes] = {}
        self.made: Dict[bytes, Tuple[str, int]] = {}
        self.follows_a_death = False
        self.all: weakref.WeakSet = weakref.WeakSet()

    # A token is minted by one client.
    @staticmethod
    def token(client: str, number: int, kind: str = "o") -> bytes:
        return f"{client}-token-{kind}{number}".encode()

    @rule(client=CLIENTS, number=IDS, own=st.booleans())
    def keep_object(self, client: str, number: int, own: bool) -> None:
        id = b"object%d" % number
        name = self.token(client, number) if own else id
        ref = Thing(id)
        self.all.add(ref)
        assert self.held.keep_object(client, ref, name) == id
        self.objects[client, name] = ref
        self.names[client, id] = name

    @rule(client=CLIENTS, number=IDS, own=st.booleans())
    def keep_actor(self, client: str, number: int, own: bool) -> None:
        id = b"actor%d" % number
        name = self.token(client, number, "a") if own else b""
        actor = Actor(id)
        self.all.add(actor)
        assert self.held.keep_actor(client, actor, name) == id
        self.actors.setdefault(name or id, actor)
        self.owners[client].add(name or id)
        if own:
            self.names[client, id] = name

    @rule(client=CLIENTS, number=IDS, actor=st.booleans())
    def fail(self, client: str, number: int, actor: bool) -> None:
        name = self.token(client, 10 + number)
        self.held.keep_failures(client, [name], actor, pickle.dumps(ZeroDivisionError("x")))
        if actor:
            self.actors[name] = ZeroDivisionError
            self.owners[client].add(name)
        else:
            self.objects[client, name] = ZeroDivisionError

    @rule(client=CLIENTS, number=IDS, meaning=st.integers(0, 1))
    def once(self, client: str, number: int, meaning: int) -> None:
        name, calls = self.token(client, number), []

        def make() -> str:
            calls.append(1)
            self.keep_object(client, number, True)
            return f"answer {meaning}"

        known = self.made.get(name)
        if known is not None and known[1] != meaning:
            with pytest.raises(TokenReused):
                self.held.once(name, meaning, make)
        else:
            assert self.held.once(name, meaning, make) == f"answer {meaning}"
            self.made[name] = (client, meaning)
        assert len(calls) == (known is None)

    @rule(client=CLIENTS, number=IDS, actor=st.booleans())
    def once_that_fails(self, client: str, number: int, actor: bool) -> None:
        name = self.token(client, 10 + number)
        self.held.once(name, 0, lambda: self.fail(client, number, actor))
        self.made[name] = (client, 0)

    @rule(number=IDS)
    def find_by_name(self, number: int) -> None:
        self.keep_actor("a", number, False)
        self.held.named_actors.add(b"actor%d" % number)

    @rule(client=CLIENTS, number=IDS, kind=st.sampled_from("oa"), own=st.booleans())
    def release(self, client: str, number: int, kind: str, own: bool) -> None:
        plain = b"object%d" if kind == "o" else b"actor%d"
        self._release(client, self.token(client, number, kind) if own else plain % number)

    @rule(client=CLIENTS, number=IDS)
    def release_what_failed(self, client: str, number: int) -> None:
        self._release(client, self.token(client, 10 + number))

    def _release(self, client: str, name: bytes) -> None:
        is_object = (client, name) in self.objects
        is_actor = not is_object and name in self.owners[client]
        assert self.held.release(client, name) == (is_object or is_actor)
        self.made.pop(name, None)
        gone = self.objects.pop((client, name), None) if is_object else None
        if is_actor:
            gone = self.actors[name]
            self.owners[client].discard(name)
            self._drop_unowned(name)
        id = getattr(gone, "id", None) or getattr(getattr(gone, "_actor_id", None), "id", None)
        if self.names.get((client, id)) == name:
            del self.names[client, id]

    def _drop_unowned(self, name: bytes) -> None:
        if any(name in owned for owned in self.owners.values()) or name in self.held.named_actors:
            return
        actor = self.actors.pop(name, None)
        id = getattr(getattr(actor, "_actor_id", None), "id", None)
        if id in self.held.named_actors:
            self.actors.setdefault(id, actor)

    @rule(client=CLIENTS)
    def release_all(self, client: str) -> None:
        self.held.release_all(client)
        self.objects = {key: ref for key, ref in self.objects.items() if key[0] != client}
        self.names = {key: name for key, name in self.names.items() if key[0] != client}
        self.made = {name: made for name, made in self.made.items() if made[0] != client}
        owned, self.owners[client] = self.owners[client], set()
        for name in owned:
            self._drop_unowned(name)

    @rule(incarnation=st.integers(1, 2))
    def begin(self, incarnation: int) -> None:
        self.held.note_incarnation(incarnation)
        self.follows_a_death |= incarnation > 1

    @rule(client=CLIENTS, number=IDS, plain=st.booleans())
    def look_up(self, client: str, number: int, plain: bool) -> None:
        name = b"object%d" % number if plain else self.token(client, number)
        expected = self.objects.get((client, name), OwnerDiedError)
        if expected is OwnerDiedError and not self.follows_a_death:
            expected = ValueError
        self._expect(expected, self.held.object_ref, client, name)
        lost = isinstance(expected, type) and expected is not ValueError
        assert self.held.is_lost(client, name) == lost

    @rule(number=IDS)
    def look_up_actor(self, number: int) -> None:
        name = b"actor%d" % number
        missing = ActorDiedError if self.follows_a_death else Exception
        self._expect(self.actors.get(name, missing), self.held.actor_refs.__getitem__, name)

    @staticmethod
    def _expect(expected: Any, call: Any, *args: Any) -> None:
        if isinstance(expected, type):
            with pytest.raises(expected):
                call(*args)
        else:
            assert call(*args) is expected

    @invariant()
    def holds_what_it_should(self) -> None:
        held = {(c, name) for c, refs in self.held.object_refs.items() for name in refs}
        assert held == set(self.objects)
        assert set(self.held.actor_refs) == set(self.actors)
        assert {c: names for c, names in self.held.actor_owners.items() if names} == {
            c: names for c, names in self.owners.items() if names
        }
        for (client, id), name in self.names.items():
            assert self.held.name_of(client, id) == name
        assert sum(map(len, self.held.tokens.values())) == len(self.names)
        assert set(self.held.digests) == set(self.made)

    def teardown(self) -> None:
        named = set(self.held.named_actors)
        for client in ("a", "b"):
            self.release_all(client)
        for kept in ("object_refs", "client_side_ref_map", "tokens", "digests", "function_refs"):
            assert not getattr(self.held, kept), kept
        assert set(self.held.actor_refs) <= named, "what was found by its name stays"
        gc.collect()
        assert {thing._actor_id.id for thing in self.all} <= named


Comparison.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_any_history = Comparison.TestCase
