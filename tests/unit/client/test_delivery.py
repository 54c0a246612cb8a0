"""Answers reach those who wait for them, whatever these do with them."""

from __future__ import annotations

from typing import Any

import pytest

from ray.util.client import protocol
from ray.util.client.delivery import arrived, settled
from ray.util.client.session.client import UNTRACKED, Kind, Request
from ray.util.client.session.conversation import Conversation
from ray.util.client.speech import WireSpeech


class Waiter:
    """Notes what it is told; ``done`` raises or returns what it is given."""

    def __init__(self, outcome: Any = True) -> None:
        self.outcome = outcome
        self.told: list[Any] = []
        self.kept: list[Any] = []

    def keep(self, held: Any) -> None:
        self.kept.append(held)

    def done(self, response: Any) -> bool:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.told.append(response)
        return self.outcome

    def failed(self, error: Exception) -> None:
        self.told.append(error)


@pytest.fixture
def core() -> Conversation:
    core = Conversation(30, WireSpeech(lambda pickled: None))
    core.opened(1, None)
    return core


def ask(core: Conversation, kind: Kind, waiter: Waiter) -> int:
    core.admit(Request(UNTRACKED, kind, protocol.DataRequest(), waiter))
    request = core.take()
    assert request is not None
    return request.req_id


def handed(names: Any, number: int) -> Any:
    return [*names, number]


@pytest.mark.parametrize("kind", [Kind.QUERY, Kind.GET])
def test_a_waiter_that_fails_is_told_so_and_its_request_is_over(
    core: Conversation, kind: Kind
) -> None:
    error = MemoryError("no room for the result")
    waiter = Waiter(error)
    req_id = ask(core, kind, waiter)
    delivery = arrived(core, protocol.DataResponse(req_id=req_id), 1.0)
    if delivery.deliver(handed):
        settled(core, req_id, 1.0)
    assert waiter.told == [error]
    assert core.session.unanswered == 0


def test_a_get_is_settled_when_its_waiter_has_all_of_it(core: Conversation) -> None:
    waiter = Waiter(False)
    req_id = ask(core, Kind.GET, waiter)
    response = protocol.DataResponse(
        req_id=req_id, get=protocol.GetResponse(valid=True, handed=[b"x"], handing=2)
    )
    assert not arrived(core, response, 1.0).deliver(handed)
    assert core.session.unanswered == 1
    waiter.outcome = True
    assert arrived(core, response, 2.0).deliver(handed)
    assert waiter.kept == [[b"x", 2]] * 2
    settled(core, req_id, 2.0)
    assert core.session.unanswered == 0


def test_what_nobody_waits_for_is_let_go_of(core: Conversation) -> None:
    held: list[Any] = []
    response = protocol.DataResponse(
        req_id=99, get=protocol.GetResponse(valid=True, handed=[b"x"], handing=2)
    )
    assert not arrived(core, response, 1.0).deliver(lambda names, _: held.extend(names))
    assert held == [b"x"]
