"""Reads objects of the cluster, piece by piece, over interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from ray.exceptions import GetTimeoutError
from ray.util.client import protocol
from ray.util.client.replies import warn_of_size
from ray.util.client.sent import SentError
from ray.util.client.session.errors import ProtocolError
from ray.util.client.unary import Deadline


class Fetch:
    """One read of a list of objects, which the server sends as one pickle in pieces.

    What has arrived is kept over an interruption; a new incarnation starts at the beginning.

    Args:
        ids: the objects.
        deadline: until when they must be ready. A transfer that has begun may go on after it.
        incarnation: tells which server answers at present.
    """

    def __init__(
        self, ids: list[bytes], deadline: Deadline, incarnation: Callable[[], int | None]
    ) -> None:
        self._ids = ids
        self._deadline = deadline
        self._incarnation = incarnation
        self._from = incarnation()
        self._data = bytearray()
        self._next_chunk = 0
        self._call: Any = None

    @property
    def pieces(self) -> int:
        """How many pieces have arrived."""
        return self._next_chunk

    def attempt(self, get_object: Callable[..., Any], metadata: Any, wait: float) -> bytearray:
        """Asks the server once.

        Args:
            get_object: the stub's method.
            metadata: of the call.
            wait: seconds for which the server waits for the objects.

        Raises:
            SentError: what the server sent instead of the objects, as that they are not ready.
            grpc.RpcError: the connection broke, or the deadline was over before the first piece.
        """
        if self._incarnation() != self._from:
            self._from, self._next_chunk, self._data = self._incarnation(), 0, bytearray()
        request = protocol.GetRequest(ids=self._ids, timeout=wait, start_chunk_id=self._next_chunk)
        call = get_object(request, metadata=metadata)
        alarm = self._alarm(call)
        try:
            for piece in call:
                if alarm is not None:
                    alarm.cancel()
                if self._take(piece):
                    break
        finally:
            if alarm is not None:
                alarm.cancel()
            _cancel(call)
        return self._data

    def _alarm(self, call: Any) -> threading.Timer | None:
        remaining = self._deadline.remaining()
        if remaining is None:
            return None
        alarm = threading.Timer(remaining, _cancel, (call,))
        alarm.daemon = True
        alarm.start()
        return alarm

    def _take(self, piece: Any) -> bool:
        if not piece.valid:
            raise SentError(piece.error)
        warn_of_size(piece.total_size)
        if piece.chunk_id > self._next_chunk:
            raise ProtocolError(
                f"Piece {piece.chunk_id} of an object came where piece {self._next_chunk} was due"
            )
        if piece.chunk_id == self._next_chunk:
            self._data += piece.data
            self._next_chunk += 1
        return self._next_chunk >= piece.total_chunks


def _cancel(call: Any) -> None:
    # What a test puts in a stub's place may be a plain iterator.
    cancel = getattr(call, "cancel", None)
    if cancel is not None:
        cancel()


def fetch(
    ids: list[bytes],
    timeout: float | None,
    poll: float,
    incarnation: Callable[[], int | None],
    over_gaps: Callable[[Deadline, Callable[[], Any], Callable[[], int]], Any],
    call: Callable[..., Any],
    metadata: Callable[[], Any],
) -> bytearray:
    """Waits for objects and reads them as one pickled list.

    The server is asked to wait for ``poll`` seconds at a time, so that a caller that gives up (by
    Ctrl-C, say) leaves nothing behind in it for long.

    Args:
        ids: the objects.
        timeout: seconds; None waits as long as it takes.
        poll: seconds.
        incarnation: tells which server answers at present.
        over_gaps: repeats an attempt over interruptions, by a deadline, as long as pieces come.
        call: the stub's method.
        metadata: makes the metadata of a call.

    Raises:
        GetTimeoutError: the time is over.
    """
    deadline = Deadline(timeout)
    reading = Fetch(ids, deadline, incarnation)

    def one_poll() -> bytearray:
        try:
            return over_gaps(
                deadline,
                lambda: reading.attempt(call, metadata(), deadline.within(poll)),
                lambda: reading.pieces,
            )
        except SentError as e:
            raise e.read() from None

    while True:
        try:
            return one_poll()
        except GetTimeoutError:
            if deadline.over:
                raise
        except TimeoutError as e:
            raise GetTimeoutError("The objects did not arrive in time.") from e
        except grpc.RpcError as e:
            if deadline.over and e.code() == grpc.StatusCode.CANCELLED:
                raise GetTimeoutError("The objects did not arrive in time.") from e
            raise
