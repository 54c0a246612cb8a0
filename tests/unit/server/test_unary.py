"""A server's unary calls run once whatever is sent again, and not once the session is over."""

from __future__ import annotations

from typing import Any, List, Tuple

import grpc
import pytest

from ray.util.client import protocol
from ray.util.client.cache import CacheClosedError
from ray.util.client.server import unary


class Context:
    """A call's context, with the metadata that tell a repetition."""

    def __init__(self, client_id: str, req_id: int, thread_id: str = "1") -> None:
        self._metadata = (
            ("client_id", client_id),
            ("thread_id", thread_id),
            ("req_id", str(req_id)),
        )
        self.code = grpc.StatusCode.OK
        self.details = ""

    def invocation_metadata(self) -> Tuple[Tuple[str, str], ...]:
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


class Servicer:
    """Stores values; may be made to fail, or to do something in the midst of a call."""

    def __init__(self) -> None:
        self.response_caches = unary.ResponseCaches()
        self.stored: List[bytes] = []
        self.error: Exception | None = None
        self.meanwhile: Any = lambda: None

    @unary.raises_to_caller(protocol.KVPutResponse)
    @unary.runs_once
    def KVPut(self, request: Any, context: Any = None) -> Any:
        self.stored.append(request.key)
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return protocol.KVPutResponse(already_exists=True)

    def ask(self, client_id: str, req_id: int) -> Tuple[Any, Context]:
        context = Context(client_id, req_id)
        return self.KVPut(protocol.KVPutRequest(key=b"k%d" % req_id), context), context


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


def test_a_repetition_is_answered_as_the_first_time(servicer: Servicer) -> None:
    first, _ = servicer.ask("a", 1)
    again, context = servicer.ask("a", 1)
    assert again is first
    assert context.code is grpc.StatusCode.OK
    assert servicer.stored == [b"k1"]


def test_a_repetition_fails_as_the_first_time(servicer: Servicer) -> None:
    servicer.error = KeyError("k")
    _, first = servicer.ask("a", 1)
    _, again = servicer.ask("a", 1)
    assert first.code is again.code is grpc.StatusCode.ABORTED
    assert first.details == again.details != ""
    assert servicer.stored == [b"k1"]


def test_a_direct_call_without_ids_just_runs(servicer: Servicer) -> None:
    for _ in range(2):
        servicer.KVPut(protocol.KVPutRequest(key=b"k"))
    assert servicer.stored == [b"k", b"k"]


def test_no_call_is_done_once_the_session_is_over(servicer: Servicer) -> None:
    servicer.ask("a", 1)
    servicer.response_caches.end("a")
    for req_id in (1, 2):
        _, context = servicer.ask("a", req_id)
        assert context.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "its session is over" in context.details
    assert servicer.stored == [b"k1"]


def test_a_session_that_asked_nothing_is_over_all_the_same(servicer: Servicer) -> None:
    servicer.response_caches.end("a")
    servicer.ask("a", 1)
    assert servicer.stored == []


def test_other_clients_calls_go_on(servicer: Servicer) -> None:
    servicer.response_caches.end("a")
    servicer.ask("b", 1)
    assert servicer.stored == [b"k1"]


def test_a_client_that_comes_anew_is_served_anew(servicer: Servicer) -> None:
    servicer.ask("a", 1)
    servicer.response_caches.end("a")
    servicer.response_caches.begin("a")
    servicer.ask("a", 1)
    assert servicer.stored == [b"k1", b"k1"]


def test_a_session_that_lives_is_not_begun_anew(servicer: Servicer) -> None:
    servicer.ask("a", 1)
    servicer.response_caches.begin("a")
    servicer.ask("a", 1)
    assert servicer.stored == [b"k1"]


def test_the_end_may_come_in_the_midst_of_a_call(servicer: Servicer) -> None:
    servicer.meanwhile = lambda: servicer.response_caches.end("a")
    _, context = servicer.ask("a", 1)
    assert context.code is grpc.StatusCode.FAILED_PRECONDITION
    assert servicer.stored == [b"k1"]


def test_only_so_many_ended_sessions_are_known(
    servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unary, "_ENDED_KEPT", 3)
    servicer.ask("lives", 1)
    for client_id in "abcdea":
        servicer.response_caches.end(client_id)
    for client_id in "bc":  # Forgotten, as if there never had been a session.
        assert servicer.response_caches.of(client_id).check_cache("1", 1) is None
    for client_id in "dea":
        with pytest.raises(CacheClosedError):
            servicer.response_caches.of(client_id).check_cache("1", 1)
    assert servicer.response_caches.of("lives").cache
