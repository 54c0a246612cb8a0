"""Servers that have started and wait for a session: Python and Ray take a second to get going.

A session whose runtime environment is empty may take one, at its beginning or after a death.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Awaitable, Callable, Deque, Optional, Set

from ray.util.client.server.proxy.process import ServerProcess

logger = logging.getLogger(__name__)

# A server that was taken is replaced a little later: its session needs the processor first, and
# one that is restored needs it for longer.
REFILL_S = 1.0
REFILL_AFTER_DEATH_S = 4.0
_LONGEST_PAUSE_S = 60.0


@dataclass(eq=False)
class Listening:
    """A server's process that listens on ``port`` and has no session yet."""

    port: int
    process: ServerProcess


class CannotStart(Exception):
    """No server came up; the text says why."""


class WarmServers:
    """Keeps a number of servers ready. Loop-bound.

    Args:
        size: how many; 0 keeps none.
        start: starts one.
        end: ends one and frees what it holds.
    """

    def __init__(
        self,
        size: int,
        start: Callable[[], Awaitable[Listening]],
        end: Callable[[Listening], Awaitable[None]],
    ) -> None:
        self._size = size
        self._start = start
        self._end = end
        self._ready: Deque[Listening] = deque()
        self._short = asyncio.Event()
        self._rest_s = REFILL_S
        self._tasks: Set[asyncio.Task] = set()

    def begin(self) -> None:
        """Starts the first ones, in the background."""
        if self._size > 0:
            self._short.set()
            self._task(self._keep())

    def take(self, rest_s: float = REFILL_S) -> Optional[Listening]:
        """A server that is ready, which is the caller's from now on; None if there is none.

        Args:
            rest_s: how long to wait before another one is made, in seconds.
        """
        while self._ready:
            server = self._ready.popleft()
            self._rest_s = rest_s
            self._short.set()
            if server.process.alive:
                return server
            self._task(self._end(server))
        return None

    async def close(self) -> None:
        """Ends all that are ready, and starts no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ready, self._ready = self._ready, deque()
        await asyncio.gather(*(self._end(server) for server in ready))

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            await self._short.wait()
            await asyncio.sleep(pause or self._rest_s)
            try:
                server = await self._start()
            except CannotStart as e:
                pause = min(2 * (pause or self._rest_s), _LONGEST_PAUSE_S)
                logger.warning("No server could be made ready (next try in %g s): %s", pause, e)
                continue
            pause = 0.0
            self._ready.append(server)
            if len(self._ready) >= self._size:
                self._short.clear()
            self._task(self._watch(server))

    async def _watch(self, server: Listening) -> None:
        await server.process.wait()
        if server in self._ready:
            self._ready.remove(server)
            self._short.set()
            logger.warning("A server without a session died: %s", server.process.obituary())
            await self._end(server)

    def _task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
