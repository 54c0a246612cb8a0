"""Errors that a server has sent are read where they are asked for."""

from __future__ import annotations

import sys

import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client.sent import SentError, error_from, opened
from ray.util.client.session.errors import ProtocolError
from ray.util.client.slot import Slot


class Exits(Exception):
    """Ends whatever unpickles it."""

    def __reduce__(self) -> tuple:
        return sys.exit, (3,)


def test_an_error_that_does_not_unpickle_gives_the_reason() -> None:
    assert isinstance(error_from(b"garbage"), Exception)
    assert isinstance(error_from(cloudpickle.dumps("no exception")), ProtocolError)


def test_what_was_not_sent_is_itself() -> None:
    error = KeyError("k")
    assert opened(error) is error
    assert isinstance(opened(SentError(cloudpickle.dumps(error))), KeyError)


def test_a_slot_reads_it_once_and_only_when_asked() -> None:
    slot = Slot()
    slot.set_exception(SentError(b"garbage"))
    assert slot.done() and not slot.succeeded
    slot = Slot()
    slot.set_exception(SentError(cloudpickle.dumps(KeyError("k"))))
    assert isinstance(slot.exception(), KeyError)
    assert slot.exception() is slot.exception()


def test_one_that_exits_where_it_is_read_is_for_whoever_asks() -> None:
    slot = Slot()
    slot.set_exception(SentError(cloudpickle.dumps(Exits())))
    with pytest.raises(SystemExit):
        slot.result()
