"""Responses that are ready together go in one message, if the client takes that."""

from __future__ import annotations

from typing import Any, List

from ray.util.client import protocol
from ray.util.client.server import outbox as module
from ray.util.client.server.outbox import Outbox


def ticket(req_id: int, size: int = 1) -> Any:
    ids = [bytes(size)]
    return protocol.DataResponse(
        req_id=req_id, task_ticket=protocol.ClientTaskTicket(valid=True, return_ids=ids)
    )


def sent(outbox: Outbox, *responses: Any) -> List[List[int]]:
    messages = [message for response in responses for message in outbox.add(response)]
    messages.extend(outbox.flush())
    assert outbox.empty
    return [
        [each.req_id for each in message.batch.responses] or [message.req_id]
        for message in messages
    ]


def test_small_ones_go_together_in_their_order() -> None:
    assert sent(Outbox(lambda: True), *(ticket(n) for n in range(1, 6))) == [[1, 2, 3, 4, 5]]


def test_a_client_that_takes_no_batches_gets_none() -> None:
    assert sent(Outbox(lambda: False), ticket(1), ticket(2)) == [[1], [2]]


def test_large_ones_and_what_a_proxier_rewrites_go_alone_in_their_turn() -> None:
    info = protocol.DataResponse(req_id=4, connection_info=protocol.ConnectionInfoResponse())
    responses = [ticket(1), ticket(2), ticket(3, 100_000), info, ticket(5), ticket(6)]
    assert sent(Outbox(lambda: True), *responses) == [[1, 2], [3], [4], [5, 6]]


def test_a_message_has_its_bounds(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_MAX_RESPONSES", 3)
    assert sent(Outbox(lambda: True), *(ticket(n) for n in range(1, 6))) == [[1, 2, 3], [4, 5]]
    monkeypatch.setattr(module, "_MAX_BYTES", 10_000)
    assert sent(Outbox(lambda: True), *(ticket(n, 9_000) for n in (1, 2, 3))) == [[1, 2], [3]]
