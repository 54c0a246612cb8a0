"""Small helpers for tasks: whose end is whose, and which results matter."""

from __future__ import annotations

import asyncio
from typing import Any, Coroutine, TypeVar

import grpc

T = TypeVar("T")


async def on_call(work: Coroutine[Any, Any, T]) -> T:
    """Does ``work``, which uses a call to a server, and tells the call's end from the caller's.

    gRPC tells of a call whose channel was closed by the exception that ends a cancelled task, and
    leaves the client of a handler that ends by it without an answer for ever. In a task of the
    work's own the two differ.

    Raises:
        grpc.aio.AioRpcError: the call was given up with its channel.
        asyncio.CancelledError: this task was cancelled; the work is, too.
        Exception: what the work raises.
    """
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({working})
        if working.cancelled():
            nothing = grpc.aio.Metadata()
            text = "The connection was given up."
            raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, text)
        return working.result()
    finally:
        drop(working)


def drop(task: asyncio.Future) -> None:
    """Cancels ``task``; what it still raises is of no interest to anybody."""
    task.cancel()
    task.add_done_callback(_look_away)


def _look_away(task: asyncio.Future) -> None:
    # asyncio complains about errors that nobody has asked for.
    if not task.cancelled():
        task.exception()
