"""What the session's core asks for, as messages of the stream."""

from __future__ import annotations

import pickle

import pytest

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OwnerDiedError,
    TaskCancelledError,
)
from ray.util.client import protocol
from ray.util.client.losses import lost_error
from ray.util.client.named import SeenValue
from ray.util.client.replies import TicketReply
from ray.util.client.sent import opened
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Request
from ray.util.client.session.conversation import Filed
from ray.util.client.session.journal import Entry, Kind, Reason
from ray.util.client.slot import Slot
from ray.util.client.speech import Recalled, WireSpeech
from ray.util.client.spill import SpillStore

TASK = protocol.ClientTask


@pytest.fixture
def speech():
    return WireSpeech(lambda pickled: None)


def entry_of(kind, *names, retries=0, **fields):
    task = TASK(return_tokens=names, total_chunks=1, **fields)
    message = protocol.DataRequest(task=task)
    return Entry(kind, names, Filed(message, None, None), 1, retries=retries)


def options(**chosen):
    return protocol.TaskOptions(pickled_options=pickle.dumps(chosen))


def test_a_task_is_submitted_again_with_the_retries_that_are_left(speech):
    entry = entry_of(Kind.TASK, b"t", retries=2, options=options(max_retries=3, name="n"))
    task = speech.again(entry, ()).task
    assert task.again and list(task.return_tokens) == [b"t"]
    assert pickle.loads(task.options.pickled_options) == {"max_retries": 2, "name": "n"}
    assert not entry.message.message.task.again, "the stream may still be reading the first one"


def test_an_actor_has_the_restarts_that_are_left(speech):
    entry = entry_of(Kind.ACTOR, b"a", retries=-1, type=TASK.ACTOR)
    task = speech.again(entry, ()).task
    assert pickle.loads(task.options.pickled_options) == {"max_restarts": -1}


def test_what_was_seen_is_not_made_again(speech):
    task = speech.again(entry_of(Kind.TASK, b"x", b"y", retries=1), (b"x",)).task
    assert list(task.return_tokens) == [b"", b"y"]


def test_values_and_errors_are_put_under_their_names(speech):
    put = speech.put(b"t", SeenValue(b"pickled", False)).put
    assert (put.register_as, put.data, put.failed, put.total_chunks) == (b"t", b"pickled", False, 1)
    assert speech.put(b"t", SeenValue(b"error", True)).put.failed


def test_a_seen_error_is_what_getting_it_raises(speech):
    failure = speech.failure(SeenValue(pickle.dumps(KeyError("k")), True))
    assert isinstance(opened(failure), KeyError)
    assert speech.failure(SeenValue(b"pickled", False)) is None


def test_a_detached_actor_is_looked_up_by_its_name(speech):
    entry = entry_of(
        *(Kind.DETACHED, b"a"),
        type=TASK.ACTOR,
        client_id="me",
        baseline_options=options(name="old"),
        options=options(name="kept", namespace="space"),
    )
    task = speech.look_up(entry).task
    assert (task.type, task.name, task.namespace) == (TASK.NAMED_ACTOR, "kept", "space")
    assert (task.client_id, list(task.return_tokens)) == ("me", [b"a"])


@pytest.mark.parametrize(
    "kind, type, verb",
    [
        (Kind.DETACHED, TASK.ACTOR, "look_up"),
        (Kind.NAMED, TASK.NAMED_ACTOR, "look_up"),
        (Kind.ACTOR, TASK.ACTOR, "again"),
    ],
)
def test_the_id_that_an_actor_had_at_first_is_told(speech, kind, type, verb):
    ticket, entry = Slot(), entry_of(kind, b"a", type=type, options=options(name="kept"))
    entry.message = entry.message._replace(waiter=TicketReply([ticket]))
    make = speech.look_up if verb == "look_up" else lambda entry: speech.again(entry, ())
    assert make(entry).task.actor_id == b"", "no server has told it yet"
    ticket.set_result(b"id")
    assert make(entry).task.actor_id == b"id"
    assert not entry.message.message.task.actor_id


def test_a_detached_actor_without_a_name_is_found_by_its_handle(speech):
    reply, entry = TicketReply([Slot()]), entry_of(Kind.DETACHED, b"a", type=TASK.ACTOR)
    entry.message = entry.message._replace(waiter=reply)
    for handle in (b"handle", b""):  # The answer to a look-up has none.
        ticket = protocol.ClientTaskTicket(valid=True, return_ids=[b"id"], handle=handle)
        reply.done(protocol.DataResponse(task_ticket=ticket))
        assert speech.look_up(entry).task.handle == b"handle"


def test_a_detached_actor_is_looked_for_by_the_id_that_it_had_last(speech):
    reply, entry = TicketReply([Slot()]), entry_of(Kind.DETACHED, b"a", type=TASK.ACTOR)
    entry.message = entry.message._replace(waiter=reply)

    def told(**ticket):
        ticket = protocol.ClientTaskTicket(valid=True, **ticket)
        reply.done(protocol.DataResponse(task_ticket=ticket))
        task = speech.look_up(entry).task
        assert task.may_be_made
        return task.actor_id, task.actor_id_now

    assert told(return_ids=[b"first"], handle=b"handle") == (b"first", b"first")
    assert told(return_ids=[b"first"], actor_id=b"second") == (b"first", b"second")
    # Once it is made anew, nothing that is known means it, until the next ticket.
    speech.again(entry, ())
    task = speech.look_up(entry).task
    assert (task.actor_id, task.actor_id_now, task.handle) == (b"first", b"", b"")
    assert told(return_ids=[b"third"]) == (b"first", b"third")


def test_a_part_is_picked_out_of_the_value_that_it_was_in(speech):
    pick = speech.again(Entry(Kind.PART, (b"part",), 3, 1, (b"whole",)), ()).pick
    assert (pick.source, pick.index, pick.name) == (b"whole", 3, b"part")


def test_a_look_up_on_disk_is_read_without_the_actor_s_arguments(speech, tmp_path):
    entry = entry_of(Kind.DETACHED, b"a", type=TASK.ACTOR)
    message = entry.message.message.SerializeToString()
    place = SpillStore(str(tmp_path)).write(message, b"arguments")
    entry.message = entry.message._replace(message=place)
    found, payload = speech.look_up(entry).read()
    assert found.task.may_be_made and payload is None


@pytest.mark.parametrize("payload", [None, b"p" * 1000])
def test_a_message_on_disk_is_read_when_it_is_needed(speech, tmp_path, payload):
    entry = entry_of(Kind.TASK, b"t", retries=2)
    place = SpillStore(str(tmp_path)).write(entry.message.message.SerializeToString(), payload)
    entry.message = entry.message._replace(message=place)
    recalled = speech.again(entry, ())
    entry.retries = 0  # spent by a later death
    assert isinstance(recalled, Recalled)
    message, read = recalled.read()
    assert message.task.again and read == payload
    assert pickle.loads(message.task.options.pickled_options) == {"max_retries": 2}


def test_a_payload_counts(speech):
    message = protocol.DataRequest(put=protocol.PutRequest(register_as=b"n"))
    small = speech.size(Request(1, RequestKind.JOURNALED, message))
    assert speech.size(Request(1, RequestKind.JOURNALED, message, payload=b"x" * 99)) == small + 99


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_error_that_says_why(reason):
    error = lost_error(b"n" * 28, reason)
    kinds = (OwnerDiedError, ActorDiedError, ActorUnavailableError, TaskCancelledError)
    assert isinstance(error, kinds) and "server" in str(error)
    assert isinstance(error, TaskCancelledError) == (reason is Reason.CANCELLED)
    assert isinstance(lost_error(b"a" * 16, Reason.ADOPTED), ActorDiedError)
