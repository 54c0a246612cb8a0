"""A client's context while there is no session."""

from __future__ import annotations

import pytest

from ray.util.client import RayAPIStub


@pytest.mark.parametrize("call", ["get", "put", "wait", "kill", "nodes"])
def test_a_call_without_a_session_says_so_as_any_broken_connection_does(call: str) -> None:
    with pytest.raises(ConnectionError, match="Ray Client is not connected"):
        getattr(RayAPIStub(), call)


def test_what_asks_whether_there_is_a_session_raises_nothing() -> None:
    assert RayAPIStub().is_initialized() is False
    assert RayAPIStub().is_connected() is False
