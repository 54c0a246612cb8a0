"""What answers have handed out, and what the client says of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.util.client.server import handouts as module
from ray.util.client.server.handouts import Handouts


def test_what_was_never_handed_out_may_go():
    assert Handouts().let_go(b"a")


def test_what_is_on_its_way_stays_until_all_of_it_has_come():
    handouts = Handouts()
    number = handouts.hand([b"a", b"b"])
    assert handouts.hand([b"a"]) == number == handouts.number
    handouts.received(number, b"a", 1)
    assert not handouts.let_go(b"a") and not handouts.let_go(b"b")
    handouts.received(number, b"a", 1)
    assert handouts.let_go(b"a")


def test_receipts_of_another_stream_do_not_count():
    before = Handouts()
    handouts = before.succeed()
    handouts.hand([b"a"])
    handouts.received(before.number, b"a", 1)
    assert not handouts.let_go(b"a")


def test_more_receipts_than_hand_outs_are_no_credit():
    handouts = Handouts()
    handouts.received(handouts.number, b"a", 5)
    handouts.hand([b"a"])
    assert not handouts.let_go(b"a")


def confirm(handouts, req_id):
    handouts.answered(req_id)
    handouts.acknowledged(req_id)


def test_what_was_let_go_of_on_its_way_is_handed_out_by_the_next_stream_once():
    before = Handouts()
    before.hand([b"a", b"b"])
    confirm(before, 1)
    assert before.doubtful == []
    assert not before.let_go(b"a")
    after = before.succeed()
    assert after.take_doubtful() == [b"a"] and after.take_doubtful() == []
    assert not after.let_go(b"a")
    # It may get lost once more.
    assert after.doubtful == [b"a"]
    after.received(after.number, b"a", 1)
    assert after.let_go(b"a") and after.doubtful == []


def test_what_was_released_meanwhile_is_doubtful_no_more():
    before = Handouts()
    before.hand([b"a"])
    after = before.succeed()
    assert after.let_go(b"a")
    assert after.take_doubtful() == []


def test_an_answer_has_come_when_a_later_one_is_acknowledged():
    handouts = Handouts()
    for req_id in (5, 6, 7):
        handouts.hand([b"%d" % req_id])
        handouts.answered(req_id)
    handouts.hand([b"last"])
    handouts.acknowledged(4)
    assert handouts.doubtful == [b"5", b"6", b"7", b"last"]
    handouts.acknowledged(6)
    assert handouts.doubtful == [b"7", b"last"]


def test_answers_are_acknowledged_over_the_end_of_the_ids():
    handouts = Handouts()
    for req_id in (2**31 - 1, 1, 2):
        handouts.hand([b"%d" % req_id])
        handouts.answered(req_id)
    handouts.acknowledged(1)
    assert handouts.doubtful == [b"2"]


def test_what_the_client_says_to_have_got_is_not_doubtful():
    handouts = Handouts()
    handouts.hand([b"a"])
    handouts.received(handouts.number, b"a", 1)
    assert handouts.doubtful == []


@pytest.mark.parametrize("answers", [False, True])
def test_what_is_remembered_is_bounded(answers, monkeypatch):
    monkeypatch.setattr(module, "_MAX_NAMES", 10)
    handouts = Handouts()
    for number in range(1, 100):
        handouts.hand([b"%d" % number, b"%d+" % number])
        if answers:
            handouts.answered(number)
        assert len(handouts.doubtful) <= 10


def test_what_a_stream_does_after_its_end_is_doubtful_in_the_next_one():
    before = Handouts()
    before.hand([b"a"])
    confirm(before, 1)
    after = before.succeed()
    before.hand([b"b"])
    assert not before.let_go(b"a")
    assert after.take_doubtful() == [b"b", b"a"]


NAMES = st.sampled_from([b"a", b"b", b"c"])


class Conversation(RuleBasedStateMachine):
    """A client that gets answers in their order, or loses them with their stream, and a server that
    keeps what is handed out.

    Whatever the client holds must be kept, and in the end nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: set = set()
        self.handouts = Handouts()
        self.req_id = self.acknowledged = 0
        # Both ways are in order: (number of the hand-outs, names) or a request's id;
        # (name, number, times) or an acknowledged id.
        self.answers: list = []
        self.releases: list = []
        self.held: dict = {}
        self.received: dict = {}
        self.number = 0

    @rule(names=st.sets(NAMES, min_size=1))
    def answer_to_a_get(self, names: set) -> None:
        self.kept |= names
        self.answers.append((self.handouts.hand(sorted(names)), sorted(names)))

    @rule()
    def answer_that_is_acknowledged(self) -> None:
        self.req_id += 1
        self.handouts.answered(self.req_id)
        self.answers.append(self.req_id)

    def take(self, number: int, names: list) -> None:
        if number != self.number:
            self.number, self.received = number, {}
        for name in names:
            self.held[name] = self.held.get(name, 0) + 1
            self.received[name] = self.received.get(name, 0) + 1

    @rule()
    def an_answer_comes(self) -> None:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, int):
                self.releases.append(answer)
            else:
                self.take(*answer)

    @rule(name=NAMES)
    def client_drops(self, name: bytes) -> None:
        if name in self.held:
            self.held[name] -= 1
            if not self.held[name]:
                del self.held[name]
                self.releases.append((name, self.number, self.received.pop(name, 0)))

    @rule()
    def a_release_comes(self) -> None:
        if self.releases and isinstance(self.releases[0], int):
            self.handouts.acknowledged(self.releases.pop(0))
        elif self.releases:
            name, number, times = self.releases.pop(0)
            self.handouts.received(number, name, times)
            if self.handouts.let_go(name):
                self.kept.discard(name)

    @rule()
    def the_stream_breaks(self) -> None:
        # Releases are sent again; answers are lost.
        self.answers.clear()
        self.releases = [each for each in self.releases if not isinstance(each, int)]
        self.handouts = self.handouts.succeed()
        doubtful = self.handouts.take_doubtful()
        if doubtful:
            self.answers.append((self.handouts.number, doubtful))

    @invariant()
    def what_is_held_is_kept(self) -> None:
        assert self.kept >= set(self.held)

    def teardown(self) -> None:
        while self.answers:
            self.an_answer_comes()
        for name in list(self.held):
            while name in self.held:
                self.client_drops(name)
        while self.releases:
            self.a_release_comes()
        assert not self.kept


Conversation.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestConversation = Conversation.TestCase
