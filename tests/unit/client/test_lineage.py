"""What the journal decides, as requests of the stream."""

from __future__ import annotations

import pickle

import pytest

from ray.exceptions import ActorDiedError, ActorUnavailableError, OwnerDiedError
from ray.util.client import protocol
from ray.util.client.lineage import Limits, Lineage, Recovery, Submission
from ray.util.client.losses import lost_error
from ray.util.client.named import SeenValue
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Request
from ray.util.client.session.journal import Kind, Reason

TASK = protocol.ClientTask


@pytest.fixture
def lineage():
    return Lineage(Limits(1000, 100, 1000), replays=True)


def send(lineage, kind, name, *needs, retries=0, **fields):
    if kind is Kind.PUT:
        message = protocol.DataRequest(put=protocol.PutRequest(register_as=name, **fields))
    else:
        message = protocol.DataRequest(task=TASK(return_tokens=[name], **fields))
    request = Request(1, RequestKind.JOURNALED, message, needs=tuple(needs))
    request.submission = Submission(kind, (name,), tuple(needs), retries)
    assert lineage.restores_for(request) == []
    request.sent = True
    return request


def test_a_task_is_submitted_again_with_the_retries_that_are_left(lineage):
    options = protocol.TaskOptions(pickled_options=pickle.dumps({"max_retries": 3, "name": "n"}))
    first = send(lineage, Kind.TASK, b"t", retries=3, type=TASK.FUNCTION, options=options)
    (again,) = lineage.replay(2, [])
    task = again.message.task
    assert task.again and list(task.return_tokens) == [b"t"] and again.entry is first.entry
    assert pickle.loads(task.options.pickled_options) == {"max_retries": 2, "name": "n"}
    assert not first.message.task.again, "the stream may still be reading the first message"


def test_what_a_request_needs_is_sent_before_it(lineage):
    send(lineage, Kind.PUT, b"p", data=b"data")
    assert lineage.replay(2, []) == []
    get = Request(2, RequestKind.GET, protocol.DataRequest(), needs=(b"p",))
    (restore,) = lineage.restores_for(get)
    assert (restore.message.put.register_as, restore.message.put.data) == (b"p", b"data")
    assert lineage.restores_for(get) == []


def test_a_seen_value_is_put_under_its_name(lineage):
    send(lineage, Kind.TASK, b"t", retries=-1)
    lineage.journal.seen(b"t", SeenValue(b"pickled", False), 7)
    lineage.replay(2, [])
    (put,) = lineage.restores_for(Request(2, RequestKind.GET, None, needs=(b"t",)))
    assert (put.message.put.register_as, put.message.put.data) == (b"t", b"pickled")


def test_a_seen_error_is_raised_and_not_put(lineage):
    send(lineage, Kind.TASK, b"t", retries=-1)
    lineage.journal.seen(b"t", SeenValue(pickle.dumps(KeyError("k")), True), 7)
    lineage.replay(2, [])
    assert lineage.restores_for(Request(2, RequestKind.GET, None, needs=(b"t",))) == []
    assert isinstance(lineage.failure_among([b"t"]), KeyError)


def test_a_detached_actor_is_looked_up_by_its_name(lineage):
    layers = {
        "baseline_options": protocol.TaskOptions(pickled_options=pickle.dumps({"name": "old"})),
        "options": protocol.TaskOptions(
            pickled_options=pickle.dumps({"name": "kept", "namespace": "space"})
        ),
    }
    send(lineage, Kind.DETACHED, b"a", type=TASK.ACTOR, client_id="me", **layers)
    lineage.replay(2, [])
    (found,) = lineage.restores_for(Request(2, RequestKind.QUERY, None, needs=(b"a",)))
    task = found.message.task
    assert (task.type, task.name, task.namespace) == (TASK.NAMED_ACTOR, "kept", "space")
    assert (task.client_id, list(task.return_tokens)) == ("me", [b"a"])


def test_who_waits_for_a_ticket_of_what_is_lost_is_told(lineage):
    class Reply:
        def failed(self, error):
            raise AssertionError("told later, without the lock")

    reply = Reply()
    request = Request(1, RequestKind.JOURNALED, protocol.DataRequest(task=TASK()), reply)
    request.submission = Submission(Kind.TASK, (b"t",))
    lineage.restores_for(request)
    lineage.replay(2, [])
    ((told, error),) = lineage.take_failures()
    assert told is reply and isinstance(error, OwnerDiedError)
    assert lineage.take_failures() == []


def test_releases_are_taken_in_their_turn(lineage):
    send(lineage, Kind.PUT, b"p")
    release = protocol.DataRequest(release=protocol.ReleaseRequest(ids=[b"p", b"unknown"]))
    lineage.restores_for(Request(0, RequestKind.RELEASE, release))
    assert lineage.journal.entries == 0


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_error_that_says_why(reason):
    error = lost_error(b"n" * 28, reason)
    assert isinstance(error, (OwnerDiedError, ActorDiedError, ActorUnavailableError))
    assert "server" in str(error)
    assert isinstance(lost_error(b"a" * 16, Reason.ADOPTED), ActorDiedError)


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_a_bad_setting_is_refused(monkeypatch, value):
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_ENTRIES", value)
    with pytest.raises(ValueError, match="RAY_CLIENT_JOURNAL_ENTRIES is a whole number"):
        Limits.from_environment()


def test_settings(monkeypatch):
    assert Recovery.from_environment() is Recovery.REPLAY
    monkeypatch.setenv("RAY_CLIENT_RECOVERY", "off")
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_BYTES", "5")
    assert Recovery.from_environment() is Recovery.OFF
    assert Limits.from_environment().max_bytes == 5
