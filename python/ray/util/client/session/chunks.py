"""Cutting serialised objects into chunks, and putting chunks together again."""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Optional

from ray.util.client.session.errors import ProtocolError


class Chunk(NamedTuple):
    """Piece ``number`` (from 0) ``of`` so many: bytes ``start`` to ``end`` (exclusive)."""

    number: int
    of: int
    start: int
    end: int


def cut(total_size: int, chunk_size: int, first: int = 0) -> Iterator[Chunk]:
    """Yields the chunks of an object.

    Args:
        total_size: of the object, in bytes, at least 1.
        chunk_size: of each chunk but the last, in bytes.
        first: index of the first chunk wanted, for a transfer that goes on.
    """
    count = -(-total_size // chunk_size)
    for index in range(first, count):
        start = index * chunk_size
        yield Chunk(index, count, start, min(total_size, start + chunk_size))


class ChunkAssembly:
    """Puts together the chunked requests of one stream, one request after another.

    A sender begins at chunk 0 and may repeat chunks that arrived; it may not skip one, nor begin
    a request before the one under way is complete. Not thread-safe.

    Args:
        kind: what is being transferred, for error texts.
    """

    __slots__ = ("_abandoned", "_count", "_kind", "_parts", "_req_id")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._parts: List[bytes] = []
        self._req_id: Optional[int] = None
        self._abandoned: Optional[int] = None
        self._count = 0

    def add(self, req_id: int, index: int, count: int, data: bytes) -> Optional[bytes]:
        """Takes one chunk.

        Args:
            req_id: of the request that the chunk belongs to.
            index: of the chunk, from 0.
            count: chunks of the request; 0 stands for 1, as from senders that don't cut.
            data: the chunk's bytes.

        Returns:
            The whole object if this was its last chunk, else None.

        Raises:
            ProtocolError: a chunk is missing, belongs to another request, or contradicts an
                earlier one. The assembly is as it was before the call.
            MemoryError: there is no room for the whole; :meth:`abandon` is to follow.
        """
        count = count or 1
        if req_id == self._abandoned and index:
            return None
        self._check(req_id, index, count)
        if index < len(self._parts):
            return None
        if count == 1:
            return data
        self._req_id, self._count, self._abandoned = req_id, count, None
        self._parts.append(data)
        if index + 1 < count:
            return None
        whole = b"".join(self._parts)
        self._parts, self._req_id = [], None
        return whole

    def abandon(self, req_id: int) -> None:
        """Forgets what has come of a request, and passes over what still comes of it."""
        self._parts, self._req_id, self._abandoned = [], None, req_id

    def _check(self, req_id: int, index: int, count: int) -> None:
        if self._req_id is not None and req_id != self._req_id:
            raise ProtocolError(
                f"A chunk of {self._kind} {req_id} was received while {self._kind} {self._req_id} "
                "was not complete."
            )
        if self._req_id is not None and count != self._count:
            raise ProtocolError(
                f"A chunk of {self._kind} {req_id} says that there are {count} chunks, an earlier "
                f"one said {self._count}."
            )
        if index > len(self._parts):
            raise ProtocolError(
                f"A chunk {index} of {self._kind} {req_id} was received out of order: "
                f"{len(self._parts)} was due."
            )
        if not 0 <= index < count:
            raise ProtocolError(f"{self._kind} {req_id} has no chunk {index}: it has {count}.")
