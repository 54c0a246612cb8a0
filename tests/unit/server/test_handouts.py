"""What answers have handed out, and what the client says of it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.util.client.server.handouts import _MAX_ANSWERS, Handouts


def test_what_was_never_handed_out_may_go():
    assert Handouts().let_go(b"a")


def test_what_is_on_its_way_stays_until_all_of_it_has_come():
    handouts = Handouts()
    number = handouts.hand(1, [b"a", b"b"])
    assert handouts.hand(2, [b"a"]) == number == handouts.number
    handouts.received(number, b"a", 1)
    assert not handouts.let_go(b"a") and not handouts.let_go(b"b")
    handouts.received(number, b"a", 1)
    assert handouts.let_go(b"a")


def test_receipts_of_another_stream_do_not_count():
    before, handouts = Handouts(), Handouts()
    handouts.hand(1, [b"a"])
    handouts.received(before.number, b"a", 1)
    assert not handouts.let_go(b"a")


def test_more_receipts_than_hand_outs_are_no_credit():
    handouts = Handouts()
    handouts.received(handouts.number, b"a", 5)
    handouts.hand(1, [b"a"])
    assert not handouts.let_go(b"a")


def test_what_was_let_go_of_on_its_way_is_handed_out_by_the_next_stream_once():
    before = Handouts()
    before.hand(1, [b"a", b"b"])
    before.acknowledged(1)
    assert before.doubtful == []
    assert not before.let_go(b"a")
    after = Handouts(before.doubtful)
    assert after.take_doubtful() == [b"a"] and after.take_doubtful() == []
    assert not after.let_go(b"a")
    # It may get lost once more.
    assert after.doubtful == [b"a"]
    after.received(after.number, b"a", 1)
    assert after.let_go(b"a") and after.doubtful == []


def test_what_was_released_meanwhile_is_doubtful_no_more():
    handouts = Handouts([b"a"])
    assert handouts.let_go(b"a")
    assert handouts.take_doubtful() == []


def test_answers_that_are_not_acknowledged_may_be_lost_with_the_stream():
    handouts = Handouts()
    for req_id in (5, 6, 7):
        handouts.hand(req_id, [b"%d" % req_id])
    handouts.acknowledged(5)
    assert handouts.doubtful == [b"6", b"7"]


def test_answers_are_acknowledged_over_the_end_of_the_ids():
    handouts = Handouts()
    for req_id in (2**31 - 1, 1, 2):
        handouts.hand(req_id, [b"%d" % req_id])
    handouts.acknowledged(1)
    assert handouts.doubtful == [b"2"]


def test_an_unwanted_answer_may_be_lost_though_later_ones_are_acknowledged():
    handouts = Handouts()
    handouts.hand(5, [b"a"])
    handouts.hand(6, [b"b"])
    handouts.withdrawn(5)
    handouts.acknowledged(6)
    assert handouts.doubtful == [b"a"]


def test_what_is_remembered_is_bounded():
    handouts = Handouts()
    for req_id in range(1, _MAX_ANSWERS + 10):
        handouts.hand(req_id, [b"%d" % req_id])
    assert len(handouts.doubtful) == _MAX_ANSWERS


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
        self.req_id = 0
        # Both ways are in order: (number of the hand-outs, names); (name, number, times).
        self.answers: list = []
        self.releases: list = []
        self.held: dict = {}
        self.received: dict = {}
        self.number = 0

    @rule(names=st.sets(NAMES, min_size=1))
    def answer(self, names: set) -> None:
        self.req_id += 1
        self.kept |= names
        self.answers.append((self.handouts.hand(self.req_id, sorted(names)), sorted(names)))

    def take(self, number: int, names: list) -> None:
        if number != self.number:
            self.number, self.received = number, {}
        for name in names:
            self.held[name] = self.held.get(name, 0) + 1
            self.received[name] = self.received.get(name, 0) + 1

    @rule()
    def an_answer_comes(self) -> None:
        if self.answers:
            self.take(*self.answers.pop(0))

    @rule(name=NAMES)
    def client_drops(self, name: bytes) -> None:
        if name in self.held:
            self.held[name] -= 1
            if not self.held[name]:
                del self.held[name]
                self.releases.append((name, self.number, self.received.pop(name, 0)))

    @rule()
    def a_release_comes(self) -> None:
        if self.releases:
            name, number, times = self.releases.pop(0)
            self.handouts.received(number, name, times)
            if self.handouts.let_go(name):
                self.kept.discard(name)

    @rule()
    def the_stream_breaks(self) -> None:
        # Releases are sent again; answers are lost.
        self.answers.clear()
        self.handouts = Handouts(self.handouts.doubtful)
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
