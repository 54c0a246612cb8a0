"""A function is put once a session, whoever uses it first."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ray.util.client import ray
from ray.util.client.named import Ticket
from ray.util.client.protocol import ClientTask
from ray.util.client.refs import ClientObjectRef
from ray.util.client.stubs import ClientRemoteFunc


class Worker:
    """A session's, as stubs see it; ``meanwhile`` runs while one is being put."""

    def __init__(self) -> None:
        self.meanwhile: Any = lambda: None
        self.released: list[Any] = []
        self._puts = 0

    def is_connected(self) -> bool:
        return True

    def call_retain(self, name: bytes, *, minted: bool = False) -> None:
        pass

    def call_release(self, name: bytes) -> None:
        self.released.append(name)

    def _pickle(self, value: Any) -> Any:
        class Pickled:
            data = b"pickled"

        return Pickled

    def _put_pickled(self, pickled: Any, client_ref_id: bytes) -> ClientObjectRef:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self._puts += 1
        return ClientObjectRef(Ticket(b"\xcd" + bytes(26) + bytes([self._puts])))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(ray.get_context(), "client_worker", worker)
    monkeypatch.setattr(ray.get_context().api, "worker", worker)
    return worker


def test_threads_that_use_a_function_at_once_name_one_that_is_kept(worker: Worker) -> None:
    function = ClientRemoteFunc(lambda: None)
    named: list[bytes] = []

    def use() -> None:
        named.append(function._task(ClientTask.FUNCTION).payload_id)

    def another_thread_is_first() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    worker.meanwhile = another_thread_is_first
    use()
    assert len(set(named)) == 1
    assert worker.released and named[0] not in worker.released
