"""What a session's workers have printed and its client may not have shown yet, numbered by lines.

A number says how many lines there were, so two of them tell how many are missing in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Deque, NamedTuple, Optional, Union

# What may wait for one client. A piece costs its text and what Python needs to keep it.
MAX_LINES = 200_000
MAX_BYTES = 16 * 1024 * 1024
PIECE_COST = 200

# Each time that a session is begun it numbers its lines in another range, so that a number told
# before means nothing afterwards. All ranges fit into the 64 bits of the field.
_RANGE = 1 << 40
_RANGES = 1 << 23


class Piece(NamedTuple):
    """Some whole lines that one process wrote to one of its streams.

    Attributes:
        number: of its last line, among the session's.
        is_err: whether they were written to standard error.
        text: as shown to people, in UTF-8, each line with its end.
        lines: how many they are.
    """

    number: int
    is_err: bool
    text: bytes
    lines: int


class Dropped(NamedTuple):
    """Lines that are not kept any more. ``number``: of the last of them; ``lines``: how many."""

    number: int
    lines: int


class LogLines:
    """Keeps pieces until they are forgotten, or too many: then the oldest go. Not thread-safe.

    Args:
        beginning: grows each time that the session is begun.
        max_lines: how many lines are kept at most.
        max_bytes: how many bytes they may cost. The newest piece is kept, whatever it costs.
    """

    def __init__(
        self, beginning: int, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._last = self._forgotten = beginning % _RANGES * _RANGE
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._pieces: Deque[Piece] = deque()
        self._lines = self._cost = 0

    def __len__(self) -> int:
        """How many pieces are kept."""
        return len(self._pieces)

    @property
    def last(self) -> int:
        """The number of the newest line."""
        return self._last

    def add(self, is_err: bool, text: bytes, lines: int) -> None:
        """Takes a piece of at least one line."""
        self._last += lines
        self._pieces.append(Piece(self._last, is_err, text, lines))
        self._lines += lines
        self._cost += len(text) + PIECE_COST
        while len(self._pieces) > 1 and (
            self._lines > self._max_lines or self._cost > self._max_bytes
        ):
            self._drop()

    def forget(self, number: int) -> None:
        """Nobody will ask again for what came up to the line ``number``."""
        self._forgotten = max(self._forgotten, min(number, self._last))
        while self._pieces and self._pieces[0].number <= self._forgotten:
            self._drop()

    def after(self, number: int) -> Optional[Union[Piece, Dropped]]:
        """What to send to a client that has everything up to the line ``number``; None: nothing.

        What is sent moves the client on to the number that it carries.
        """
        have = max(number, self._forgotten)
        at = bisect_right(self._pieces, have, key=_number)
        if at == len(self._pieces):
            return None
        piece = self._pieces[at]
        missing = piece.number - piece.lines - have
        return Dropped(have + missing, missing) if missing > 0 else piece

    def _drop(self) -> None:
        piece = self._pieces.popleft()
        self._lines -= piece.lines
        self._cost -= len(piece.text) + PIECE_COST


def _number(piece: Piece) -> int:
    return piece.number
