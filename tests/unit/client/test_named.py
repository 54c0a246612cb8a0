"""Objects by name: what becomes of names, and of values, that nobody gets to hold."""

from __future__ import annotations

import pickle

import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.named import NamedObjects, SeenValue
from ray.util.client.pickling import Pickled
from ray.util.client.session.errors import SessionClosed
from ray.util.client.session.journal import Ask, Seen


class Data:
    """A data stream whose server answers puts with ``answer``, or raises it."""

    def __init__(self, answer):
        self.answer = answer
        self.submitted, self.released = [], []

    must_not_wait = False

    def check_may_wait(self):
        pass

    def submit(self, message, reply, submission, payload):
        self.submitted.extend(submission.names)
        if isinstance(self.answer, BaseException):
            reply.failed(self.answer)
        else:
            reply.done(protocol.DataResponse(put=self.answer))

    def release(self, names):
        self.released.extend(names)


def put(data):
    return NamedObjects(data, "client", None).put(Pickled(b"value", ()), None)


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


class Slow(Data):
    """Answers nothing; and whoever puts must not wait."""

    must_not_wait = True

    def submit(self, message, reply, submission, payload):
        self.reply = reply


def test_a_put_where_nobody_may_wait_is_answered_later():
    slow = Slow(None)
    ticket = put(slow)
    assert not ticket.done()
    slow.reply.done(
        protocol.DataResponse(put=protocol.PutResponse(valid=True, id=b"id"))
    )
    assert ticket.result(0) == b"id"


class Race(Data):
    """Answers a get with ``late``, when another thread has just seen ``first``."""

    def __init__(self, first, late):
        self.known = [Ask.SERVER, Seen(SeenValue(first, False))]
        self.late = late

    def outcomes(self, names):
        return [self.known.pop(0)]

    def ask(self, kind, message, reply, needs):
        sizes = [len(self.late)]
        answer = protocol.GetResponse(
            valid=True, data=self.late, total_chunks=1, total_size=sizes[0], sizes=sizes
        )
        reply.done(protocol.DataResponse(get=answer))


class Inside:
    """Stands for a reference: notes that it was read, and that it was let go of."""

    events: list[str] = []

    def __init__(self, name):
        self.name = name
        self.events.append(f"{name} is held")

    def __reduce__(self):
        return Inside, (self.name,)

    def __del__(self):
        self.events.append(f"{self.name} is let go of")


@pytest.fixture
def events(monkeypatch):
    made = []
    monkeypatch.setattr(Inside, "events", made)
    yield made


def pickled(name, events):
    data = pickle.dumps(Inside(name))
    events.clear()
    return data


def test_a_value_that_comes_too_late_is_not_read(events):
    race = Race(pickled("first", events), pickled("late", events))
    (value,) = NamedObjects(race, "client", None).get([b"name"], None)
    assert value.name == "first" and events == ["first is held"]


def test_what_an_answer_refers_to_is_held_until_it_has_been_read(events):
    class HandingOver(Race):
        def ask(self, kind, message, reply, needs):
            reply.keep(Inside("handed"))
            super().ask(kind, message, reply, needs)

        def note(self, _):
            events.append("read")

        has_parts, value_limit = False, 0

    over = HandingOver(pickled("", events), pickled("value", events))
    over.known[1] = Ask.SERVER
    (value,) = NamedObjects(over, "client", None).get([b"name"], None)
    assert events == ["handed is held", "value is held", "read", "handed is let go of"]


class Answering(Data):
    """Answers each get with the names asked for, and notes what was asked."""

    has_parts, value_limit = False, 0

    def __init__(self):
        self.asked = []

    def outcomes(self, names):
        return [Ask.SERVER] * len(names)

    def note(self, _):
        pass

    def ask(self, kind, message, reply, needs):
        self.asked.append(list(message.get.ids))
        values = [cloudpickle.dumps(name) for name in message.get.ids]
        data, sizes = b"".join(values), [len(value) for value in values]
        answer = protocol.GetResponse(
            valid=True, data=data, total_chunks=1, total_size=len(data), sizes=sizes
        )
        reply.done(protocol.DataResponse(get=answer))


def test_many_objects_are_asked_for_at_once_and_each_once():
    data = Answering()
    names = [b"%d" % n for n in range(100)]
    assert NamedObjects(data, "client", None).get([*names, names[3]], None) == [*names, names[3]]
    assert data.asked == [names]


def test_the_same_value_that_comes_once_more_is_not_read_twice(events):
    data = pickled("value", events)
    (value,) = NamedObjects(Race(data, data), "client", None).get([b"name"], None)
    assert value.name == "value" and events == ["value is held"]


def test_a_value_that_comes_too_late_and_can_not_be_read_is_no_trouble(events):
    race = Race(pickled("first", events), b"no pickle")
    (value,) = NamedObjects(race, "client", None).get([b"name"], None)
    assert value.name == "first"
