"""The cluster's channel of what workers print, read on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

from ray.util.client.session.printed import Style, Text, shown

logger = logging.getLogger(__name__)

# For how long one call waits for something to be printed, and how soon a store that does not answer
# is asked again.
_POLL_S = 5.0
_PAUSE_S = 1.0
# How many batches may be on their way to the loop. A batch has up to 1,000 lines.
_BATCHES = 8

# How long the thread rests after work, as a multiple of the work. Who shares Python's lock with a
# thread that is always busy waits for milliseconds each time, and the loop wakes several times for
# each message of each session.
_REST = 2.0

# Its lines tell for how long the driver has run, so each driver streams them itself.
_AUTOSCALER = "autoscaler"


class Printed(NamedTuple):
    """What one process printed to one of its streams: ``texts``, as it is shown to people."""

    is_err: bool
    texts: List[Text]


class Route(NamedTuple):
    """Where output goes, ``to`` being known to the receiver only, and how it is to look."""

    to: Any
    style: Style


class Routes(NamedTuple):
    """Who gets what: the output of each job, and that of processes that work for no job."""

    of_job: Mapping[str, Tuple[Route, ...]]
    jobless: Tuple[Route, ...]


NOWHERE = Routes({}, ())


class Subscription:
    """One subscription, from when it is made until it is ended. To be made and used on one loop.

    Args:
        subscriber: makes what has the methods of Ray's ``GcsLogSubscriber``.
        deliver: called on the loop as ``deliver(to, printed)``, in the order of the channel, and
            never once :meth:`end` has been called.

    Attributes:
        routes: to be replaced, not changed.
    """

    def __init__(
        self, subscriber: Callable[[], Any], deliver: Callable[[Any, Printed], None]
    ) -> None:
        self.routes = NOWHERE
        self._make = subscriber
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._on_their_way = threading.Semaphore(_BATCHES)
        self._subscriber: Optional[Any] = None
        self._thread = threading.Thread(
            target=self._run, name="ray_client_worker_output", daemon=True
        )
        self._thread.start()

    def end(self) -> asyncio.Future[None]:
        """Ends the subscription. What is returned is done when its thread has ended.

        That may take as long as the cluster's store does not answer.
        """
        self._ended.set()
        left = self._loop.create_future()
        threading.Thread(
            target=self._leave, args=(left,), name="ray_client_worker_output_end", daemon=True
        ).start()
        return left

    def _leave(self, left: asyncio.Future[None]) -> None:
        # Wakes the thread, which may wait for something to be printed.
        self._close()
        self._thread.join()
        with suppress(RuntimeError):  # The loop has ended before.
            self._loop.call_soon_threadsafe(left.set_result, None)

    # -- the thread

    def _run(self) -> None:
        answered = True
        while not self._ended.is_set():
            try:
                self._listen()
                answered = True
            except Exception as e:  # Whatever the cluster's store raises, it does not answer now.
                if answered:
                    logger.warning("What workers print can't be read at the moment: %s", e)
                answered = False
                self._ended.wait(_PAUSE_S)
        # Once more: it may have been made after the end.
        self._close()

    def _close(self) -> None:
        if self._subscriber is None:
            return
        try:
            self._subscriber.close()
        except Exception as e:  # The store forgets a subscriber of which it hears nothing.
            logger.debug("A subscriber could not take its leave: %s", e)

    def _listen(self) -> None:
        """Reads until nothing comes any more, which may also mean that the store was restarted."""
        if self._subscriber is None:
            self._subscriber = self._make()
        # Changes nothing for a store that knows this subscriber.
        self._subscriber.subscribe()
        while not self._ended.is_set():
            began = time.thread_time()
            batch = self._subscriber.poll(timeout=_POLL_S)
            if not batch or not batch["lines"]:
                return
            self._hand_on(batch)
            time.sleep((time.thread_time() - began) * _REST)

    def _hand_on(self, batch: Mapping[str, Any]) -> None:
        if batch["pid"] == _AUTOSCALER:
            return
        job = batch["job"]
        routes = self.routes.of_job.get(job, ()) if job else self.routes.jobless
        came = [
            (route.to, Printed(batch["is_err"], list(shown(batch, route.style))))
            for route in routes
        ]
        if came and self._may_send():
            self._loop.call_soon_threadsafe(self._arrived, came)

    def _may_send(self) -> bool:
        while not self._ended.is_set():
            if self._on_their_way.acquire(timeout=_PAUSE_S):
                return True
        return False

    # -- the loop

    def _arrived(self, came: List[Tuple[Any, Printed]]) -> None:
        self._on_their_way.release()
        if self._ended.is_set():
            return
        for to, printed in came:
            self._deliver(to, printed)
