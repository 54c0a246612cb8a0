"""The journal: what becomes of each thing that a client holds when the session's server dies."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.util.client.session.journal import (
    Ask,
    Entry,
    Journal,
    Kind,
    LookUp,
    Lost,
    PutValue,
    Reason,
    Recorded,
    Resend,
    Seen,
)


def journal(**bounds):
    return Journal(**{"max_bytes": 1000, "max_entries": 100, "max_value_bytes": 100, **bounds})


def add(journal, kind, name, *needs, retries=0, size=1):
    entry = Entry(kind, (name,), f"message of {name!r}", size, tuple(needs), retries)
    journal.record(entry)
    return entry


def resent(actions):
    assert all(isinstance(action, Resend) for action in actions), actions
    return [action.entry.names[0] for action in actions]


# -- what is held, and for how long


def test_an_entry_lives_as_long_as_its_name_is_held():
    j = journal()
    entry = add(j, Kind.TASK, b"t", size=7)
    assert (j.entries, j.bytes, j.knows(entry)) == (1, 7, True)
    j.drop(b"t")
    assert (j.entries, j.bytes, j.knows(entry), entry.message) == (0, 0, False, None)
    j.drop(b"t")
    assert j.entries == 0


def test_an_entry_lives_as_long_as_another_needs_it():
    j = journal()
    for name, needs in [(b"a", ()), (b"b", (b"a",)), (b"c", (b"b", b"a"))]:
        add(j, Kind.TASK, name, *needs)
    j.drop(b"a")
    j.drop(b"b")
    assert j.entries == 3
    j.drop(b"c")
    assert j.entries == j.bytes == 0


def test_a_long_lineage_is_forgotten_and_restored_without_recursion():
    j = journal(max_bytes=10**6, max_entries=10**6)
    names = [n.to_bytes(4, "big") for n in range(20_000)]
    for name, needed in zip(names, [None, *names]):
        add(j, Kind.TASK, name, *([needed] if needed else []), retries=-1)
        j.finished(name)
    for name in names[:-1]:
        j.drop(name)
    j.new_incarnation(2)
    assert resent(j.require([names[-1]])) == names
    j.drop(names[-1])
    assert j.entries == 0


def test_what_was_restored_for_others_is_released_with_them():
    j = journal()
    add(j, Kind.TASK, b"a", retries=-1)
    add(j, Kind.TASK, b"b", b"a", retries=-1)
    j.drop(b"a")
    j.new_incarnation(2)
    j.drop(b"b")
    assert j.take_unneeded() == [b"a"] and j.take_unneeded() == []


def test_one_of_several_names_keeps_the_entry():
    j = journal()
    j.record(Entry(Kind.TASK, (b"x", b"y"), "m", 1))
    j.drop(b"x")
    assert j.entries == 1
    j.adopt(b"x")
    j.drop(b"y")
    assert j.entries == 1
    j.drop(b"x")
    assert j.entries == 0


def test_what_does_not_fit_is_not_kept_and_lost_with_the_server():
    j = journal(max_bytes=10)
    assert j.record(Entry(Kind.PUT, (b"a",), "m", 7)) is Recorded.KEPT
    assert j.record(Entry(Kind.PUT, (b"b",), "m", 2)) is Recorded.NEARLY_FULL
    assert j.record(Entry(Kind.PUT, (b"c",), "m", 1)) is Recorded.KEPT
    assert j.record(Entry(Kind.PUT, (b"d",), "m", 1)) is Recorded.NOT_KEPT
    assert j.outcome(b"d") is Ask.SERVER
    j.new_incarnation(2)
    assert j.outcome(b"d") == Lost(Reason.NOT_KEPT)
    assert resent(j.require([b"a", b"d"])) == [b"a"]


def test_entries_are_bounded_too():
    j = journal(max_entries=1)
    add(j, Kind.PUT, b"a")
    assert j.record(Entry(Kind.PUT, (b"b",), "m", 1)) is Recorded.NOT_KEPT


def test_seen_values_are_bounded_and_the_oldest_go():
    j = journal(max_value_bytes=10)
    for name in (b"a", b"b", b"c"):
        add(j, Kind.TASK, name)
        j.seen(name, name, 5)
    assert [j.outcome(n) for n in (b"a", b"b", b"c")] == [Ask.SERVER, Seen(b"b"), Seen(b"c")]
    j.seen(b"a", "large", 11)
    assert j.value_bytes == 10
    j.drop(b"b")
    j.drop(b"c")
    assert j.value_bytes == 0


# -- the contract's table


@pytest.mark.parametrize("kind", [Kind.PAYLOAD, Kind.PUT])
def test_puts_and_functions_are_restored_when_they_are_needed(kind):
    j = journal()
    add(j, kind, b"p")
    assert j.new_incarnation(2) == []
    assert resent(j.require([b"p"])) == [b"p"]
    assert j.require([b"p"]) == []
    assert (j.restored, j.resubmitted) == (1, 0)


def test_a_put_that_somebody_waits_for_is_made_again_at_once():
    j = journal()
    entry = add(j, Kind.PUT, b"p")
    assert resent(j.new_incarnation(2, {entry})) == [b"p"]


def test_a_pending_task_is_submitted_again_and_uses_up_a_retry():
    j = journal()
    entry = add(j, Kind.TASK, b"t", retries=2)
    for incarnation, left in [(2, 1), (3, 0)]:
        assert j.new_incarnation(incarnation) == [Resend(entry)]
        assert entry.retries == left
    assert j.new_incarnation(4) == []
    assert j.outcome(b"t") == Lost(Reason.NO_RETRY)
    assert [e for e, _ in j.take_lost()] == [entry] and j.take_lost() == []


def test_without_limit_there_is_always_one_more():
    j = journal()
    entry = add(j, Kind.TASK, b"t", retries=-1)
    for incarnation in range(2, 50):
        assert j.new_incarnation(incarnation) == [Resend(entry)]


def test_what_no_server_was_given_costs_nothing():
    j = journal()
    entry = add(j, Kind.TASK, b"t", retries=0)
    assert j.new_incarnation(2, {entry}, {entry}) == [Resend(entry)]
    assert entry.retries == 0


def test_a_finished_task_is_run_again_only_when_it_is_needed():
    j = journal()
    entry = add(j, Kind.TASK, b"t", retries=1)
    j.finished(b"t")
    assert j.new_incarnation(2) == [] and entry.retries == 1
    assert resent(j.require([b"t"])) == [b"t"] and entry.retries == 0
    assert j.new_incarnation(3) == [] and j.require([b"t"]) == []
    assert j.outcome(b"t") == Lost(Reason.NO_RETRY)


def test_a_seen_value_is_put_and_never_run_again():
    j = journal()
    add(j, Kind.TASK, b"t", retries=-1)
    j.seen(b"t", "value", 5)
    add(j, Kind.TASK, b"user", b"t", retries=-1)
    actions = j.new_incarnation(2)
    assert actions[0] == PutValue(b"t", "value")
    assert resent(actions[1:]) == [b"user"]
    assert j.outcome(b"t") == Seen("value")


def test_actors_are_created_again_while_they_may():
    j = journal()
    entry = add(j, Kind.ACTOR, b"a", retries=1)
    assert j.new_incarnation(2) == [Resend(entry)]
    assert j.new_incarnation(3) == []
    assert j.outcome(b"a") == Lost(Reason.ACTOR_DIED)


@pytest.mark.parametrize("kind", [Kind.DETACHED, Kind.NAMED])
def test_actors_that_live_by_themselves_are_looked_up(kind):
    j = journal()
    entry = add(j, kind, b"a")
    for incarnation in (2, 3):
        assert j.new_incarnation(incarnation) == []
        assert j.require([b"a"]) == [LookUp(entry)]


def test_a_detached_actor_that_no_server_was_asked_for_is_created():
    j = journal()
    entry = add(j, Kind.DETACHED, b"a")
    assert j.new_incarnation(2, {entry}, {entry}) == [Resend(entry)]


def test_a_detached_actor_is_not_created_twice_though_a_server_was_not_given_it_again():
    j = journal()
    entry = add(j, Kind.DETACHED, b"a")
    j.new_incarnation(2)
    assert j.require([b"a"]) == [LookUp(entry)]
    assert j.new_incarnation(3, {entry}, {entry}) == [LookUp(entry)]


def test_a_detached_actor_that_never_started_is_created_with_what_it_needs():
    j = journal()
    argument, entry = add(j, Kind.PUT, b"p"), add(j, Kind.DETACHED, b"a", b"p")
    for incarnation in (2, 4):
        j.new_incarnation(incarnation)
        assert j.require([b"a"])[-1] == LookUp(entry)
        assert j.unstarted(entry) == [Resend(entry)]
        assert entry.incarnation == incarnation and argument.incarnation == incarnation
        # No server was given it, so it need not be looked for.
        actions = j.new_incarnation(incarnation + 1, {entry}, {entry})
        assert actions == [Resend(argument), Resend(entry)]
    j.drop(b"p")
    j.drop(b"a")
    assert j.entries == 0


def test_a_detached_actor_that_can_not_be_created_is_lost():
    j = journal()
    add(j, Kind.TASK, b"t", retries=1)
    entry = add(j, Kind.DETACHED, b"a", b"t")
    j.new_incarnation(2)
    j.require([b"a"])
    j.new_incarnation(3)
    assert j.require([b"a"]) in ([], [LookUp(entry)])
    assert j.unstarted(entry) == []
    assert j.outcome(b"a") == Lost(Reason.NO_RETRY)


def test_what_was_killed_before_it_started_stays_so():
    j = journal()
    entry = add(j, Kind.DETACHED, b"a")
    j.new_incarnation(2)
    j.require([b"a"])
    j.forbid(b"a")
    assert j.unstarted(entry) == []
    j.drop(b"a")
    assert j.unstarted(entry) == []


def test_an_actor_whose_value_was_seen_has_started():
    j = journal()
    actor, call = add(j, Kind.DETACHED, b"a"), add(j, Kind.CALL, b"c", b"a")
    add(j, Kind.TASK, b"t", b"a")
    j.seen(b"t", "value", 5)
    # A call that was cancelled, or whose argument failed, is finished too.
    j.finished(b"c")
    j.seen(b"c", "error", 5, failed=True)
    assert not actor.started and call.finished
    j.seen(b"c", "value", 5)
    assert actor.started


def test_what_was_ended_is_not_run_again_though_a_server_was_not_given_it_again():
    j = journal()
    entry = add(j, Kind.TASK, b"t", retries=-1)
    assert j.new_incarnation(2) == [Resend(entry)]
    j.forbid(b"t")
    assert j.new_incarnation(3, {entry}, {entry}) == []
    assert j.outcome(b"t") == Lost(Reason.CANCELLED)


def test_what_was_ended_and_no_server_was_ever_given_is_sent_with_its_end():
    j = journal()
    entry = add(j, Kind.TASK, b"t")
    j.forbid(b"t")
    assert j.new_incarnation(2, {entry}, {entry}) == [Resend(entry)]


@pytest.mark.parametrize(
    "restarts, retries, reason",
    [(1, 0, Reason.ACTOR_UNAVAILABLE), (0, 0, Reason.ACTOR_DIED), (0, -1, Reason.ACTOR_DIED)],
)
def test_calls_that_can_not_be_repeated(restarts, retries, reason):
    j = journal()
    add(j, Kind.ACTOR, b"a", retries=restarts)
    add(j, Kind.CALL, b"c", b"a", retries=retries)
    j.new_incarnation(2)
    assert j.outcome(b"c") == Lost(reason)


def test_calls_that_may_be_repeated_follow_their_actor():
    j = journal()
    add(j, Kind.ACTOR, b"a", retries=1)
    add(j, Kind.CALL, b"c", b"a", retries=1)
    assert resent(j.new_incarnation(2)) == [b"a", b"c"]


def test_what_needs_something_lost_is_lost_for_the_same_reason():
    j = journal()
    add(j, Kind.TASK, b"a", retries=0)
    add(j, Kind.TASK, b"b", b"a", retries=-1)
    add(j, Kind.TASK, b"c", b"b", retries=-1)
    assert j.new_incarnation(2) == []
    assert j.outcome(b"c") == Lost(Reason.NO_RETRY)
    assert j.lost == {Reason.NO_RETRY: 3}


def test_what_came_out_of_the_cluster_is_lost_with_its_server():
    j = journal()
    j.adopt(b"n")
    add(j, Kind.TASK, b"t", b"n", retries=-1)
    assert j.outcome(b"n") is Ask.SERVER
    j.new_incarnation(2)
    assert j.outcome(b"n") == j.outcome(b"t") == Lost(Reason.ADOPTED)
    j.adopt(b"m")
    assert j.outcome(b"m") is Ask.SERVER


def test_order_is_that_of_the_submission():
    j = journal()
    names = [bytes([n]) for n in range(20)]
    for name in names:
        add(j, Kind.TASK, name, retries=1)
    assert resent(j.new_incarnation(2)) == names


def test_what_was_ended_by_the_user_does_not_come_back():
    j = journal()
    add(j, Kind.ACTOR, b"a", retries=-1)
    j.forbid(b"a")
    j.forbid(b"unknown")
    assert j.new_incarnation(2) == []
    assert j.outcome(b"a") == Lost(Reason.ACTOR_DIED)


def test_without_replay_only_functions_come_back():
    j = journal(replays=False)
    add(j, Kind.PAYLOAD, b"f")
    add(j, Kind.PUT, b"p")
    add(j, Kind.TASK, b"t", b"f", retries=-1)
    j.seen(b"t", "value", 5)
    assert j.bytes == 1
    assert j.new_incarnation(2) == []
    assert j.outcome(b"p") == j.outcome(b"t") == Lost(Reason.SWITCHED_OFF)
    assert resent(j.require([b"f"])) == [b"f"]


class Life(RuleBasedStateMachine):
    """Walks a journal through everything: nothing is run too often, nothing is left at the end."""

    def __init__(self):
        super().__init__()
        self.journal = journal(max_bytes=60, max_entries=40, max_value_bytes=20)
        self.incarnation, self.made = 1, 0
        self.entries, self.held, self.runs, self.present = {}, set(), {}, set()

    @rule(
        kind=st.sampled_from([Kind.PUT, Kind.TASK, Kind.ACTOR, Kind.NAMED]),
        retries=st.sampled_from([0, 1, 2]),
        size=st.integers(0, 9),
        data=st.data(),
    )
    def submit(self, kind, retries, size, data):
        known = st.sampled_from(sorted(self.held)) if self.held else st.nothing()
        needs = tuple(data.draw(st.sets(known, max_size=2)) if self.held else ())
        self.made += 1
        name = self.made.to_bytes(2, "big")
        if kind is not Kind.TASK:
            needs = ()
        self.carry_out(self.journal.require(needs))
        entry = Entry(kind, (name,), "message", size, needs, retries)
        self.journal.record(entry)
        self.entries[name] = (entry, retries)
        self.held.add(name)
        self.runs[name] = 1
        self.present.add(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seen=st.booleans(), size=st.integers(0, 9))
    def learn(self, data, seen, size):
        name = data.draw(st.sampled_from(sorted(self.held)))
        if isinstance(self.journal.outcome(name), Lost):
            return
        if seen:
            self.journal.seen(name, name, size)
        else:
            self.journal.finished(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.held.discard(name)
        self.journal.drop(name)

    @rule()
    def die(self):
        self.incarnation += 1
        self.present = set()
        self.carry_out(self.journal.new_incarnation(self.incarnation))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def need(self, data):
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.carry_out(self.journal.require([name]))
        lost = isinstance(self.journal.outcome(name), Lost)
        assert lost or name in self.present

    def carry_out(self, actions):
        for action in actions:
            if isinstance(action, PutValue):
                self.present.add(action.name)
                continue
            entry = action.entry
            name = entry.names[0]
            assert entry.message == "message" and name not in self.present
            assert all(need in self.present for need in entry.needs), "its needs come first"
            self.present.add(name)
            if entry.kind in (Kind.TASK, Kind.ACTOR):
                self.runs[name] += 1
                assert self.runs[name] <= 1 + self.entries[name][1], "run too often"

    @invariant()
    def bounded(self):
        assert 0 <= self.journal.bytes <= 60 and 0 <= self.journal.value_bytes <= 20

    def teardown(self):
        for name in self.held:
            self.journal.drop(name)
        assert (self.journal.entries, self.journal.bytes, self.journal.value_bytes) == (0, 0, 0)


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


# -- what came inside values


def whole_with_parts(*parts, retries=-1):
    j = journal()
    add(j, Kind.TASK, b"whole", retries=retries)
    for part in parts:
        j.adopt(part)
    j.contains(b"whole", parts)
    return j


def test_a_part_is_picked_out_of_the_value_that_is_made_again():
    j = whole_with_parts(b"p0", b"p1")
    j.finished(b"whole")
    j.drop(b"whole")
    assert j.new_incarnation(2) == []
    assert resent(j.require([b"p1"])) == [b"whole", b"p1"]
    (pick,) = j.require([b"p0"])
    assert (pick.entry.kind, pick.entry.message, pick.entry.needs) == (Kind.PART, 0, (b"whole",))
    j.drop(b"p0")
    j.drop(b"p1")
    assert j.entries == 0


def test_a_part_is_lost_with_what_it_came_in():
    j = whole_with_parts(b"part", retries=0)
    j.new_incarnation(2)
    assert j.require([b"part"]) == []
    assert j.outcome(b"part") == Lost(Reason.NO_RETRY)


def test_a_part_that_was_seen_is_put():
    j = whole_with_parts(b"part", retries=0)
    j.finished(b"whole")
    j.seen(b"part", "value", 5)
    j.new_incarnation(2)
    assert j.require([b"part"]) == [PutValue(b"part", "value")]


def test_a_part_of_a_part():
    j = whole_with_parts(b"part")
    j.finished(b"whole")
    j.adopt(b"inner")
    j.contains(b"part", [b"inner"])
    j.drop(b"part")
    j.drop(b"whole")
    j.new_incarnation(2)
    assert resent(j.require([b"inner"])) == [b"whole", b"part", b"inner"]


def test_what_the_program_made_itself_is_no_part():
    j = journal()
    add(j, Kind.PUT, b"mine")
    add(j, Kind.TASK, b"whole", b"mine", retries=-1)
    j.adopt(b"mine")
    j.contains(b"whole", [b"mine"])
    j.finished(b"whole")
    j.new_incarnation(2)
    assert resent(j.require([b"mine"])) == [b"mine"]


def test_what_came_out_of_something_that_needs_it_is_lost():
    j = journal()
    j.adopt(b"found")
    add(j, Kind.TASK, b"user", b"found", retries=-1)
    j.contains(b"user", [b"found"])
    j.finished(b"user")
    j.new_incarnation(2)
    assert j.require([b"user"]) == []
    assert isinstance(j.outcome(b"user"), Lost) and isinstance(j.outcome(b"found"), Lost)


def test_a_handle_from_a_value_is_found_again():
    j = journal()
    j.adopt(b"actor")
    j.adopt_handle(b"actor", "finds it", 9)
    add(j, Kind.CALL, b"call", b"actor", retries=-1)
    assert j.bytes == 10
    assert resent(j.new_incarnation(2)) == [b"actor", b"call"]


def test_a_value_that_refers_to_others_is_read_while_its_name_is_held():
    j = whole_with_parts(b"part")
    j.seen(b"whole", "refers", 6, restorable=False)
    j.new_incarnation(2)
    assert j.outcome(b"whole") == Seen("refers")
    assert resent(j.require([b"whole"])) == [b"whole"], "it can't be put"
    j.drop(b"whole")
    assert j.value_bytes == 0
    j.seen(b"whole", "refers", 6, restorable=False)
    assert j.value_bytes == 0, "nobody could read it"


def test_what_was_seen_of_several_returns_stays():
    j = journal()
    entry = Entry(Kind.TASK, (b"x", b"y"), "m", 1, retries=-1)
    j.record(entry)
    j.seen(b"x", "first x", 1)
    assert j.new_incarnation(2) == [PutValue(b"x", "first x"), Resend(entry, (b"x",))]
    assert j.outcome(b"x") == Seen("first x")


def test_what_was_seen_of_several_returns_stays_when_the_rest_is_lost():
    j = journal()
    j.record(Entry(Kind.TASK, (b"x", b"y"), "m", 1))
    j.seen(b"x", "first x", 1)
    user = add(j, Kind.TASK, b"user", b"x", retries=-1)
    assert j.new_incarnation(2) == [PutValue(b"x", "first x"), Resend(user)]
    assert j.outcome(b"y") == Lost(Reason.NO_RETRY)
    assert j.require([b"x", b"y"]) == []


def test_a_part_of_a_value_that_can_only_be_read_is_lost_with_it():
    j = whole_with_parts(b"part", retries=0)
    j.seen(b"whole", "refers", 6, restorable=False)
    j.new_incarnation(2)
    assert j.require([b"part"]) == []
    assert j.outcome(b"part") == Lost(Reason.NO_RETRY) and j.outcome(b"whole") == Seen("refers")


# -- beyond the bound of memory


def test_what_does_not_fit_may_go_elsewhere():
    j = journal(max_bytes=10, spills=True)
    assert j.record(Entry(Kind.PUT, (b"a",), "m", 7)) is Recorded.KEPT
    large = Entry(Kind.PUT, (b"b",), "m", 700)
    assert j.record(large) is Recorded.SPILLED
    assert (j.bytes, j.spilled_bytes) == (7, 700)
    j.new_incarnation(2)
    assert resent(j.require([b"b"])) == [b"b"]
    j.drop(b"b")
    assert (j.bytes, j.spilled_bytes, large.message) == (7, 0, None)


def test_what_could_not_go_elsewhere_is_lost_with_the_server():
    j = journal(max_bytes=10, spills=True)
    entry = add(j, Kind.PUT, b"a", size=11)
    j.discard(entry)
    assert j.spilled_bytes == 0 and j.outcome(b"a") is Ask.SERVER
    j.new_incarnation(2)
    assert j.outcome(b"a") == Lost(Reason.NOT_KEPT)


def test_what_can_not_be_had_again_from_elsewhere_is_lost():
    j = journal(max_bytes=10, spills=True)
    entry = add(j, Kind.PUT, b"a", size=11)
    j.new_incarnation(2)
    j.give_up(entry)
    assert j.outcome(b"a") == Lost(Reason.NOT_KEPT) and j.spilled_bytes == 0


def test_entries_are_bounded_wherever_they_are():
    j = journal(max_bytes=10, max_entries=1, spills=True)
    assert j.record(Entry(Kind.PUT, (b"a",), "m", 11)) is Recorded.SPILLED
    assert j.record(Entry(Kind.PUT, (b"b",), "m", 11)) is Recorded.NOT_KEPT


def test_what_was_put_of_a_lost_task_for_another_s_sake_is_released_with_that():
    j = journal()
    lost = Entry(Kind.TASK, (b"x", b"y"), "message", 1)
    j.record(lost)
    j.seen(b"x", "value", 5)
    add(j, Kind.TASK, b"t", b"x", retries=1)
    j.drop(b"x")
    j.drop(b"y")
    assert [action for action in j.new_incarnation(2) if isinstance(action, PutValue)] == [
        PutValue(b"x", "value")
    ]
    assert lost.lost == Lost(Reason.NO_RETRY)
    j.drop(b"t")
    assert b"x" in j.take_unneeded()
    assert j.entries == 0
