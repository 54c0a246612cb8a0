"""gRPC's errors become Ray's at one place."""

import base64

import grpc
import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client.rpc_errors import (
    decode_exception,
    grace_period_over,
    reason,
    recoverable,
    session_lost,
)
from ray.util.client.session import wire
from ray.util.client.session.errors import GracePeriodOver, SessionLost


class Failed(grpc.RpcError):
    def __init__(self, code, details="", trailing=()):
        self._code, self._details, self._trailing = code, details, trailing

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailing


Code = grpc.StatusCode


@pytest.mark.parametrize(
    "code,details,can",
    [
        (Code.UNAVAILABLE, "Socket closed", True),
        (Code.UNKNOWN, "Stream removed", True),
        (Code.INTERNAL, "RST_STREAM", True),
        (Code.UNKNOWN, "Exception iterating responses: boom", True),
        (Code.INTERNAL, "Exception serializing request!", False),
        (Code.NOT_FOUND, "", False),
        (Code.FAILED_PRECONDITION, "", False),
        (Code.PERMISSION_DENIED, "", False),
        (Code.UNAUTHENTICATED, "", False),
        (Code.ABORTED, "", False),
    ],
)
def test_what_may_be_tried_again(code, details, can):
    assert recoverable(Failed(code, details)) is can


@pytest.mark.parametrize(
    "code,why",
    [
        (Code.FAILED_PRECONDITION, wire.REASON_STALE_INCARNATION),
        (Code.NOT_FOUND, wire.REASON_SESSION_UNKNOWN),
        (Code.FAILED_PRECONDITION, wire.REASON_SESSION_KNOWN),
        (Code.ABORTED, wire.REASON_SUPERSEDED),
    ],
)
def test_what_the_next_stream_mends(code, why):
    error = Failed(code, "", [(wire.REASON_KEY, why)])
    assert reason(error) == why
    assert recoverable(error)


def test_a_bare_rpc_error_is_not_tried_again():
    assert not recoverable(grpc.RpcError())


def test_the_servers_exception_is_raised_as_it_is():
    details = base64.standard_b64encode(cloudpickle.dumps(KeyError("k"))).decode()
    assert isinstance(decode_exception(Failed(Code.ABORTED, details)), KeyError)


def test_details_that_are_no_pickle():
    assert isinstance(decode_exception(Failed(Code.ABORTED, "!!")), ConnectionError)


def test_everything_else_is_a_connection_error():
    assert isinstance(decode_exception(Failed(Code.INTERNAL, "x")), ConnectionError)


def test_the_end_of_a_session_says_why_and_what_to_do():
    text = str(session_lost(Failed(Code.NOT_FOUND, "already been cleaned up")))
    for part in ("already been disconnected", "NOT_FOUND", "cleaned up", "ray.init()"):
        assert part in text
    assert session_lost(SessionLost("as it is")).args == ("as it is",)


def test_the_end_of_the_grace_period():
    over = grace_period_over(7, Failed(Code.UNAVAILABLE, "refused"))
    assert isinstance(over, GracePeriodOver)
    assert "7 s" in str(over) and "refused" in str(over) and "GRACE_PERIOD" in str(over)
