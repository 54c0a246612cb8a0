"""The life cycle of a proxied session: its table, the table's complement, and its effects."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.util.client.cache import INT32_MAX
from ray.util.client.session import wire
from ray.util.client.session.errors import IllegalTransition
from ray.util.client.session.machine import Machine
from ray.util.client.session.proxied import (
    COMING,
    ENDED,
    TABLE,
    UP,
    BreakData,
    BreakLogs,
    CancelGrace,
    Input,
    ProxiedSession,
    SavedInit,
    ServerFacts,
    Spawn,
    StartGrace,
    State,
    Terminate,
)

S, I = State, Input  # noqa: E741

# The table once more, by state: what may be fed, and where it leads.
EXPECTED = {
    S.NEW: {
        I.ATTACH: S.NEW,
        I.INIT: S.STARTING,
        I.CLIENT_GONE: S.NEW,
        I.CLEANUP: S.CLOSED,
        I.GRACE_OVER: S.EXPIRED,
        I.SHUTDOWN: S.CLOSED,
    },
    S.STARTING: {
        I.ATTACH: S.STARTING,
        I.SERVER_UP: S.SERVING,
        I.SERVER_UP_UNATTENDED: S.DETACHED,
        I.START_FAILED_FOR_GOOD: S.CLOSED,
        I.CLIENT_GONE: S.STARTING,
        I.CLEANUP: S.CLOSED,
        I.GRACE_OVER: S.EXPIRED,
        I.SHUTDOWN: S.CLOSED,
    },
    S.SERVING: {
        I.ATTACH: S.SERVING,
        I.SERVER_EXITED: S.RECREATING,
        I.SERVER_EXITED_FOR_GOOD: S.EXPIRED,
        I.CLIENT_GONE: S.DETACHED,
        I.CLEANUP: S.CLOSED,
        I.SHUTDOWN: S.CLOSED,
    },
    S.DETACHED: {
        I.ATTACH: S.SERVING,
        I.SERVER_EXITED: S.RECREATING,
        I.SERVER_EXITED_FOR_GOOD: S.EXPIRED,
        I.CLEANUP: S.CLOSED,
        I.GRACE_OVER: S.EXPIRED,
        I.SHUTDOWN: S.CLOSED,
    },
    S.RECREATING: {
        I.ATTACH: S.RECREATING,
        I.SERVER_UP: S.SERVING,
        I.SERVER_UP_UNATTENDED: S.DETACHED,
        I.START_FAILED: S.RECREATING,
        I.START_FAILED_FOR_GOOD: S.EXPIRED,
        I.CLIENT_GONE: S.RECREATING,
        I.CLEANUP: S.CLOSED,
        I.GRACE_OVER: S.EXPIRED,
        I.SHUTDOWN: S.CLOSED,
    },
    S.CLOSED: {},
    S.EXPIRED: {},
}


@pytest.mark.parametrize("state, fed", list(itertools.product(State, Input)))
def test_every_pair_of_state_and_input(state, fed):
    machine = Machine("session", TABLE, state)
    following = EXPECTED[state].get(fed)
    if following is None:
        with pytest.raises(IllegalTransition):
            machine.feed(fed)
        assert machine.state is state
    else:
        assert machine.feed(fed) is following


def test_the_groups_of_states_cover_all_but_new():
    assert UP | COMING | ENDED == set(State) - {S.NEW}


def session(state, attached=True, grace=30.0):
    """A session in ``state``, brought there by what happens in life."""
    made = ProxiedSession("client")
    made.attach()
    if state is S.NEW:
        return made
    made.begin(SavedInit(b"init", 1, grace))
    if state is S.STARTING:
        return made
    made.server_up(0.0, ServerFacts(frozenset({"x"}), "ns"))
    if state is S.RECREATING:
        made.server_exited(1.0, "killed")
        if attached:
            made.attach()
        return made
    if state is S.DETACHED or not attached:
        made.client_gone()
    assert made.state is state
    return made


def kinds(effects):
    return [type(effect) for effect in effects]


def test_a_session_from_start_to_end():
    made = ProxiedSession("client")
    assert kinds(made.attach()) == [CancelGrace]
    assert made.begin(SavedInit(b"init", 1, 30)) == [Spawn(1)]
    assert made.server_up(0.0, ServerFacts()) == []
    assert made.state is S.SERVING
    assert made.cleanup("done") == [CancelGrace(), BreakLogs(None), Terminate(gently=True)]
    assert (made.state, made.ending, made.ended) == (S.CLOSED, "done", True)


def test_the_init_is_handed_on_before_all_else():
    begun = ProxiedSession("c")
    begun.attach()
    begun.begin(SavedInit(b"init", 1, 30.0))
    assert begun.handed == 1


def test_of_a_session_begun_anew_it_is_not_known_what_was_handed_before():
    begun = ProxiedSession("c")
    begun.attach()
    begun.begin(SavedInit(b"init", 0, 30.0, after=3))
    assert begun.handed is None
    begun.hand(9)
    assert begun.handed == 9


def test_a_death_breaks_the_data_stream_and_spawns_the_next_incarnation():
    made = session(S.SERVING)
    data, grace, spawn = made.server_exited(5.0, "killed by signal 9")
    assert made.state is S.RECREATING
    assert (data.why.code, data.why.reason) == ("UNAVAILABLE", wire.REASON_SERVER_DIED)
    assert "killed by signal 9" in data.why.text
    assert (grace, spawn) == (StartGrace(30.0), Spawn(2, 0.0))


def test_a_death_while_the_client_is_away_leaves_its_grace_timer_alone():
    made = session(S.DETACHED)
    assert kinds(made.server_exited(5.0, "killed")) == [Spawn]


def test_a_server_comes_up_whether_or_not_its_client_is_there():
    attended, unattended = session(S.RECREATING), session(S.RECREATING, attached=False)
    for made in (attended, unattended):
        made.server_up(2.0, ServerFacts())
    assert (attended.state, unattended.state) == (S.SERVING, S.DETACHED)


def test_the_namespace_of_the_first_server_stays():
    made = session(S.RECREATING)
    made.server_up(2.0, ServerFacts(frozenset({"y"}), "another"))
    assert made.facts == ServerFacts(frozenset({"y"}), "ns")


def test_a_first_start_that_fails_closes_the_session():
    made = session(S.STARTING)
    assert kinds(made.start_failed(1.0, "no Python")) == [CancelGrace, BreakLogs, Terminate]
    assert (made.state, made.ending) == (S.CLOSED, "no Python")


def test_a_later_start_that_fails_is_tried_again_until_it_is_hopeless():
    made = session(S.RECREATING)
    now, spawns = 2.0, []
    while made.state is S.RECREATING:
        spawns += [e for e in made.start_failed(now, "no memory") if isinstance(e, Spawn)]
        now += 5.0
    assert (made.state, made.ending) == (S.EXPIRED, "no memory")
    assert {spawn.incarnation for spawn in spawns} == {2}
    assert now > 30.0


@pytest.mark.parametrize("state", [S.NEW, S.STARTING, S.SERVING, S.RECREATING])
def test_a_client_that_goes_starts_the_grace_period(state):
    made = session(state)
    assert kinds(made.client_gone()) == [StartGrace]
    assert not made.attached


@pytest.mark.parametrize("state", [S.NEW, S.STARTING, S.DETACHED, S.RECREATING])
def test_a_client_that_stays_away_ends_the_session(state):
    made = session(state)
    if made.attached:
        made.client_gone()
    assert kinds(made.grace_over()) == [CancelGrace, BreakLogs, Terminate]
    assert made.state is S.EXPIRED
    assert "grace period of 30 s" in made.ending


@pytest.mark.parametrize("state", [S.NEW, S.STARTING, S.SERVING, S.RECREATING])
def test_a_newer_stream_supersedes(state):
    made = session(state)
    (broken,) = made.attach()
    assert (broken.why.code, broken.why.reason) == ("ABORTED", wire.REASON_SUPERSEDED)
    assert made.attached


def test_without_a_grace_period_the_session_ends_with_its_connection():
    made = session(S.SERVING, grace=0)
    made.client_gone()
    assert made.state is S.CLOSED


def test_without_a_grace_period_the_session_ends_with_its_server():
    made = session(S.SERVING, grace=0)
    effects = made.server_exited(1.0, "killed")
    assert kinds(effects) == [CancelGrace, BreakData, BreakLogs, Terminate]
    assert effects[1].why.code == "UNAVAILABLE"
    assert "killed" in effects[1].why.text
    assert made.state is S.EXPIRED


@pytest.mark.parametrize("state", [state for state in State if state not in ENDED])
def test_shutdown_ends_any_session_at_once(state):
    made = session(state)
    effects = made.shutdown()
    assert effects[-1] == Terminate(gently=False)
    assert made.ended


def test_the_refusal_of_an_ended_session_says_what_clients_match_on_and_why():
    made = session(S.SERVING)
    made.cleanup("its client has disconnected")
    refusal = made.refusal()
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", wire.REASON_SESSION_GONE)
    assert "Attempted to reconnect a session that has already been cleaned up" in str(refusal)
    assert "its client has disconnected" in str(refusal)


def test_calls_are_put_off_while_there_is_no_server():
    refusal = session(S.RECREATING).recreating()
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", wire.REASON_RECREATING)
    assert refusal.incarnation == 2


@given(
    st.sampled_from([1, 2**30, INT32_MAX - 20, INT32_MAX]),
    st.lists(st.one_of(st.integers(0, 100), st.sampled_from([None, 0, -1, -(2**31), 2**31]))),
)
def test_what_was_handed_is_the_newest_id_that_is_one(base, offsets):
    # Before the init, which counts as handed on.
    made, newest = ProxiedSession("c"), None
    for offset in offsets:
        if offset is None or offset <= 0 or offset == 2**31:
            made.hand(offset or 0)  # no id of a request that is counted
        else:
            newest = max(newest or 0, offset)
            made.hand((base + offset - 1) % INT32_MAX + 1)
        assert made.handed == (None if newest is None else (base + newest - 1) % INT32_MAX + 1)


class Walk(RuleBasedStateMachine):
    """Any history: one server at a time, one timer at a time, and nothing after the end."""

    def __init__(self) -> None:
        super().__init__()
        self.made = ProxiedSession("client")
        self.now = 0.0
        self.servers = 0
        self.coming = 0
        self.timer = False
        self.incarnation = 0
        self.absorb(self.made.attach())

    def absorb(self, effects) -> None:
        for effect in effects:
            if isinstance(effect, Spawn):
                assert self.servers + self.coming == 0
                assert effect.incarnation >= self.incarnation
                self.incarnation = effect.incarnation
                self.coming += 1
            elif isinstance(effect, Terminate):
                self.servers = self.coming = 0
            elif isinstance(effect, StartGrace):
                self.timer = True
            elif isinstance(effect, CancelGrace):
                self.timer = False

    live = precondition(lambda self: not self.made.ended)

    @live
    @rule()
    def attach(self):
        self.absorb(self.made.attach())

    @precondition(lambda self: self.made.state is S.NEW)
    @rule(grace=st.sampled_from([0, 5]))
    def begin(self, grace):
        self.absorb(self.made.begin(SavedInit(b"init", 1, grace)))

    @precondition(lambda self: self.made.attached)
    @rule()
    def client_gone(self):
        self.absorb(self.made.client_gone())

    @precondition(lambda self: self.coming)
    @rule(took=st.floats(0, 9))
    def server_up(self, took):
        self.coming, self.servers, self.now = 0, 1, self.now + took
        self.absorb(self.made.server_up(self.now, ServerFacts()))

    @precondition(lambda self: self.coming)
    @rule(took=st.floats(0, 9))
    def start_failed(self, took):
        self.coming, self.now = 0, self.now + took
        self.absorb(self.made.start_failed(self.now, "why"))

    @precondition(lambda self: self.servers)
    @rule(served=st.floats(0, 60))
    def server_exited(self, served):
        self.servers, self.now = 0, self.now + served
        self.absorb(self.made.server_exited(self.now, "how"))

    @precondition(lambda self: self.timer)
    @rule()
    def grace_over(self):
        self.timer = False
        self.absorb(self.made.grace_over())

    @live
    @rule()
    def cleanup(self):
        self.absorb(self.made.cleanup("asked"))

    @precondition(lambda self: self.made.ended)
    @rule(method=st.sampled_from(["attach", "grace_over", "shutdown"]))
    def after_the_end_nothing_is_possible(self, method):
        with pytest.raises(IllegalTransition):
            getattr(self.made, method)()

    @invariant()
    def the_timer_runs_exactly_while_the_client_is_away(self):
        assert self.timer == (not self.made.attached and not self.made.ended)

    @invariant()
    def there_is_a_server_exactly_where_the_state_says_so(self):
        assert bool(self.servers) == (self.made.state in UP)
        assert bool(self.coming) == (self.made.state in COMING)

    @invariant()
    def the_end_has_a_reason(self):
        assert bool(self.made.ending) == self.made.ended


Walk.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_any_history = Walk.TestCase
