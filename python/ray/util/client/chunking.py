"""What a request becomes on the wire: pieces of a large one, or a part of a batch of small ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ray.util.client import protocol
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.replies import warn_of_size
from ray.util.client.session.client import UNTRACKED, Kind, Request

# Larger serialised objects are kept beside their message, and copied only as they are sent.
_INLINE_BYTES = 64 * 2**10
# A batch's bounds. Beyond, a message costs by its bytes more than by its number.
MAX_BATCH = 128
_MAX_BATCH_BYTES = 256 * 2**10

# What a proxier need not see.
_BATCHED = frozenset(
    {
        Kind.GET,
        Kind.WAIT,
        Kind.JOURNALED,
        Kind.TERMINATE,
        Kind.RELEASE,
        Kind.WITHDRAW,
        Kind.ACKNOWLEDGE,
    }
)


def carry(body: Any, data: Any) -> Any:
    """Makes a put or a task carry a serialised object.

    Args:
        body: the PutRequest or ClientTask.
        data: bytes-like.

    Returns:
        The request's payload: the data if it is large, or None if the message has it.
    """
    body.total_chunks = 1
    if isinstance(body, protocol.PutRequest):
        body.total_size = len(data)
        warn_of_size(len(data))
    if len(data) > _INLINE_BYTES:
        return data
    body.data = bytes(data)
    return None


def unload(body: Any) -> Any:
    """As :func:`carry`, for a put or a task that has the data in itself."""
    data = body.data
    body.ClearField("data")
    return carry(body, data)


def outgoing(requests: Sequence[Request], batches: bool) -> Iterator[Any]:
    """The messages to send for requests, in their order, made one at a time.

    Args:
        requests: complete but for their pieces.
        batches: whether the server takes several in one message.
    """
    batch: list[Request] = []
    size = 0
    for request in requests:
        small = batches and request.payload is None and request.kind in _BATCHED
        if batch and (not small or size > _MAX_BATCH_BYTES):
            yield _joined(batch)
            batch, size = [], 0
        if small:
            batch.append(request)
            size += request.message.ByteSize()
        else:
            yield from _pieces(request)
    if batch:
        yield _joined(batch)


def _joined(batch: list[Request]) -> Any:
    if len(batch) == 1:
        return batch[0].message
    tracked = [request.req_id for request in batch if request.req_id != UNTRACKED]
    newest = tracked[-1] if tracked else UNTRACKED
    together = protocol.RequestBatch(requests=[request.message for request in batch])
    return protocol.DataRequest(req_id=newest, batch=together)


def _pieces(request: Request) -> Iterator[Any]:
    data = request.payload
    if data is None:
        yield request.message
        return
    kind = request.message.WhichOneof("type")
    total = math.ceil(len(data) / OBJECT_TRANSFER_CHUNK_SIZE)
    view = memoryview(data)
    for index in range(total):
        start = index * OBJECT_TRANSFER_CHUNK_SIZE
        # Slicing copies, so a piece is cut when it is about to be sent.
        piece = protocol.DataRequest()
        piece.CopyFrom(request.message)
        body = getattr(piece, kind)
        body.chunk_id, body.total_chunks = index, total
        body.data = bytes(view[start : start + OBJECT_TRANSFER_CHUNK_SIZE])
        yield piece
