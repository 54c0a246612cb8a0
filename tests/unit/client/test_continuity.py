"""Whether a session goes on when its stream has ended, and how the next one begins."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from ray.util.client import protocol
from ray.util.client.continuity import Continuity, Met
from ray.util.client.recovery import Recovery
from ray.util.client.session import wire
from ray.util.client.session.conversation import Conversation
from ray.util.client.session.errors import GracePeriodOver, SessionLost
from ray.util.client.session.journal import Journal
from ray.util.client.speech import WireSpeech


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, why: str | None = None) -> None:
        self._code, self._why = code, why

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "broken"

    def trailing_metadata(self) -> Any:
        return () if self._why is None else ((wire.REASON_KEY, self._why),)


BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
FORGOTTEN = Failure(grpc.StatusCode.NOT_FOUND, wire.REASON_SESSION_UNKNOWN)
REFUSED = Failure(grpc.StatusCode.FAILED_PRECONDITION)


def continuity(grace: float = 30, recovery: Recovery = Recovery.REPLAY) -> Continuity:
    return Continuity(Conversation(grace, WireSpeech(lambda pickled: None)), grace, recovery)


def begun(**options: Any) -> Continuity:
    made = continuity(**options)
    made.init = protocol.InitRequest(reconnect_grace_period=30)
    accepted = protocol.InitResponse(
        ok=True, namespace="mine", incarnation=1, capabilities=wire.CAPABILITIES
    )
    made.negotiated(accepted, lambda: Journal(1000, 1000, 1000))
    return made


@pytest.mark.parametrize(
    "error, before, after",
    [
        (None, True, True),
        (BROKEN, True, True),
        (REFUSED, False, False),
        (ValueError("a fault"), False, False),
        (FORGOTTEN, True, True),
    ],
)
def test_which_ends_a_session_outlives(
    error: Exception | None, before: bool, after: bool
) -> None:
    assert continuity().outlives(error) is before
    assert begun().outlives(error) is after
    assert not begun(grace=0).outlives(error)


@pytest.mark.parametrize("recovery", [Recovery.RECONNECT, Recovery.OFF])
def test_a_forgotten_session_goes_on_only_where_all_is_restored(recovery: Recovery) -> None:
    assert not begun(recovery=recovery).outlives(FORGOTTEN)
    assert begun(recovery=recovery).outlives(BROKEN)


def test_a_stream_begins_with_what_the_session_has_to_ask() -> None:
    made = begun()
    assert made.first_message(reconnecting=False) is None
    asked = made.first_message(reconnecting=True)
    assert asked.WhichOneof("type") == "connection_info"
    assert dict(made.metadata(True)) == {"reconnecting": "True", wire.INCARNATION_KEY: "1"}


def test_a_forgotten_session_begins_anew_after_its_last_server() -> None:
    made = begun()
    made.outlives(FORGOTTEN)
    again = made.first_message(reconnecting=True).init
    assert (again.after, again.namespace, again.reconnect_grace_period) == (1, "mine", 30)
    assert made.metadata(True) == [("reconnecting", "False")]
    with pytest.raises(SessionLost, match="could not be begun anew: no room"):
        made.met(protocol.DataResponse(init=protocol.InitResponse(ok=False, msg="no room")))
    accepted = protocol.InitResponse(ok=True, incarnation=2)
    assert made.met(protocol.DataResponse(init=accepted)) == Met(2, None)
    assert made.first_message(reconnecting=True).WhichOneof("type") == "connection_info"


def test_a_stock_cluster_is_asked_nothing() -> None:
    made = continuity()
    made.negotiated(protocol.InitResponse(ok=True), lambda: Journal(1, 1, 1))
    assert made.first_message(reconnecting=True) is None
    assert made.met(None) == Met(None, None)
    assert not made.has_tokens and not made.recovers


def test_the_goodbye_is_worth_another_stream_only_if_it_was_not_taken() -> None:
    made = begun()
    assert not made.has_more_to_say(BROKEN, 0)
    assert made.has_more_to_say(BROKEN, 1)
    assert not made.has_more_to_say(FORGOTTEN, 1)
    assert not made.has_more_to_say(REFUSED, 1)
    assert not continuity().has_more_to_say(BROKEN, 1)


def test_the_cause_tells_of_the_last_error_that_was_not_of_the_client_s_making() -> None:
    made = begun()
    made.outlives(BROKEN)
    made.outlives(Failure(grpc.StatusCode.CANCELLED))
    cause = made.cause(None)
    assert isinstance(cause, GracePeriodOver) and "UNAVAILABLE: broken" in str(cause)
    assert "FAILED_PRECONDITION" in str(made.cause(REFUSED))
    own = SessionLost("mine")
    assert made.cause(own) is own
