"""Counts what a client holds, and tells the server what it holds no more."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ray.util.client.session.client import Receipt

# How many ids one request releases at most.
_BATCH = 1000


class Releases:
    """References held by this client, by id. Thread-safe.

    Destructors only put into a queue that is safe to use from them, at any point of any thread. A
    thread of its own counts down and sends.

    Args:
        send: puts the release of a list of ids in line, with receipts of what was handed out of
            them. It is called with the lock held, so that nobody holds an id again between the
            decision and its place in the line; it must not wait, raise or call back.
    """

    def __init__(self, send: Callable[[list[bytes], list[Receipt]], None]) -> None:
        self._send = send
        self.held: defaultdict[bytes, int] = defaultdict(int)
        # How often ids that are held were handed out, by the newest number of hand-outs.
        self._handing = 0
        self._handed: dict[bytes, int] = {}
        # Entered again where the garbage collector runs a destructor of the user's, which makes
        # references of its own.
        self._lock = threading.RLock()
        self._dropped: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ray_client_releases", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether this thread counts right now: a destructor asks that interrupts it."""
        return self._lock._is_owned()  # type: ignore[attr-defined]

    def retain(self, id: bytes) -> bool:
        """One more reference to ``id``. Returns whether it is the first."""
        with self._lock:
            self.held[id] += 1
            return self.held[id] == 1

    def note_handed(self, ids: Sequence[bytes], handing: int) -> None:
        """The server has handed out these, which are held.

        ``handing``: the number of these hand-outs. A number that is new ends the one before: its
        hand-outs do not count for the server any more.
        """
        with self._lock:
            if handing != self._handing:
                self._handing = handing
                self._handed.clear()
            for id in ids:
                self._handed[id] = self._handed.get(id, 0) + 1

    def release(self, id: bytes | Future | tuple[bytes, ...]) -> None:
        """One reference less, to each of several ids; a single step. A future stands for an id that
        was never retained."""
        self._dropped.put(id)

    def close(self) -> None:
        """Ends the thread; what was dropped before is still sent. Idempotent."""
        self._dropped.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            dropped: list[bytes] = []
            ended = self._collect(self._dropped.get(), dropped)
            while not ended and len(dropped) < _BATCH:
                try:
                    ended = self._collect(self._dropped.get_nowait(), dropped)
                except queue.Empty:
                    break
            if dropped:
                self._let_go(dropped)

    def _collect(
        self, dropped: bytes | Future | tuple[bytes, ...] | None, ids: list[bytes]
    ) -> bool:
        if dropped is None:
            return True
        if isinstance(dropped, tuple):
            ids.extend(dropped)
        elif not isinstance(dropped, Future):
            ids.append(dropped)
        elif not dropped.done():
            dropped.add_done_callback(self._dropped.put)
        elif not dropped.cancelled() and dropped.exception() is None:
            self.retain(dropped.result())
            ids.append(dropped.result())
        return False

    def _let_go(self, dropped: list[bytes]) -> None:
        with self._lock:
            free: dict[bytes, None] = {}
            for id in dropped:
                left = self.held.get(id, 0) - 1
                if left > 0:
                    self.held[id] = left
                else:
                    self.held.pop(id, None)
                    free[id] = None
            if not free:
                return
            receipts = []
            if self._handed:
                counted = ((id, self._handed.pop(id, 0)) for id in free)
                receipts = [Receipt(id, self._handing, times) for id, times in counted if times]
            self._send(list(free), receipts)


class Handed:
    """Holds what an answer refers to, for as long as it lives: until the answer has been read.

    Args:
        worker: who counts references.
        names: of what the answer refers to.
        handing: the number of these hand-outs.
    """

    def __init__(self, worker: Any, names: Sequence[bytes], handing: int) -> None:
        self._worker, self._names = worker, tuple(names)
        worker.call_handed(self._names, handing)

    def __del__(self) -> None:
        # At once: Ctrl-C may come between any two steps.
        self._worker.call_release(self._names)
