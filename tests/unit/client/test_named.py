"""Objects by name: what becomes of names that nobody gets to hold."""

from __future__ import annotations

import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.named import NamedObjects
from ray.util.client.pickling import Pickled
from ray.util.client.session.errors import SessionClosed


class Data:
    """A data stream whose server answers puts with ``answer``, or raises it."""

    def __init__(self, answer):
        self.answer = answer
        self.submitted, self.released = [], []

    def submit(self, message, reply, submission, payload):
        self.submitted.extend(submission.names)

    def await_reply(self, reply):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return protocol.DataResponse(put=self.answer)

    def ReleaseObject(self, request):
        if isinstance(self.answer, SessionClosed):
            raise SessionClosed("it is over")
        self.released.extend(request.ids)


def put(data):
    return NamedObjects(data, "client").put(Pickled(b"value", ()), None)


def test_what_was_put_is_held():
    data = Data(protocol.PutResponse(valid=True, id=b"id"))
    assert put(data).token == data.submitted[0]
    assert data.released == []


@pytest.mark.parametrize("error", [ValueError("lost"), KeyboardInterrupt()])
def test_a_put_that_failed_leaves_nothing_behind(error):
    data = Data(error)
    with pytest.raises(type(error)):
        put(data)
    assert data.released == data.submitted != []


def test_a_put_that_the_server_refused_leaves_nothing_behind():
    error = cloudpickle.dumps(ImportError("no such module"))
    data = Data(protocol.PutResponse(valid=False, error=error))
    with pytest.raises(ImportError):
        put(data)
    assert data.released == data.submitted != []


def test_a_put_in_a_session_that_ends_is_told_of_the_end():
    with pytest.raises(SessionClosed, match="shut down"):
        put(Data(SessionClosed("shut down")))
