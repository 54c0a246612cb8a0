"""Sequences of byte strings as one, so that any input is a sequence."""

from __future__ import annotations

from typing import Iterable, Iterator

LONGEST = 255


def split(data: bytes) -> Iterator[bytes]:
    """Yields the pieces of ``data``; the last one may be cut off."""
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        yield data[at + 1 : end]
        at = end


def join(pieces: Iterable[bytes]) -> bytes:
    """What :func:`split` takes apart; each piece has at most ``LONGEST`` bytes."""
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)
