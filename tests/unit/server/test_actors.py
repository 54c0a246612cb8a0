"""Finding detached actors, and making those that never started."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Union

import pytest

from ray.util.client.server.actors import NeverStarted, find_started, make_again
from ray.util.client.server.ray_calls import ActorRecord

LIVES = ActorRecord(5.0, False, False)
UNREADY = ActorRecord(5.0, True, False)
UNSTARTED = ActorRecord(5.0, False, True)
DEAD = ActorRecord(9.0, False, False)


class Id:
    def binary(self) -> bytes:
        return b"id"


class Actor:
    _actor_id = Id()


class Calls:
    """A Ray in which an actor has these records, one after another; names have others."""

    def __init__(self, *records: Optional[ActorRecord], named: Any = (), gone: bool = False):
        self.records, self.named, self.gone = list(records), list(named), gone
        self.pauses: List[float] = []

    def find(self, *_: Any) -> Actor:
        if self.gone:
            raise ValueError("Failed to look up actor")
        return Actor()

    def actor_record(self, actor_id: bytes) -> Optional[ActorRecord]:
        assert actor_id == b"id"
        return self.records.pop(0) if len(self.records) > 1 else self.records[0]

    def actors_named(self, name: str, namespace: Optional[str]) -> List[ActorRecord]:
        assert (name, namespace) == ("name", "space")
        return self.named

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def find(calls: Calls, name: str = "name", actor_id: bytes = b"") -> Any:
    return find_started(calls.find, name, "space", actor_id, calls)  # type: ignore[arg-type]


@pytest.mark.parametrize("actor_id", [b"", b"id"])
def test_an_actor_that_lives_is_found(actor_id: bytes) -> None:
    assert isinstance(find(Calls(LIVES), actor_id=actor_id), Actor)


@pytest.mark.parametrize("actor_id", [b"", b"id"])
def test_one_that_waits_for_its_arguments_is_waited_for(actor_id: bytes) -> None:
    calls = Calls(UNREADY, UNREADY, LIVES)
    assert isinstance(find(calls, actor_id=actor_id), Actor)
    assert len(calls.pauses) == 2
    with pytest.raises(NeverStarted):
        find(Calls(UNREADY, UNSTARTED), actor_id=actor_id)


def test_the_wait_ends() -> None:
    calls = Calls(UNREADY)
    assert isinstance(find(calls), Actor)
    assert 1 < sum(calls.pauses) < 10


def test_one_that_died_with_its_owner_never_started() -> None:
    with pytest.raises(NeverStarted):
        find(Calls(UNSTARTED), actor_id=b"id")
    # The handle of such a one can't even be read.
    with pytest.raises(NeverStarted):
        find(Calls(UNSTARTED, gone=True), name="", actor_id=b"id")


@pytest.mark.parametrize("named", [[], [UNSTARTED], [DEAD._replace(at=1.0), UNSTARTED]])
def test_one_without_an_id_is_known_by_the_newest_of_its_name(named: List[ActorRecord]) -> None:
    with pytest.raises(NeverStarted):
        find(Calls(named=named, gone=True))


Found = Dict[str, Union[str, bytes]]


@pytest.mark.parametrize(
    "calls, known",
    [
        (Calls(DEAD, gone=True), {"actor_id": b"id"}),
        (Calls(None, gone=True), {"actor_id": b"id"}),
        (Calls(named=[UNSTARTED, DEAD], gone=True), {}),
        (Calls(gone=True), {"name": ""}),
    ],
)
def test_what_may_have_started_and_is_gone_is_not_found(calls: Calls, known: Found) -> None:
    with pytest.raises(ValueError, match="Failed to look up"):
        find(calls, **known)  # type: ignore[arg-type]


class Class:
    """An actor class; its name is taken so many times."""

    def __init__(self, taken: int = 0) -> None:
        self.taken = taken

    def remote(self, *args: Any, **kwargs: Any) -> str:
        if self.taken:
            self.taken -= 1
            raise ValueError("The name is already taken")
        return "made"


def again(calls: Calls, taken: int = 0) -> Any:
    return make_again(Class(taken), (), {}, calls)  # type: ignore[arg-type]


def test_a_name_that_is_not_free_yet_is_waited_for() -> None:
    calls = Calls()
    assert again(calls, taken=3) == "made"
    assert len(calls.pauses) == 3
    with pytest.raises(ValueError, match="already"):
        again(calls, taken=10**6)
