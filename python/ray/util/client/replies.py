"""What waits for an answer of the data stream.

A reply is told once: ``done(response)`` with an answer, which returns whether the answer is
complete, or ``failed(error)``. Both run on the session's data thread and must not block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from ray.util.client.limits import OBJECT_TRANSFER_WARNING_SIZE
from ray.util.client.sent import SentError
from ray.util.client.session.errors import ProtocolError
from ray.util.client.slot import Slot
from ray.util.debug import log_once


def warn_of_size(total_size: int) -> None:
    """Warns, once a process, of an object whose transfer will take long. ``total_size``: bytes."""
    if total_size > OBJECT_TRANSFER_WARNING_SIZE and log_once("client_object_transfer_size"):
        warnings.warn(
            f"Ray Client is transferring an object of {total_size / 2**30:.2f} GiB, which may be "
            "slow. Consider to keep it on the cluster, or to exchange it through a file or an "
            "object store such as S3.",
            UserWarning,
            stacklevel=3,
        )


class BlockingReply:
    """An answer that a thread waits for."""

    def __init__(self) -> None:
        self._future = Slot()

    def done(self, response: Any) -> bool:
        if not self._future.done():
            self._future.set_result(response)
        return True

    def failed(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def wait(self, timeout: float | None = None) -> Any:
        """Waits for the answer.

        Args:
            timeout: seconds; None waits until the server answers or the session ends.

        Raises:
            TimeoutError: the time is over.
            Exception: whatever the reply failed with.
        """
        try:
            return self._future.result(timeout)
        except FutureTimeout as e:
            if self._future.done():
                raise
            raise TimeoutError(f"no answer within {timeout} s") from e


class PutReply:
    """The id of what was put.

    Args:
        future: gets it, or the exception that the server answered.
    """

    def __init__(self, future: Slot) -> None:
        self._future = future

    def done(self, response: Any) -> bool:
        put = response.put
        if not put.valid:
            self.failed(SentError(put.error))
        elif not self._future.done():
            self._future.set_result(put.id)
        return True

    def failed(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class WaitReply(BlockingReply):
    """The answer to a wait for objects."""

    def restart(self) -> None:
        """Another incarnation will answer; nothing has come yet."""


class InitReply(BlockingReply):
    """The answer to the request that begins a session.

    Args:
        on_answer: told of the answer on the data thread, before anybody else is.
    """

    def __init__(self, on_answer: Callable[[Any], None]) -> None:
        super().__init__()
        self._on_answer = on_answer

    def done(self, response: Any) -> bool:
        self._on_answer(response.init)
        return super().done(response)


class TicketReply:
    """The ids of what a task will return.

    Args:
        futures: one for each id; they get bytes, or the exception that the server answered.
    """

    def __init__(self, futures: Sequence[Slot]) -> None:
        self._futures = futures
        # Of an actor, if the server has sent it: how the cluster serialises its handle.
        self.handle = b""
        # Of an actor: the id that it had last.
        self.id_now = b""

    def forget_actor(self) -> None:
        """The actor is to be made anew: what was told of it means another one."""
        self.handle = self.id_now = b""

    @property
    def first_id(self) -> bytes | None:
        """The first of the ids, if the server has told it. Never waits."""
        first = self._futures[0]
        return first.result() if first.succeeded else None

    def done(self, response: Any) -> bool:
        ticket = response.task_ticket
        if not ticket.valid:
            self.failed(SentError(ticket.error))
        elif len(ticket.return_ids) != len(self._futures):
            self.failed(
                ValueError(
                    f"Expected {len(self._futures)} returns but received {len(ticket.return_ids)}"
                )
            )
        else:
            self.handle = ticket.handle or self.handle
            self.id_now = ticket.actor_id or next(iter(ticket.return_ids), b"")
            for future, id in zip(self._futures, ticket.return_ids):
                # What was submitted again keeps the id that it had first.
                if not future.done():
                    future.set_result(id)
        return True

    def failed(self, error: Exception) -> None:
        for future in self._futures:
            if not future.done():
                future.set_exception(error)


class RestoreReply:
    """The answer to what is submitted again.

    Args:
        first: who waited for the answer of the first submission, if anybody did.
        on_failure: called with the pickled error if it can't be done again; must not block.
    """

    def __init__(self, first: Any, on_failure: Callable[[bytes], None]) -> None:
        self._first = first
        self._on_failure = on_failure

    def done(self, response: Any) -> bool:
        body = getattr(response, response.WhichOneof("type"))
        if not body.valid:
            self._on_failure(body.error)
        if self._first is not None:
            self._first.done(response)
        return True

    def failed(self, error: Exception) -> None:
        if self._first is not None:
            self._first.failed(error)


class PartsReply:
    """Values that come one behind the other, in pieces, when all of them are ready.

    Args:
        request: the request message; its first wanted piece is kept up to date.
        tell: called once, on the data thread: with the values' bytes, or with an exception, which
            may be a :class:`SentError`.
    """

    def __init__(self, request: Any, tell: Callable[[list[Any] | Exception], None]) -> None:
        self._request = request
        self._tells = [tell]
        self._held: list[Any] = []
        self._over = False
        self._data = bytearray()
        self._sizes: Sequence[int] = ()
        self._next_chunk = 0

    @property
    def pieces(self) -> int:
        """How many pieces have arrived."""
        return self._next_chunk

    def keep(self, held: Any) -> None:
        """Keeps what holds the things that the values refer to, until :meth:`let_go`."""
        self._held.append(held)
        if self._over:
            self._held.clear()

    def let_go(self) -> None:
        """The values have been read, or nobody wants them any more."""
        self._over = True
        self._held.clear()

    def restart(self) -> None:
        """Forgets the pieces: another incarnation will send the values, from their beginning."""
        self._data = bytearray()
        self._want(0)

    def _want(self, chunk: int) -> None:
        self._next_chunk = chunk
        self._request.get.start_chunk_id = chunk

    def done(self, response: Any) -> bool:
        got = response.get
        if not got.valid:
            self.failed(SentError(got.error, got.failed))
            return True
        if got.chunk_id < self._next_chunk:
            return False
        if got.chunk_id > self._next_chunk:
            self.failed(
                ProtocolError(
                    f"Piece {got.chunk_id} of an object came where piece {self._next_chunk} was due"
                )
            )
            return True
        warn_of_size(got.total_size)
        if got.chunk_id == 0:
            self._sizes = got.sizes
        if got.total_chunks == 1:
            self._tell(_split(got.data, self._sizes))
            return True
        self._data += got.data
        self._want(got.chunk_id + 1)
        if self._next_chunk < got.total_chunks:
            return False
        self._tell(_split(self._data, self._sizes))
        return True

    def failed(self, error: Exception) -> None:
        self._tell(error)

    def _tell(self, outcome: list[Any] | Exception) -> None:
        try:
            tell = self._tells.pop()
        except IndexError:
            return
        tell(outcome)


def _split(data: Any, sizes: Sequence[int]) -> list[Any] | Exception:
    if sum(sizes) != len(data):
        return ProtocolError(f"{len(data)} bytes came where {sum(sizes)} were announced")
    if len(sizes) == 1:
        return [data]
    parts, start, view = [], 0, memoryview(data)
    for size in sizes:
        parts.append(view[start : start + size])
        start += size
    return parts


class ObjectReply:
    """An object that comes in pieces when it is ready.

    Args:
        request: the request message; its first wanted piece is kept up to date, so that a repeated
            request to the same server does not transfer a piece twice.
        callback: called once, on the data thread: with the value's bytes, or with an exception,
            which may be a :class:`SentError`.
    """

    def __init__(self, request: Any, callback: Callable[[Any], None]) -> None:
        self._request = request
        # Popped by whoever tells it: an answer and the session's end may race.
        self._callbacks = [callback]
        self._data = bytearray()
        self._next_chunk = 0

    def restart(self) -> None:
        """Forgets the pieces: another incarnation will send the object, from its beginning."""
        self._data = bytearray()
        self._want(0)

    def _tell(self, value: Any) -> None:
        try:
            callback = self._callbacks.pop()
        except IndexError:
            return
        callback(value)

    def _want(self, chunk: int) -> None:
        self._next_chunk = chunk
        self._request.get.start_chunk_id = chunk

    def done(self, response: Any) -> bool:
        got = response.get
        if not got.valid:
            self._tell(SentError(got.error))
            return True
        warn_of_size(got.total_size)
        if got.chunk_id < self._next_chunk:
            return False
        if got.chunk_id > self._next_chunk:
            self.failed(
                ProtocolError(
                    f"Piece {got.chunk_id} of an object came where piece {self._next_chunk} was due"
                )
            )
            return True
        self._data += got.data
        self._want(got.chunk_id + 1)
        if self._next_chunk < got.total_chunks:
            return False
        self._tell(self._data)
        return True

    def failed(self, error: Exception) -> None:
        self._tell(error)


def fail_all(replies: list[Any], error_for: Callable[[Any], Exception]) -> None:
    """Tells requests that no answer will come. ``error_for`` makes the error for a request."""
    for request in replies:
        if request.waiter is not None:
            request.waiter.failed(error_for(request))
