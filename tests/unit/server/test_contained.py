"""Clients' code raises nothing but Exceptions, whatever it raises."""

from __future__ import annotations

import pickle

import pytest

from ray.util.client.server.contained import contained, described
from ray.util.client.server.payloads import pickled_error


class Silent(BaseException):
    """Can't be told in words."""

    def __str__(self) -> str:
        raise SystemExit("no words")


class Unpicklable(Exception):
    def __reduce__(self) -> tuple:
        raise SystemExit("no pickle")


@contained
def call(code: str) -> object:
    return eval(code)


def test_values_and_exceptions_pass() -> None:
    assert call("1 + 1") == 2
    with pytest.raises(ZeroDivisionError):
        call("1 / 0")


def test_what_would_end_a_thread_is_an_error_of_the_request() -> None:
    with pytest.raises(RuntimeError, match="has raised SystemExit: 3") as caught:
        call("__import__('sys').exit(3)")
    assert isinstance(caught.value.__cause__, SystemExit)


def test_errors_are_told_whatever_their_code_does() -> None:
    assert described(Silent()) == "Silent"
    assert described(KeyError("k")) == "KeyError: 'k'"
    told = pickle.loads(pickled_error(Unpicklable("text")))
    assert isinstance(told, RuntimeError) and "Unpicklable: text" in str(told)
