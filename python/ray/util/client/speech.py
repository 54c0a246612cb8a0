"""The messages that a session's core asks for: what is submitted again, and what is lost.

Called with the session's lock held, so nothing here blocks.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ray.util.client import budgets, protocol
from ray.util.client.losses import lost_error, outcome_unknown
from ray.util.client.replies import RestoreReply, TicketReply
from ray.util.client.sent import SentError
from ray.util.client.session.client import Request
from ray.util.client.session.journal import Entry, Kind, Reason
from ray.util.client.spill import Spilled

NO_ARGUMENTS = pickle.dumps(([], {}))


class Recalled:
    """A message that lies on disk, and how it is to be changed once it is read. ``bare``: it goes
    without its payload."""

    def __init__(self, place: Spilled, mend: Callable[[Any], Any], bare: bool = False) -> None:
        self._place = place
        self._mend = mend
        self._bare = bare

    def read(self) -> tuple[Any, bytes | None]:
        """The message and its payload.

        Raises:
            OSError: they can't be read any more.
        """
        data, payload = self._place.read()
        message = self._mend(protocol.DataRequest.FromString(data))
        return message, None if self._bare else payload


class WireSpeech:
    """Makes the core's messages as protobuf ones.

    Args:
        on_failure: told of the pickled error where something could not be restored; must not block.
    """

    def __init__(self, on_failure: Callable[[bytes], None]) -> None:
        self._on_failure = on_failure

    def size(self, request: Request) -> int:
        return request.message.ByteSize() + len(request.payload or b"")

    def again(self, entry: Entry, unwanted: Collection[bytes]) -> Any:
        if entry.kind is Kind.PART:
            return _pick(entry)
        # Known now; by the time that a message was read from disk it may be another number.
        left = entry.retries if entry.kind in (Kind.TASK, Kind.ACTOR) else None
        first_id = _first_id(entry)
        waiter = entry.message.waiter
        if entry.kind is Kind.DETACHED and isinstance(waiter, TicketReply):
            waiter.forget_actor()
        return _changed(entry, lambda message: _again(message, left, unwanted, first_id))

    def put(self, name: bytes, value: Any) -> Any:
        put = protocol.PutRequest(
            data=value.data, register_as=name, failed=value.is_error, total_chunks=1
        )
        return protocol.DataRequest(put=put)

    def look_up(self, entry: Entry) -> Any:
        waiter = entry.message.waiter
        handle, now = b"", b""
        if isinstance(waiter, TicketReply):
            handle, now = waiter.handle, waiter.id_now
        known = _Known(_first_id(entry), now, handle)
        # The actor's arguments are not needed to find it.
        return _changed(entry, lambda message: _look_up(message, entry.names, known), bare=True)

    def waiter(self, first: Any) -> Any:
        return RestoreReply(first, self._on_failure)

    def failure(self, value: Any) -> Exception | None:
        return SentError(value.data) if value.is_error else None

    def lost(self, name: bytes, reason: Reason) -> Exception:
        return lost_error(name, reason)

    def unknown(self, request: Request) -> Exception:
        return outcome_unknown(request.message)

    def spent(self, request: Request) -> None:
        budgets.spend(request.message.task, request.retries)


def _changed(entry: Entry, change: Callable[[Any], Any], bare: bool = False) -> Any:
    message = entry.message.message
    return Recalled(message, change, bare) if isinstance(message, Spilled) else change(message)


def _first_id(entry: Entry) -> bytes:
    """The id that an actor was first known by; empty where that is not known, or no actor."""
    waiter = entry.message.waiter
    if entry.kind not in (Kind.ACTOR, Kind.DETACHED, Kind.NAMED):
        return b""
    return (waiter.first_id if isinstance(waiter, TicketReply) else None) or b""


def _again(
    message: Any, left: int | None, unwanted: Collection[bytes], first_id: bytes = b""
) -> Any:
    if message.WhichOneof("type") != "task":
        return message
    # A copy: the broken stream may still be reading the one that was sent.
    copy = type(message)()
    copy.CopyFrom(message)
    task = copy.task
    task.again, task.actor_id = True, first_id
    if left is not None:
        budgets.spend(task, left)
    for index, token in enumerate(task.return_tokens):
        if token in unwanted:
            task.return_tokens[index] = b""
    return copy


class _Known(NamedTuple):
    """What the cluster has told of an actor: the ids that it had first and last, and its handle."""

    first_id: bytes
    id_now: bytes
    handle: bytes


def _look_up(message: Any, names: tuple[bytes, ...], known: _Known) -> Any:
    task = message.task
    if task.type == protocol.ClientTask.NAMED_ACTOR:
        again = _again(message, None, (), known.first_id)
        again.task.actor_id_now = known.id_now
        return again
    options: dict[str, Any] = {}
    for layer in (task.baseline_options, task.options):
        if layer.pickled_options:
            options.update(pickle.loads(layer.pickled_options))
    found = protocol.ClientTask(
        type=protocol.ClientTask.NAMED_ACTOR,
        name=options.get("name") or "",
        namespace=options.get("namespace") or "",
        client_id=task.client_id,
        return_tokens=names,
        data=NO_ARGUMENTS,
        total_chunks=1,
        actor_id=known.first_id,
        actor_id_now=known.id_now,
        handle=known.handle,
        may_be_made=True,
    )
    return protocol.DataRequest(task=found)


def _pick(entry: Entry) -> Any:
    pick = protocol.PickRequest(
        source=entry.needs[0], index=entry.message, name=entry.names[0]
    )
    return protocol.DataRequest(pick=pick)
