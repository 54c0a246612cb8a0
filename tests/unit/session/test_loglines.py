"""Numbered lines: what is kept, what is sent again, and what is said of the rest."""

from __future__ import annotations

from typing import List, Union

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.util.client.session.loglines import PIECE_COST, Dropped, LogLines, Piece


def lines_of(kept: LogLines, have: int) -> List[Union[bytes, Dropped]]:
    """Everything that a client is sent that has what came up to ``have``."""
    sent: List[Union[bytes, Dropped]] = []
    while (piece := kept.after(have)) is not None:
        sent.append(piece.text if isinstance(piece, Piece) else piece)
        have = piece.number
    return sent


def test_pieces_come_in_their_order_and_with_their_stream() -> None:
    kept = LogLines(1)
    kept.add(False, b"a\nb\n", 2)
    kept.add(True, b"c\n", 1)
    first = kept.after(0)
    second = kept.after(first.number)
    assert (first.text, first.is_err, first.lines) == (b"a\nb\n", False, 2)
    assert (second.text, second.is_err, second.number) == (b"c\n", True, first.number + 1)
    assert kept.after(second.number) is None


def test_what_was_sent_is_sent_again_until_it_is_forgotten() -> None:
    kept = LogLines(1)
    for text in (b"a\n", b"b\n", b"c\n"):
        kept.add(False, text, 1)
    start = kept.last - 3
    assert lines_of(kept, start + 1) == lines_of(kept, start + 1) == [b"b\n", b"c\n"]
    kept.forget(start + 2)
    assert lines_of(kept, start) == [b"c\n"]
    assert len(kept) == 1


def test_forgetting_what_has_not_come_yet_forgets_what_has() -> None:
    kept = LogLines(1)
    kept.add(False, b"a\n", 1)
    kept.forget(kept.last + 100)
    kept.add(False, b"b\n", 1)
    assert lines_of(kept, 0) == [b"b\n"]


def test_too_many_lines_drop_the_oldest_and_say_how_many_once() -> None:
    kept = LogLines(1, max_lines=3)
    for n in range(5):
        kept.add(False, b"%d\n" % n, 1)
    notice = kept.after(0)
    assert notice == Dropped(kept.last - 3, 2)
    assert lines_of(kept, notice.number) == [b"2\n", b"3\n", b"4\n"]


def test_too_many_bytes_drop_the_oldest() -> None:
    kept = LogLines(1, max_bytes=2 * PIECE_COST + 8)
    for n in range(3):
        kept.add(False, b"%d\n" % n, 1)
    assert lines_of(kept, 0)[1:] == [b"1\n", b"2\n"]


def test_a_piece_beyond_all_bounds_is_kept_alone() -> None:
    kept = LogLines(1, max_lines=1, max_bytes=1)
    kept.add(False, b"small\n", 1)
    kept.add(False, b"x" * 1000 + b"\n" + b"y\n", 2)
    assert lines_of(kept, 0) == [Dropped(kept.last - 2, 1), b"x" * 1000 + b"\ny\n"]


def test_lines_dropped_after_they_were_forgotten_are_no_loss() -> None:
    kept = LogLines(1, max_lines=2)
    kept.add(False, b"a\n", 1)
    kept.forget(kept.last)
    for text in (b"b\n", b"c\n"):
        kept.add(False, text, 1)
    assert lines_of(kept, 0) == [b"b\n", b"c\n"]


def test_a_number_of_an_earlier_beginning_stands_before_everything() -> None:
    before, now = LogLines(1), LogLines(2)
    for _ in range(1000):
        before.add(False, b"old\n", 1)
    now.add(False, b"new\n", 1)
    assert lines_of(now, before.last) == [b"new\n"]
    now.forget(before.last)
    assert lines_of(now, before.last) == [b"new\n"]


def test_numbers_fit_into_the_wire_whatever_a_client_says() -> None:
    kept = LogLines(2**32)
    kept.add(False, b"a\n", 1)
    assert 0 < kept.last < 2**64


class Links(RuleBasedStateMachine):
    """Workers print while a client's link breaks and is mended, its answers delayed or lost."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = LogLines(3, max_lines=12, max_bytes=20 * PIECE_COST)
        self.printed = 0
        self.start = self.kept.last
        self.sent = self.start  # how far the proxier has written
        self.shown = self.start  # how far the client has shown
        self.on_the_way: List[Union[Piece, Dropped]] = []
        self.seen: List[int] = []
        self.said_lost: List[int] = []

    @rule(lines=st.integers(1, 5), is_err=st.booleans())
    def print_lines(self, lines: int, is_err: bool) -> None:
        first, self.printed = self.printed, self.printed + lines
        text = b"".join(b"%d\n" % n for n in range(first, self.printed))
        self.kept.add(is_err, text, lines)

    @rule()
    def send(self) -> None:
        piece = self.kept.after(self.sent)
        if piece is not None:
            self.on_the_way.append(piece)
            self.sent = piece.number

    @rule()
    def show(self) -> None:
        if not self.on_the_way:
            return
        piece = self.on_the_way.pop(0)
        if isinstance(piece, Piece):
            self.seen += [int(line) for line in piece.text.split()]
        else:
            last = piece.number - self.start
            self.said_lost += range(last - piece.lines, last)
        self.shown = piece.number

    @rule()
    def tell(self) -> None:
        self.kept.forget(self.shown)

    @rule()
    def cut(self) -> None:
        self.on_the_way.clear()
        self.sent = self.shown

    @invariant()
    def every_line_is_shown_or_said_to_be_lost_once_and_in_order(self) -> None:
        assert self.seen == sorted(set(self.seen))
        told = sorted(self.seen + self.said_lost)
        assert told == list(range(self.shown - self.start))

    @invariant()
    def the_bounds_hold(self) -> None:
        assert len(self.kept) <= 12

    def teardown(self) -> None:
        self.cut()
        while self.kept.after(self.sent) is not None:
            self.send()
            self.show()
        self.every_line_is_shown_or_said_to_be_lost_once_and_in_order()
        assert self.shown - self.start == self.printed


TestLinks = Links.TestCase
TestLinks.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
