"""The client's side of a session: states, ids, acknowledgements, and the fate of requests."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.util.client.session.client import (
    ACKNOWLEDGE_BATCH_SIZE,
    FATES,
    TABLE,
    UNANSWERED,
    UNMINTED,
    ClientSession,
    Fate,
    Input,
    Kind,
    State,
)
from ray.util.client.session.errors import (
    GracePeriodOver,
    IllegalTransition,
    SessionClosed,
    SessionLost,
)
from ray.util.client.session.machine import Machine
from ray.util.common import INT32_MAX

GRACE = 30.0


def connected(grace=GRACE, incarnation=1):
    session = ClientSession(grace)
    session.opened(None)
    session.negotiated(["incarnations"], incarnation)
    return session


def drain(session):
    return list(iter(session.take, None))


@pytest.mark.parametrize("state,fed", list(itertools.product(State, Input)))
def test_every_state_and_input(state, fed):
    machine = Machine("client session", TABLE, state)
    expected = TABLE.get((state, fed))
    if expected is None:
        with pytest.raises(IllegalTransition):
            machine.feed(fed)
        assert machine.state is state
    else:
        assert machine.feed(fed) is expected


def test_the_ends_are_ends():
    assert {s for s, _ in TABLE if s is State.CLOSED} == set()
    assert {i for s, i in TABLE if s is State.LOST} == {Input.SHUTDOWN}


def test_every_kind_has_a_fate():
    assert set(FATES) == set(Kind)


def test_requests_are_sent_in_order_with_ids_of_their_own():
    session = connected()
    added = [session.add(kind, kind.name) for kind in (Kind.PUT, Kind.GET, Kind.TASK)]
    assert drain(session) == added
    assert [r.req_id for r in added] == [1, 2, 3]
    assert all(r.sent for r in added)


def test_ids_wrap_and_skip_those_in_use():
    session = connected()
    first = session.add(Kind.GET, "still waiting")
    session._last_id = INT32_MAX - 1
    assert session.add(Kind.PUT, "").req_id == INT32_MAX
    assert session.add(Kind.PUT, "").req_id == first.req_id + 1


def test_acknowledges_up_to_the_oldest_unanswered_request():
    session = connected()
    requests = [session.add(Kind.TASK, i) for i in range(ACKNOWLEDGE_BATCH_SIZE + 2)]
    # The second request stays unanswered: nothing from it on may be forgotten by the server.
    answers = [session.answered(r.req_id) for r in requests if r.req_id != 2]
    told = [a for a in answers if a is not None]
    assert told == [1]


def test_acknowledges_everything_when_all_is_answered():
    session = connected()
    last = None
    for _ in range(ACKNOWLEDGE_BATCH_SIZE):
        assert last is None
        last = session.answered(session.add(Kind.PUT, "").req_id)
    assert last == ACKNOWLEDGE_BATCH_SIZE


def test_asynchronous_gets_are_not_acknowledged_nor_do_they_hold_others_up():
    session = connected()
    session.add(Kind.GET, "not ready for long")
    for i in range(ACKNOWLEDGE_BATCH_SIZE):
        told = session.answered(session.add(Kind.PUT, i).req_id)
    assert told == ACKNOWLEDGE_BATCH_SIZE + 1
    assert session.answered(1) is None
    assert session.unanswered == 0


def test_no_acknowledgements_where_the_server_keeps_nothing():
    session = connected(grace=0)
    told = {session.answered(session.add(Kind.PUT, i).req_id) for i in range(100)}
    assert told == {None}


def test_same_incarnation_everything_unanswered_is_sent_again_in_order():
    session = connected()
    requests = [session.add(kind, i) for i, kind in enumerate([Kind.TASK, Kind.GET, Kind.PUT])]
    drain(session)
    session.answered(requests[2].req_id)
    session.stream_broke(now=0.0)
    assert session.opened(1).lost == []
    assert drain(session) == requests[:2]


def test_sent_tasks_are_lost_with_their_incarnation_and_unsent_ones_are_not():
    session = connected()
    sent = session.add(Kind.TASK, "sent")
    drain(session)
    unsent = session.add(Kind.TASK, "unsent")
    session.stream_broke(now=0.0)
    in_the_gap = session.add(Kind.TASK, "in the gap")
    reopened = session.opened(2)
    assert reopened.lost == [sent]
    assert drain(session) == [unsent, in_the_gap]
    assert session.incarnation == 2


def test_a_task_sent_before_a_mere_reconnect_is_lost_when_the_server_dies_before_it_is_resent():
    session = connected()
    task = session.add(Kind.TASK, "sent to incarnation 1")
    drain(session)
    session.stream_broke(now=0.0)
    session.opened(1)
    session.stream_broke(now=1.0)
    assert session.opened(2).lost == [task]


def test_a_retry_is_used_up_by_each_incarnation_that_dies_with_the_task():
    session = connected()
    task = session.add(Kind.TASK, "", retries=2)
    for incarnation, left in ((2, 1), (3, 0)):
        drain(session)
        session.stream_broke(now=0.0)
        reopened = session.opened(incarnation)
        assert (reopened.retried, reopened.lost) == ([task], [])
        assert task.retries == left
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(4).lost == [task]


def test_a_task_that_was_not_sent_uses_up_no_retry():
    session = connected()
    task = session.add(Kind.TASK, "", retries=1)
    session.stream_broke(now=0.0)
    assert session.opened(2) == ([], [], [], [])
    assert task.retries == 1


def test_what_never_reached_a_server_is_sent_again_and_uses_up_no_retry():
    session = connected()
    reached = session.add(Kind.TASK, "", retries=0)
    on_its_way = [session.add(Kind.TASK, "", retries=r) for r in (0, 2)]
    drain(session)
    session.stream_broke(now=0.0)
    reopened = session.opened(2, handed=reached.req_id)
    assert (reopened.lost, reopened.retried) == ([reached], [])
    assert drain(session) == on_its_way
    assert on_its_way[1].retries == 2


def test_what_reached_a_server_is_known_across_the_wrap_of_ids():
    session = connected()
    session._last_id = INT32_MAX - 1
    before, after = session.add(Kind.TASK, ""), session.add(Kind.TASK, "")
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(2, handed=before.req_id).lost == [before]
    assert drain(session) == [after]


def test_retries_without_limit():
    session = connected()
    task = session.add(Kind.TASK, "", retries=-1)
    for incarnation in range(2, 12):
        drain(session)
        session.stream_broke(now=0.0)
        assert session.opened(incarnation).retried == [task]


@pytest.mark.parametrize("kind", [k for k, fate in FATES.items() if fate is Fate.REPEAT])
def test_harmless_requests_are_repeated_to_a_new_incarnation(kind):
    session = connected()
    request = session.add(kind, "")
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(2).lost == []
    assert drain(session) == [request]


def test_gets_start_over_with_a_new_incarnation_only():
    session = connected()
    get = session.add(Kind.GET, "")
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(1).restarted == []
    session.stream_broke(now=0.0)
    assert session.opened(2).restarted == [get]


def test_releases_are_dropped_with_the_incarnation_that_knew_the_ids():
    session = connected()
    session.add(Kind.RELEASE, "")
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(2).lost == []
    assert drain(session) == []
    assert session.unanswered == 0


def test_a_stock_peer_tells_no_incarnation_and_gets_everything_again():
    session = ClientSession(GRACE)
    session.opened(None)
    task = session.add(Kind.TASK, "")
    drain(session)
    session.stream_broke(now=0.0)
    assert session.opened(None).lost == []
    assert drain(session) == [task]


def test_the_grace_period_runs_until_the_peer_is_heard():
    session = connected()
    session.stream_broke(now=100.0)
    assert session.remaining(now=110.0) == 20.0
    # Opening alone is no sign of life of a stock peer: a loop of failures must end.
    session.opened(None)
    session.stream_broke(now=120.0)
    assert session.remaining(now=120.0) == 10.0
    session.opened(None)
    assert session.heard()
    assert not session.heard()
    session.stream_broke(now=500.0)
    assert session.remaining(now=500.0) == GRACE


def test_giving_up_tells_everybody_and_later_calls_say_why():
    session = connected()
    waiting = [session.add(Kind.TASK, ""), session.add(Kind.GET, "")]
    session.stream_broke(now=0.0)
    assert session.give_up(GracePeriodOver("too long")) == waiting
    assert session.state is State.LOST
    with pytest.raises(GracePeriodOver, match="too long"):
        session.add(Kind.PUT, "")
    assert drain(session) == []


def test_shutting_down_still_sends_what_stands_in_line():
    session = connected()
    task = session.add(Kind.TASK, "create a detached actor")
    cleanup = session.add(Kind.CLEANUP, "")
    assert session.shut_down() == [task]
    assert drain(session) == [task, cleanup]
    with pytest.raises(SessionClosed, match="Ray Client is not connected"):
        session.add(Kind.PUT, "")


def test_a_goodbye_stands_in_line_again_if_its_stream_broke():
    session = connected()
    cleanup = session.add(Kind.CLEANUP, "")
    session.shut_down()
    session.goodbye_broke()
    assert drain(session) == [cleanup], "once, if it was not even sent"
    session.goodbye_broke()
    session.goodbye_broke()
    assert drain(session) == [cleanup]


def test_who_says_no_goodbye_has_none_to_repeat():
    session = connected()
    session.goodbye_broke()
    assert drain(session) == []


@given(
    steps=st.lists(st.sampled_from(["add", "send", "answer"]), max_size=200),
    start=st.sampled_from([0, INT32_MAX - 5]),
)
def test_ids_in_flight_are_distinct_and_acknowledgements_never_pass_an_unanswered_one(steps, start):
    session = connected()
    session._last_id = start
    flying, order = [], {}
    for number, step in enumerate(steps):
        if step == "add":
            request = session.add(Kind.TASK, number)
            assert request.req_id not in {r.req_id for r in flying}
            flying.append(request)
            order[request.req_id] = number
        elif step == "send":
            session.take()
        elif flying:
            told = session.answered(flying.pop(0).req_id)
            if told is not None:
                assert all(r.req_id != told for r in flying)
    assert session.unanswered == len(flying)


class Life(RuleBasedStateMachine):
    """Walks a session through everything that may happen; nobody is left waiting at the end."""

    def __init__(self):
        super().__init__()
        self.session = connected()
        self.waiting, self.incarnation, self.now = set(), 1, 0.0

    @precondition(lambda self: not self.session.ended)
    @rule(kind=st.sampled_from([k for k in Kind if k not in UNANSWERED]))
    def add(self, kind):
        self.waiting.add(self.session.add(kind, ""))

    @rule()
    def send(self):
        self.session.take()

    @precondition(lambda self: self.session.state is State.CONNECTED)
    @rule(data=st.data())
    def answer(self, data):
        sent = sorted((r for r in self.waiting if r.sent), key=lambda r: r.req_id)
        if sent:
            request = data.draw(st.sampled_from(sent))
            self.session.heard()
            self.session.answered(request.req_id)
            self.waiting.discard(request)

    @precondition(lambda self: self.session.state in (State.CONNECTED, State.SUSPENDED))
    @rule(seconds=st.floats(0, 5))
    def broke(self, seconds):
        self.now += seconds
        self.session.stream_broke(self.now)

    @precondition(lambda self: self.session.state is State.SUSPENDED)
    @rule(died=st.booleans())
    def reopen(self, died):
        self.incarnation += died
        reopened = self.session.opened(self.incarnation)
        assert all(r.sent and r.kind is Kind.TASK for r in reopened.lost)
        self.waiting -= set(reopened.lost)
        self.waiting = {
            r
            for r in self.waiting
            if r in self.session.in_line or self.session.waiting(r.req_id) is r
        }

    @precondition(lambda self: not self.session.ended)
    @rule()
    def give_up(self):
        assert set(self.session.give_up(SessionLost("x"))) == self.waiting
        self.waiting = set()

    @invariant()
    def nobody_is_forgotten(self):
        unminted = sum(r.req_id == UNMINTED for r in self.session.in_line)
        assert self.session.unanswered + unminted == len(self.waiting)


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
