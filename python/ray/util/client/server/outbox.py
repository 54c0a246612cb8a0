"""Gathers a data stream's responses: those that are ready together go in one message."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List

from ray.util.client import protocol

_MAX_RESPONSES = 128
# A larger response goes alone; a message of many of them is about as large.
_SMALL_BYTES = 16 * 2**10
_MAX_BYTES = 256 * 2**10
# A proxier rewrites these, and so must see them.
_ALONE = frozenset({"init", "connection_info"})


class Outbox:
    """Responses in their order. Not thread-safe.

    Args:
        batches: tells whether the client takes several responses in one message.
    """

    def __init__(self, batches: Callable[[], bool]) -> None:
        self._batches = batches
        self._waiting: List[Any] = []
        self._bytes = 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    def add(self, response: Any) -> Iterator[Any]:
        """Takes a response. Yields the messages that are to be sent now."""
        size = response.ByteSize()
        if size > _SMALL_BYTES or not self._batches() or response.WhichOneof("type") in _ALONE:
            yield from self.flush()
            yield response
            return
        self._waiting.append(response)
        self._bytes += size
        if len(self._waiting) >= _MAX_RESPONSES or self._bytes > _MAX_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[Any]:
        """Yields what waits, as one message."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if len(waiting) == 1:
            yield waiting[0]
        elif waiting:
            yield protocol.DataResponse(batch=protocol.ResponseBatch(responses=waiting))
