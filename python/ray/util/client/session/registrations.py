"""The functions and actor classes that a session's client has registered, kept for a new server.

Clients that know nothing of recovery put a function once and then name it by the id they were
given. A proxier that keeps those puts can make them again, under the same ids, on the next server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List

from ray.util.client.session.peek import Peeked, fields

DEFAULT_BUDGET = 64 * 2**20
# What an entry costs beside its data: objects, ids and their places in dictionaries.
_OVERHEAD = 512

_PUT_DATA, _PUT_CLIENT_REF_ID, _PUT_CHUNK_ID, _PUT_TOTAL_CHUNKS = 1, 2, 3, 4
_PUT_REGISTER_AS = 1000
_ANSWER_ID, _ANSWER_VALID = 1, 2
_RELEASED_IDS = 1


@dataclass(frozen=True)
class Registration:
    """A function or class: the id its client uses, the client's own id of it, and its bytes."""

    id: bytes
    client_ref_id: bytes
    data: bytes


@dataclass
class _Unanswered:
    client_ref_id: bytes
    chunks: List[bytes]

    def cost(self) -> int:
        return _OVERHEAD + sum(map(len, self.chunks))


class Registrations:
    """Watches a session's puts, their answers and its releases. Not thread-safe.

    Args:
        budget: how many bytes to keep at most. What goes beyond is dropped, and counted in
            :attr:`refused`.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._budget = budget
        self._used = 0
        self._unanswered: Dict[int, _Unanswered] = {}
        self._kept: Dict[bytes, Registration] = {}
        self.refused = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Registration]:
        """The registrations in the order in which they were made."""
        return iter(list(self._kept.values()))

    @property
    def used(self) -> int:
        """Bytes held, never more than the budget."""
        return self._used

    def saw_put(self, data: bytes, seen: Peeked) -> None:
        """Notes a put (or one chunk of it) on its way to the server.

        Raises:
            ProtocolError: the bytes are no put.
        """
        body_at = body_end = chunk_id = total = 0
        client_ref_id = b""
        for field in fields(data, seen.start, seen.end):
            if field.number == _PUT_DATA:
                body_at, body_end = field.start, field.end
            elif field.number == _PUT_CLIENT_REF_ID:
                client_ref_id = data[field.start : field.end]
            elif field.number == _PUT_CHUNK_ID:
                chunk_id = field.value
            elif field.number == _PUT_TOTAL_CHUNKS:
                total = field.value
            elif field.number == _PUT_REGISTER_AS:
                return  # This client names what it puts, and restores it by itself.
        if client_ref_id and chunk_id < max(total, 1):
            self._add(seen.req_id, client_ref_id, chunk_id, data[body_at:body_end])

    def _add(self, req_id: int, client_ref_id: bytes, chunk_id: int, chunk: bytes) -> None:
        if chunk_id == 0:
            # A repeated first chunk is a client that begins the transfer again.
            self._forget(req_id)
            self._unanswered[req_id] = _Unanswered(client_ref_id, [])
            self._used += _OVERHEAD
        entry = self._unanswered.get(req_id)
        if entry is None or chunk_id != len(entry.chunks):
            return
        entry.chunks.append(chunk)
        self._used += len(chunk)
        if self._used > self._budget:
            self._forget(req_id)
            self.refused += 1

    def _forget(self, req_id: int) -> None:
        entry = self._unanswered.pop(req_id, None)
        if entry is not None:
            self._used -= entry.cost()

    def saw_put_answer(self, data: bytes, seen: Peeked) -> None:
        """Notes the server's answer to a put: from here on its id stands for the function.

        Raises:
            ProtocolError: the bytes are no answer to a put.
        """
        if seen.req_id not in self._unanswered:
            return
        ref_id, valid = b"", False
        for field in fields(data, seen.start, seen.end):
            if field.number == _ANSWER_ID:
                ref_id = data[field.start : field.end]
            elif field.number == _ANSWER_VALID:
                valid = bool(field.value)
        entry = self._unanswered[seen.req_id]
        self._forget(seen.req_id)
        if valid and ref_id:
            self.drop(ref_id)
            kept = Registration(ref_id, entry.client_ref_id, b"".join(entry.chunks))
            self._kept[ref_id] = kept
            self._used += entry.cost()

    def saw_release(self, data: bytes, seen: Peeked) -> None:
        """Notes a release on its way to the server.

        Raises:
            ProtocolError: the bytes are no release.
        """
        if not self._kept:
            return
        for field in fields(data, seen.start, seen.end):
            if field.number == _RELEASED_IDS:
                self.drop(data[field.start : field.end])

    def drop(self, ref_id: bytes) -> None:
        """Forgets one registration; unknown ids are ignored."""
        kept = self._kept.pop(ref_id, None)
        if kept is not None:
            self._used -= _OVERHEAD + len(kept.data)
