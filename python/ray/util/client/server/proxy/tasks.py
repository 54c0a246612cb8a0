"""Small helpers for tasks of which only one result matters."""

from __future__ import annotations

import asyncio


def drop(task: asyncio.Future) -> None:
    """Cancels ``task``; what it still raises is of no interest to anybody."""
    task.cancel()
    task.add_done_callback(_look_away)


def _look_away(task: asyncio.Future) -> None:
    # asyncio complains about errors that nobody has asked for.
    if not task.cancelled():
        task.exception()
