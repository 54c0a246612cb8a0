"""References take their ids over from their tickets, whatever destructors run meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ray.util.client import ray
from ray.util.client.named import Ticket
from ray.util.client.refs import ClientObjectRef

_PATIENCE_S = 20.0


class Worker:
    """A session's, as references see it; ``meanwhile`` runs while one takes its name or id over."""

    def __init__(self) -> None:
        self.meanwhile: Any = lambda: None
        self.connected = False
        self.released: list[bytes] = []

    def is_connected(self) -> bool:
        return self.connected

    def call_retain(self, name: bytes, *, minted: bool = False) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()

    def name_of(self, id: bytes) -> bytes:
        return id

    def call_release(self, name: bytes) -> None:
        self.released.append(name)

    def note_id(self, name: bytes, id: bytes) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(ray.get_context(), "client_worker", worker)
    return worker


def named(number: int) -> ClientObjectRef:
    ticket = Ticket(b"\xcd" + bytes(26) + bytes([number]))
    ticket.set_result(bytes([number]) * 28)
    return ClientObjectRef(ticket)


def in_a_thread(ask: Any) -> Any:
    """What ``ask`` returns; fails if it never does."""
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(ask()), daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    assert told, "the question waits for ever"
    return told[0]


@pytest.mark.parametrize("same", [True, False])
def test_a_destructor_may_ask_for_an_id_while_one_is_taken_over(worker: Worker, same: bool) -> None:
    ref = named(1)
    other = ref if same else named(2)
    told: list[str] = []
    worker.meanwhile = lambda: told.append(other.hex())
    assert in_a_thread(ref.hex) == "01" * 28
    assert told == ["01" * 28 if same else "02" * 28]
    assert in_a_thread(other.hex) == told[0]


@pytest.mark.parametrize("minted", [True, False])
def test_one_that_ctrl_c_ends_releases_nobody_else_s_object(worker: Worker, minted: bool) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    worker.connected, worker.meanwhile = True, ctrl_c
    with pytest.raises(KeyboardInterrupt):
        ClientObjectRef(Ticket(b"\xcd" * 28) if minted else b"\x01" * 28)
    # Nobody else can have a name that was minted for it.
    assert worker.released == ([b"\xcd" * 28] if minted else [])
