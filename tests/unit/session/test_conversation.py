"""A session and its journal together: what is sent, in which order, and who is told what."""

from __future__ import annotations

import pytest

from ray.util.client.session.client import Kind, Receipt, Request, State
from ray.util.client.session.conversation import Adoption, Conversation
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import Journal, Reason, Submission
from ray.util.client.session.journal import Kind as Entered


class Speech:
    """Messages are tuples of words; a seen value that begins with "!" is an error."""

    def size(self, request):
        return len(request.payload or b"") + 1

    def again(self, entry, unwanted):
        what = entry.message if entry.kind is Entered.PART else entry.message.message
        return ("again", what, entry.retries, *unwanted)

    def put(self, name, value):
        return ("put", name, value)

    def look_up(self, entry):
        return ("look up", *entry.names)

    def waiter(self, first):
        return first

    def failure(self, value):
        return KeyError(value) if value.startswith("!") else None

    def lost(self, name, reason):
        return LookupError(name, reason)

    def unknown(self, request):
        return LookupError(request.message, "unknown")

    def spent(self, request):
        request.message = ("spent", request.message)


class Waiter:
    restarts = 0

    def restart(self):
        self.restarts += 1


def talk(outlives=True, **bounds):
    made = Conversation(30.0, Speech(), outlives)
    made.session.opened(None)
    made.session.negotiated(["incarnations"], 1)
    made.journal = Journal(**{"max_bytes": 1000, "max_entries": 9, "max_value_bytes": 99, **bounds})
    return made


def submitted(name, kind=Entered.TASK, *needs, retries=0, waiter=None, payload=None):
    request = Request(0, Kind.JOURNALED, name, waiter, needs=needs, payload=payload)
    request.submission = Submission(kind, (name,), needs, retries)
    return request


def get(*names):
    return Request(0, Kind.GET, ("get", *names), Waiter(), needs=names)


def say(talk, *arrivals):
    for arrival in arrivals:
        talk.admit(arrival)
    return drained(talk)


def drained(talk):
    return [request.message for request in iter(talk.take, None)]


def another(talk, incarnation=2, handed=None, now=5.0):
    talk.stream_broke(now)
    return talk.opened(incarnation, handed)


def test_what_a_get_needs_is_sent_before_it():
    t = talk()
    say(t, submitted(b"p", Entered.PUT))
    assert t.settle(1) is False
    another(t)
    assert say(t, get(b"p")) == [("again", b"p", 0), ("get", b"p")]
    assert say(t, get(b"p")) == [("get", b"p")]


def test_what_a_get_needs_is_sent_before_it_when_the_next_stream_breaks_too():
    t = talk()
    say(t, submitted(b"t", retries=3), get(b"t"))
    another(t)
    another(t, 2)  # Before anything was sent.
    assert drained(t) == [("again", b"t", 2), ("get", b"t")]
    another(t, 2)  # Both may have been lost on the way.
    assert drained(t) == [("again", b"t", 2), ("get", b"t")]


def test_what_was_pending_comes_first_in_its_order():
    t = talk()
    say(t, submitted(b"a", retries=3), submitted(b"b", retries=3))
    t.admit(submitted(b"c"))
    another(t)
    assert drained(t) == [("again", b"a", 2), ("again", b"b", 2), b"c"]


def test_what_nobody_holds_keeps_its_place_if_no_server_was_given_it():
    t = talk()
    say(t, submitted(b"a"), submitted(b"b"), submitted(b"c"))
    t.admit(Request(0, Kind.RELEASE, None, concerns=(b"a",)))
    another(t, handed=0)
    sent = list(iter(t.take, None))
    assert [r.message for r in sent[:3]] == [b"a", ("again", b"b", 0), ("again", b"c", 0)]
    # An id of the dead server's might be one that the new one has been told to forget.
    assert [r.req_id for r in sent[:3]] == [4, 5, 6]
    assert t.session.waiting(4) is sent[0]


def test_what_nobody_holds_stays_behind_what_an_earlier_recovery_put_before_it():
    t = talk()
    say(t, submitted(b"a", retries=-1))
    t.settle(1)
    t.journal.finished(b"a")
    say(t, submitted(b"b", retries=-1))
    t.admit(submitted(b"c"))
    t.admit(Request(0, Kind.RELEASE, None, concerns=(b"c",)))
    another(t)
    # What had finished is restored when it is needed, and so comes late this time.
    assert say(t, get(b"a"))[:2] == [("again", b"b", -1), b"c"]
    another(t, 3, handed=0)
    sent = drained(t)
    assert sent.index(("again", b"b", -1)) < sent.index(b"c")


def test_what_is_needed_in_line_before_it_is_released_is_restored():
    t = talk()
    say(t, submitted(b"p", Entered.PUT))
    t.settle(1)
    t.admit(submitted(b"t", Entered.TASK, b"p"))
    t.admit(Request(0, Kind.RELEASE, None, concerns=(b"p",)))
    another(t)
    sent = list(iter(t.take, None))
    assert [r.message for r in sent] == [("again", b"p", 0), b"t", None]
    assert t.journal.entries == 2  # The task may have to be run again.


def released(talk):
    return [r.concerns for r in iter(talk.take, None) if r.kind is Kind.RELEASE]


@pytest.mark.parametrize("heard", [False, True])
def test_what_may_have_to_be_made_again_keeps_what_it_needs_on_the_server(heard):
    t = talk()
    say(t, submitted(b"a", Entered.ACTOR, retries=3))
    say(t, submitted(b"c", Entered.CALL, b"a", retries=3))
    t.settle(1)
    t.settle(2)
    t.journal.finished(b"c")
    release = Request(0, Kind.RELEASE, None, concerns=(b"a",))
    if not heard:  # The release stands in line behind the actor, which is restored at once.
        t.admit(release)
    another(t)
    if heard:
        assert drained(t) == [("again", b"a", 2)]
        t.admit(release)
        assert drained(t) == []
    else:
        assert drained(t) == [("again", b"a", 2)]
    assert say(t, get(b"c")) == [("again", b"c", 2), ("get", b"c")]
    t.admit(Request(0, Kind.RELEASE, None, concerns=(b"c",)))
    assert released(t) == [(b"c", b"a")]


def test_what_was_submitted_since_the_death_needs_nothing_any_more():
    t = talk()
    another(t)
    say(t, submitted(b"a"), submitted(b"b", Entered.TASK, b"a"))
    t.admit(Request(0, Kind.RELEASE, None, concerns=(b"a",)))
    assert released(t) == [(b"a",)]


def test_a_value_that_was_to_be_put_for_somebody_is_put_again_only_if_it_is_needed_again():
    t = talk()
    say(t, submitted(b"a"), submitted(b"b", Entered.TASK, b"a", retries=3))
    t.journal.seen(b"a", "value", 5)
    another(t)
    assert drained(t) == [("put", b"a", "value"), ("again", b"b", 2)]
    another(t, 3)
    say(t, *(Request(0, Kind.RELEASE, None, concerns=(name,)) for name in (b"a", b"b")))
    another(t, 4)
    assert all(message is None for message in drained(t))


def test_what_nobody_holds_any_more_is_not_restored_by_a_later_death():
    t = talk()
    say(t, submitted(b"old", retries=3))
    t.admit(submitted(b"new", retries=3))
    another(t, handed=1)
    assert drained(t) == [("again", b"old", 2), b"new"]
    say(t, *(Request(0, Kind.RELEASE, None, concerns=(name,)) for name in (b"old", b"new")))
    # The first server had the one, none has had the other.
    another(t, 3, handed=1)
    assert [message for message in drained(t) if message] == [b"new"]


def test_what_no_server_was_given_is_sent_though_nobody_holds_it_after_many_deaths():
    t = talk()
    say(t, submitted(b"new"))
    another(t, handed=0)
    assert drained(t) == [("again", b"new", 0)]
    say(t, Request(0, Kind.RELEASE, None, concerns=(b"new",)))
    another(t, 3, handed=0)
    assert drained(t)[0] == ("again", b"new", 0)


def test_what_was_taken_but_not_handed_on_costs_nothing():
    t = talk()
    waiter = Waiter()
    say(t, submitted(b"a", retries=3), submitted(b"b", waiter=waiter))
    another(t, handed=1)
    assert drained(t) == [("again", b"a", 2), ("again", b"b", 0)]
    assert t.told() == []


def test_who_waits_for_what_the_journal_had_no_room_for_is_told():
    t = talk(max_bytes=0)
    waiter = Waiter()
    say(t, submitted(b"p", Entered.PUT, waiter=waiter))
    another(t)
    ((told, error),) = t.told()
    assert told is waiter and error.args == (b"p", Reason.NOT_KEPT)
    assert t.told() == [] and drained(t) == []


def test_who_waits_for_what_is_lost_is_told_once():
    t = talk()
    waiter = Waiter()
    say(t, submitted(b"t", waiter=waiter))
    another(t)
    ((told, error),) = t.told()
    assert told is waiter and error.args == (b"t", Reason.NO_RETRY)
    assert t.told() == [] and drained(t) == []


def test_a_get_of_what_is_lost_is_told_and_not_sent():
    t = talk()
    say(t, submitted(b"t"))
    another(t)
    t.told()
    asked = get(b"t")
    assert say(t, asked, get()) == [("get",)]
    assert [(told, error.args) for told, error in t.told()] == [
        (asked.waiter, (b"t", Reason.NO_RETRY))
    ]
    assert t.session.unanswered == 1


def test_a_get_of_a_seen_error_raises_it():
    t = talk()
    say(t, submitted(b"t", retries=-1))
    t.admit(lambda journal: journal.seen(b"t", "!no", 3))
    assert say(t, get(b"t")) == []
    ((_, error),) = t.told()
    assert isinstance(error, KeyError)


def test_a_seen_value_is_put_where_others_need_it():
    t = talk()
    say(t, submitted(b"t", retries=-1))
    t.admit(lambda journal: journal.seen(b"t", "yes", 3))
    another(t)
    assert say(t, submitted(b"u", Entered.TASK, b"t")) == [("put", b"t", "yes"), b"u"]


@pytest.mark.parametrize("kind", [Kind.RELEASE, Kind.TERMINATE])
def test_what_was_let_go_of_in_the_gap_is_not_run_again(kind):
    t = talk()
    say(t, submitted(b"t", retries=3))
    t.stream_broke(5.0)
    t.admit(Request(0, kind, kind.name, concerns=(b"t",)))
    t.opened(2, None)
    assert drained(t) == [kind.name]


def test_what_is_ended_right_behind_its_submission_stays_ended():
    t = talk()
    end = Request(0, Kind.TERMINATE, "end", concerns=(b"t",))
    assert say(t, submitted(b"t", retries=3), end) == [b"t", "end"]
    another(t)
    assert drained(t) == ["end"]


def test_a_release_takes_along_what_was_restored_for_others():
    t = talk()
    say(t, submitted(b"a", retries=-1), submitted(b"b", Entered.TASK, b"a", retries=-1))
    say(t, Request(0, Kind.RELEASE, "r", concerns=(b"a",)))
    another(t)
    drained(t)
    release = Request(0, Kind.RELEASE, "r", concerns=(b"b",))
    say(t, release)
    assert release.concerns == (b"b", b"a")


def release(*names, receipts=()):
    return Request(0, Kind.RELEASE, None, concerns=names, receipts=receipts)


def test_what_is_held_again_is_not_let_go_of_by_what_still_stands_in_line():
    t = talk()
    say(t, submitted(b"a", retries=3), submitted(b"b"))
    t.admit(release(b"a", b"b"))
    t.admit(Adoption(b"a"))
    assert released(t) == [(b"b",)]
    assert t.journal.holds(b"a")
    t.admit(release(b"a"))
    assert released(t) == [(b"a",)]
    assert not t.journal.holds(b"a")


@pytest.mark.parametrize("incarnation", [1, 2])
def test_what_is_held_again_is_not_let_go_of_by_what_is_sent_once_more(incarnation):
    t = talk()
    say(t, submitted(b"p", Entered.PUT), submitted(b"q", Entered.PUT))
    say(t, submitted(b"t", Entered.TASK, b"p", b"q", retries=3), release(b"p", b"q"))
    t.admit(Adoption(b"p"))
    another(t, incarnation, handed=3)
    assert (b"q",) in released(t)
    assert t.journal.holds(b"p") and not t.journal.holds(b"q")


def test_receipts_go_though_what_they_tell_of_is_still_needed():
    t = talk()
    say(t, submitted(b"a", Entered.ACTOR, retries=3))
    say(t, submitted(b"c", Entered.CALL, b"a", retries=3))
    t.settle(2)
    t.journal.finished(b"c")
    another(t)
    drained(t)
    receipts = (Receipt(b"a", 7, 1),)
    t.admit(release(b"a", receipts=receipts))
    (sent,) = list(iter(t.take, None))
    assert (sent.concerns, sent.receipts) == ((), receipts)


def detached(name, *needs, waiter=None):
    return submitted(name, Entered.DETACHED, *needs, waiter=waiter)


def looked_up(talk, name, *behind):
    """The look-up of an actor that stands in line, with these behind it."""
    for arrival in behind:
        talk.admit(arrival)
    (sent,) = list(iter(talk.take, None))
    assert sent.message == ("look up", name) and sent.asks
    return sent


@pytest.mark.parametrize("started", [False, True])
def test_what_needs_an_actor_that_may_not_have_started_waits_for_its_look_up(started):
    t = talk()
    say(t, submitted(b"p", Entered.PUT), detached(b"a", b"p"))
    another(t)
    assert drained(t)[0] == ("again", b"p", 0)
    look_up = t.session.waiting(t.session._last_id)
    t.admit(submitted(b"c", Entered.CALL, b"a"))
    assert drained(t) == []
    assert t.settle(look_up.req_id) is True
    if not started:
        assert t.never_started(look_up) is True
    made = [] if started else [("again", b"a", 0)]
    assert drained(t) == [*made, b"c"]
    # Now it is known, or not.
    another(t, 3)
    t.admit(get(b"a"))
    sent = list(iter(t.take, None))
    assert sent[-1].message == ("get", b"a") if started else ("look up", b"a")


def test_a_look_up_that_waits_for_its_answer_is_sent_again_by_the_next_stream():
    t = talk()
    say(t, detached(b"a"))
    another(t)
    looked_up(t, b"a", submitted(b"c", Entered.CALL, b"a"))
    another(t, 2)
    sent = looked_up(t, b"a")
    t.settle(sent.req_id)
    assert drained(t) == [b"c"]


def test_nobody_makes_an_actor_that_was_killed_before_it_started():
    t = talk()
    say(t, detached(b"a"))
    another(t)
    sent = looked_up(t, b"a")
    t.journal.forbid(b"a")
    t.settle(sent.req_id)
    assert t.never_started(sent) is False
    assert drained(t) == []


@pytest.mark.parametrize("taken", [False, True])
def test_what_stands_in_line_behind_a_look_up_is_said_at_the_shutdown(taken):
    t = talk()
    say(t, detached(b"a"))
    another(t)
    if taken:
        looked_up(t, b"a")
    t.admit(submitted(b"c", Entered.CALL, b"a"))
    t.session.add(Kind.CLEANUP, "goodbye")
    t.session.shut_down()
    assert drained(t)[-2:] == [b"c", "goodbye"]


def test_a_look_up_that_can_not_be_read_any_more_holds_nobody_up():
    t = talk()
    say(t, detached(b"a"))
    another(t)
    t.lose(looked_up(t, b"a"))
    assert say(t, submitted(b"t")) == [b"t"]


def test_a_look_up_does_not_carry_the_arguments():
    t = talk()
    made = detached(b"a")
    made.payload = b"large"
    say(t, made)
    another(t)
    assert looked_up(t, b"a").payload is None


def test_a_withdrawn_get_is_not_sent():
    t = talk()
    asked = get(b"t")
    asked.waiter = None
    assert say(t, asked, Request(0, Kind.WITHDRAW, "w", target=asked)) == []
    assert t.session.unanswered == 0


def test_a_get_under_way_starts_over_with_another_server():
    t = talk()
    asked = get(b"t")
    say(t, asked)
    another(t)
    assert asked.waiter.restarts == 1 and drained(t) == [("get", b"t")]


def test_a_session_that_is_not_to_outlive_its_server_ends():
    t = talk(outlives=False)
    say(t, submitted(b"t", waiter=Waiter()))
    t.stream_broke(5.0)
    with pytest.raises(SessionLost, match="RAY_CLIENT_RECOVERY"):
        t.opened(2, None)
    assert t.session.state is State.SUSPENDED and t.told() == []
    assert len(t.session.give_up(SessionLost())) == 1, "whoever waits is told of the end"


def test_a_recovery_is_over_when_all_that_is_restored_has_its_answer():
    t = talk()
    say(t, submitted(b"a", retries=3), submitted(b"b", retries=3))
    another(t, now=5.0)
    t.session.heard()
    first, second = iter(t.take, None)
    assert t.restoring == (0, 2) and t.recovered(6.0) is None
    t.settle(first.req_id)
    assert t.restoring == (1, 2) and t.recovered(7.0) is None
    t.settle(second.req_id)
    assert t.recovered(8.0) == 3.0 and t.recovered(9.0) is None


def test_a_recovery_that_restores_nothing_is_over_at_once():
    t = talk()
    another(t, now=5.0)
    assert t.recovered(5.5) is None, "the server has said nothing yet"
    t.session.heard()
    assert t.recovered(6.0) == 1.0


def test_what_goes_beyond_the_bound_is_named_for_spilling():
    t = talk(max_bytes=10)
    t.journal = Journal(10, 9, 9, spills=True)
    say(t, submitted(b"small"), submitted(b"large", payload=b"x" * 50))
    (entry,) = t.unspilled
    assert entry.names == (b"large",) and entry.message.payload == b"x" * 50


def test_nearly_full_is_told():
    t = talk(max_bytes=10)
    say(t, submitted(b"t", payload=b"x" * 8))
    assert t.nearly_full


def test_what_can_not_be_read_any_more_is_lost():
    t = talk()
    waiter = Waiter()
    say(t, submitted(b"p", Entered.PUT, waiter=waiter))
    another(t)
    t.admit(get(b"p"))
    restored = t.take()
    assert restored.entry is not None
    t.lose(restored)
    assert {(told, error.args) for told, error in t.told()} == {(waiter, (b"p", Reason.NOT_KEPT))}
    assert drained(t) == []
    ((_, error),) = t.told()
    assert error.args == (b"p", Reason.NOT_KEPT)


def test_acknowledgements_stand_in_line():
    t = talk()
    for number in range(1, 33):
        say(t, Request(0, Kind.QUERY, number))
    assert [t.settle(number) for number in range(1, 33)] == [False] * 31 + [True]
    assert drained(t) == [32]
