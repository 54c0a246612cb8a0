"""Large requests of the data stream, cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ray.util.client import protocol
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.replies import warn_of_size


def messages(request: Any) -> Iterator[Any]:
    """The messages to send for one DataRequest, made one at a time.

    Puts and tasks carry serialised objects, which servers take in pieces. Slicing copies, so a
    piece is cut when it is about to be sent: a large object is never held twice.
    """
    kind = request.WhichOneof("type")
    if kind == "put":
        warn_of_size(len(request.put.data))
        yield from _pieces(request, request.put, "put")
    elif kind == "task":
        yield from _pieces(request, request.task, "task")
    else:
        yield request


def _pieces(request: Any, body: Any, field: str) -> Iterator[Any]:
    data = body.data
    total = max(1, math.ceil(len(data) / OBJECT_TRANSFER_CHUNK_SIZE))
    head = type(body)()
    if total == 1:
        # The message itself will do; it is small.
        head.CopyFrom(body)
        head.chunk_id, head.total_chunks = 0, 1
        if field == "put":
            head.total_size = len(data)
        yield protocol.DataRequest(req_id=request.req_id, **{field: head})
        return
    for name, value in body.ListFields():
        if name.name != "data":
            _assign(head, name.name, value)
    head.total_chunks = total
    if field == "put":
        head.total_size = len(data)
    view = memoryview(data)
    for index in range(total):
        start = index * OBJECT_TRANSFER_CHUNK_SIZE
        head.chunk_id = index
        head.data = bytes(view[start : start + OBJECT_TRANSFER_CHUNK_SIZE])
        yield protocol.DataRequest(req_id=request.req_id, **{field: head})


def _assign(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
