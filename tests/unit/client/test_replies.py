"""What waits for answers of the data stream."""

import weakref

import pytest

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.replies import (
    BlockingReply,
    ObjectReply,
    PartsReply,
    RestoreReply,
    TicketReply,
)
from ray.util.client.sent import SentError, opened
from ray.util.client.session.errors import ProtocolError, SessionLost
from ray.util.client.slot import Slot


def piece(index, count, data=b"x", **more):
    got = protocol.GetResponse(valid=True, chunk_id=index, total_chunks=count, data=data, **more)
    return protocol.DataResponse(get=got)


def object_reply():
    request = protocol.DataRequest(get=protocol.GetRequest(ids=[b"1"]))
    values = []
    return ObjectReply(request, values.append), request, values


def test_an_object_in_pieces():
    reply, request, values = object_reply()
    assert not reply.done(piece(0, 3, b"a"))
    assert request.get.start_chunk_id == 1
    assert not reply.done(piece(0, 3, b"a")), "a piece that came again is ignored"
    assert not reply.done(piece(1, 3, b"b"))
    assert reply.done(piece(2, 3, b"c"))
    assert values == [b"abc"]


def test_a_missing_piece_is_an_error():
    reply, _, values = object_reply()
    assert reply.done(piece(1, 3))
    assert isinstance(values[0], ProtocolError)


def test_another_incarnation_starts_at_the_first_piece():
    reply, request, values = object_reply()
    reply.done(piece(0, 2, b"old"))
    reply.restart()
    assert request.get.start_chunk_id == 0
    assert not reply.done(piece(0, 2, b"n"))
    assert reply.done(piece(1, 2, b"ew"))
    assert values == [b"new"]


def test_told_once_only():
    reply, _, values = object_reply()
    reply.done(piece(0, 1))
    reply.failed(SessionLost("late"))
    assert values == [b"x"]


def test_a_servers_error():
    reply, _, values = object_reply()
    error = cloudpickle.dumps(KeyError("k"))
    assert reply.done(protocol.DataResponse(get=protocol.GetResponse(valid=False, error=error)))
    assert isinstance(values[0], SentError) and isinstance(opened(values[0]), KeyError)


def ticket(**fields):
    return protocol.DataResponse(task_ticket=protocol.ClientTaskTicket(**fields))


def test_ticket_names_its_returns():
    futures = [Slot(), Slot()]
    assert TicketReply(futures).done(ticket(valid=True, return_ids=[b"a", b"b"]))
    assert [f.result(0) for f in futures] == [b"a", b"b"]


def test_ticket_with_another_number_of_returns():
    futures = [Slot(), Slot()]
    TicketReply(futures).done(ticket(valid=True, return_ids=[b"a"]))
    for future in futures:
        with pytest.raises(ValueError, match="Expected 2 returns but received 1"):
            future.result(0)


def test_ticket_with_an_error():
    futures = [Slot()]
    TicketReply(futures).done(ticket(valid=False, error=cloudpickle.dumps(ImportError("gone"))))
    with pytest.raises(ImportError, match="gone"):
        futures[0].result(0)


def test_waiting_ends_by_the_callers_time():
    with pytest.raises(TimeoutError, match="no answer within 0"):
        BlockingReply().wait(0)


def test_waiting_ends_with_the_session():
    reply = BlockingReply()
    reply.failed(SessionLost("gone"))
    with pytest.raises(SessionLost):
        reply.wait()


def test_a_timeout_that_the_server_raised_is_told_as_it_is():
    reply = BlockingReply()
    reply.failed(TimeoutError("the server's own"))
    with pytest.raises(TimeoutError, match="the server's own"):
        reply.wait(0)


def parts_reply():
    request = protocol.DataRequest(get=protocol.GetRequest(ids=[b"1", b"2"], parts=True))
    told = []
    return PartsReply(request, told.append), request, told


def test_parts_in_one_piece():
    reply, _, told = parts_reply()
    assert reply.done(piece(0, 1, b"abc", sizes=[1, 2]))
    assert [bytes(part) for part in told[0]] == [b"a", b"bc"]


def test_parts_in_several_pieces_some_of_them_again():
    reply, request, told = parts_reply()
    assert not reply.done(piece(0, 2, b"ab", sizes=[1, 2]))
    assert (reply.pieces, request.get.start_chunk_id) == (1, 1)
    assert not reply.done(piece(0, 2, b"ab", sizes=[1, 2]))
    assert reply.done(piece(1, 2, b"c"))
    assert [bytes(part) for part in told[0]] == [b"a", b"bc"]


def test_parts_start_over_with_another_incarnation():
    reply, request, told = parts_reply()
    reply.done(piece(0, 2, b"old", sizes=[3, 3]))
    reply.restart()
    assert request.get.start_chunk_id == 0
    assert reply.done(piece(0, 1, b"new", sizes=[1, 2]))
    assert [bytes(part) for part in told[0]] == [b"n", b"ew"]


@pytest.mark.parametrize(
    "response, error",
    [
        (piece(1, 2, b"x"), ProtocolError),
        (piece(0, 1, b"abc", sizes=[1]), ProtocolError),
        (
            protocol.DataResponse(get=protocol.GetResponse(error=cloudpickle.dumps(KeyError("k")))),
            KeyError,
        ),
    ],
)
def test_parts_that_can_not_be_had(response, error):
    reply, _, told = parts_reply()
    assert reply.done(response)
    reply.failed(SessionLost("later"))
    assert len(told) == 1 and isinstance(opened(told[0]), error)


def test_parts_keep_what_they_refer_to_until_they_have_been_read():
    reply, _, _ = parts_reply()
    kept, late = Slot(), Slot()
    refs = [weakref.ref(kept), weakref.ref(late)]
    reply.keep(kept)
    del kept
    assert refs[0]() is not None
    reply.let_go()
    assert refs[0]() is None
    # The answer of a get that its caller has left may still come.
    reply.keep(late)
    del late
    assert refs[1]() is None


def test_what_is_restored_answers_the_first_submission_once():
    futures = [Slot()]
    first = TicketReply(futures)
    failures = []
    for id in (b"a", b"b"):
        RestoreReply(first, failures.append).done(ticket(valid=True, return_ids=[id]))
    assert futures[0].result(0) == b"a"
    RestoreReply(None, failures.append).failed(SessionLost("x"))
    assert not failures
    gone = cloudpickle.dumps(ImportError("gone"))
    RestoreReply(None, failures.append).done(ticket(valid=False, error=gone))
    assert failures == [gone]
