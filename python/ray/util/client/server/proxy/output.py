"""What sessions' workers print: taken from the cluster once, and handed to the sessions."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple, Union

from ray.util.client.server.proxy.subscription import Printed, Route, Routes, Subscription
from ray.util.client.session.loglines import Dropped, LogLines, Piece
from ray.util.client.session.printed import Style

# Seconds after which a store that does not answer is left without a word.
LEAVE_S = 2.0


class Output:
    """What the workers of one session print, until its client has it. Loop-bound.

    A session's jobs are those of all servers that it has had: tasks may have printed a moment
    before their server's death, and detached actors go on.

    Args:
        arrange: to be called with this when it wants something else than before.

    Attributes:
        jobs: whose output the client is to see, and how it is to look.
        wanted: whether the client wants to see any.
    """

    def __init__(self, arrange: Callable[[Output], None]) -> None:
        self.jobs: Mapping[str, Style] = {}
        self.wanted = False
        self._arrange = arrange
        self._closed = False
        self._lines: Optional[LogLines] = None
        self._changed = asyncio.Event()

    def begin(self, beginning: int) -> None:
        """The session begins. ``beginning`` grows each time that it is begun."""
        self._lines = LogLines(beginning)

    def add_jobs(self, jobs: Mapping[str, Style]) -> None:
        """Adds jobs whose output the client is to see: their ids in hex, and how it is to look."""
        self.jobs = {**self.jobs, **jobs}
        self._arrange(self)
        self.wake()

    def want(self, wanted: bool) -> None:
        """Tells whether the client is to see what is printed from now on."""
        if self._closed or wanted == self.wanted:
            return
        self.wanted = wanted
        if not wanted and self._lines is not None:
            self._lines.forget(self._lines.last)
        self._arrange(self)

    def close(self) -> None:
        """The session has ended."""
        self.want(False)
        self._closed = True

    def take(self, printed: Printed) -> None:
        """Keeps what came, if it is wanted."""
        if not self.wanted or self._lines is None:
            return
        for text in printed.texts:
            self._lines.add(printed.is_err, text.data, text.lines)
        self.wake()

    def forget(self, number: int) -> None:
        """Nobody will ask again for what came up to the line ``number``."""
        if self._lines is not None:
            self._lines.forget(number)

    def after(self, number: int) -> Optional[Union[Piece, Dropped]]:
        """As :meth:`LogLines.after`."""
        return None if self._lines is None else self._lines.after(number)

    def wake(self) -> None:
        """Lets everybody go on who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Waits until something has come, or :meth:`wake` is called."""
        await self._changed.wait()


class Outputs:
    """All sessions' outputs, and the one subscription behind them. Loop-bound.

    Args:
        subscriber: makes what has the methods of Ray's ``GcsLogSubscriber``.
    """

    def __init__(self, subscriber: Callable[[], Any]) -> None:
        self._subscriber = subscriber
        self._wanting: List[Output] = []
        self._subscription: Optional[Subscription] = None
        self._ending: Set[asyncio.Future] = set()

    def open(self) -> Output:
        """A new session's output. It is listened to while it is wanted."""
        return Output(self._arrange)

    async def close(self) -> None:
        """Listens no more. The sessions have ended. Takes ``LEAVE_S`` at most."""
        self._unsubscribe()
        if self._ending:
            await asyncio.wait(self._ending, timeout=LEAVE_S)

    def _arrange(self, output: Output) -> None:
        self._wanting = [other for other in self._wanting if other is not output]
        if output.wanted:
            self._wanting.append(output)
        if not self._wanting:
            self._unsubscribe()
            return
        if self._subscription is None:
            self._subscription = Subscription(self._subscriber, Output.take)
        self._subscription.routes = _routes(self._wanting)

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            ending = subscription.end()
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def _routes(outputs: Iterable[Output]) -> Routes:
    of_job: Dict[str, Tuple[Route, ...]] = {}
    jobless: List[Route] = []
    for output in outputs:
        for job, style in output.jobs.items():
            of_job[job] = (*of_job.get(job, ()), Route(output, style))
        if output.jobs:
            jobless.append(Route(output, next(reversed([*output.jobs.values()]))))
    return Routes(of_job, tuple(jobless))
