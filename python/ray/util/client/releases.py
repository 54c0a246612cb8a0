"""Counts what a client holds, and tells the server what it holds no more."""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future

logger = logging.getLogger(__name__)

# How many ids one request releases at most.
_BATCH = 1000


class Releases:
    """References held by this client, by id. Thread-safe.

    Destructors only put into a queue that is safe to use from them, at any point of any thread. A
    thread of its own counts down and sends.

    Args:
        send: sends the release of a list of ids. Errors it raises end nothing.
    """

    def __init__(self, send: Callable[[list[bytes]], None]) -> None:
        self._send = send
        self.held: defaultdict[bytes, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._dropped: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ray_client_releases", daemon=True)
        self._thread.start()

    def retain(self, id: bytes) -> bool:
        """One more reference to ``id``. Returns whether it is the first."""
        with self._lock:
            self.held[id] += 1
            return self.held[id] == 1

    def release(self, id: bytes | Future) -> None:
        """One reference less. A future stands for an id that was never retained."""
        self._dropped.put(id)

    def close(self) -> None:
        """Ends the thread; what was dropped before is still sent. Idempotent."""
        self._dropped.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch: list[bytes] = []
            ended = self._collect(self._dropped.get(), batch)
            while not ended and len(batch) < _BATCH:
                try:
                    ended = self._collect(self._dropped.get_nowait(), batch)
                except queue.Empty:
                    break
            if batch:
                self._try_send(batch)

    def _collect(self, dropped: bytes | Future | None, batch: list[bytes]) -> bool:
        if dropped is None:
            return True
        if isinstance(dropped, Future):
            if not dropped.done():
                dropped.add_done_callback(self._dropped.put)
            elif not dropped.cancelled() and dropped.exception() is None:
                batch.append(dropped.result())
            return False
        with self._lock:
            self.held[dropped] -= 1
            if self.held[dropped] <= 0:
                del self.held[dropped]
                batch.append(dropped)
        return False

    def _try_send(self, batch: list[bytes]) -> None:
        try:
            self._send(batch)
        except Exception as e:  # The session may just have ended; then there is nothing to release.
            logger.debug("%d references were not released: %s", len(batch), e)
