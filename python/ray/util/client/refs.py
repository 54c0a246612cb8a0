"""References that a client holds: objects and actors of the cluster, by id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import ray._raylet as raylet
from ray.exceptions import GetTimeoutError
from ray.util.client import ray

# Guards the moment in which a reference takes its id over from its future. Nobody waits with it.
_settle_lock = threading.Lock()


class _Reference:
    """An id that may still be on its way, and its release when the last holder is gone.

    Mixed into Ray's id classes. Thread-safe. The destructor takes no lock and never waits: it hands
    the id (or the future that will have it) to the worker's release queue.
    """

    _worker: Any = None
    _pending: Future | None = None
    _releases = True

    def __init__(self, id: bytes | Future) -> None:
        worker = ray.get_context().client_worker
        if isinstance(id, bytes):
            self._worker = worker
            self._set_id(id)
        elif isinstance(id, Future):
            self._pending = id
            self._worker = worker
        else:
            raise TypeError(f"An id is bytes or a Future of bytes, not {type(id).__name__}: {id!r}")

    def __del__(self) -> None:
        worker = self._worker
        if worker is None or not self._releases or not worker.is_connected():
            return
        pending = self._pending
        # super(): the id is there already, resolving it again could wait.
        worker.call_release(super().binary() if pending is None else pending)  # type: ignore[misc]

    def _set_id(self, id: bytes) -> None:
        super()._set_id(id)  # type: ignore[misc]
        if self._worker is not None:
            self._worker.call_retain(id)

    def _wait_for_id(self, timeout: float | None = None) -> None:
        """Waits until the id is known.

        Args:
            timeout: seconds; None waits until the server answers or the session ends.

        Raises:
            GetTimeoutError: the time is over.
            Exception: what the server answered instead of an id, or why the session ended.
        """
        pending = self._pending
        if pending is None:
            return
        try:
            id = pending.result(timeout)
        except FutureTimeout as e:
            # From Python 3.11 on this is the builtin, which the server's answer may be as well.
            if pending.done():
                raise
            raise GetTimeoutError("The server has not confirmed the call in time.") from e
        with _settle_lock:
            if self._pending is not None:
                self._set_id(id)
                self._pending = None

    def binary(self) -> bytes:
        self._wait_for_id()
        return super().binary()  # type: ignore[misc]

    def hex(self) -> str:
        self._wait_for_id()
        return super().hex()  # type: ignore[misc]

    def is_nil(self) -> bool:
        self._wait_for_id()
        return super().is_nil()  # type: ignore[misc]

    def __hash__(self) -> int:
        return hash(self.binary())

    @property
    def id(self) -> bytes:
        """The cluster's id; waits for it where the call is not confirmed yet."""
        return self.binary()


class ClientObjectRef(_Reference, raylet.ObjectRef):
    """Stands in the client for an object of the cluster.

    Args:
        id: the object's id, or a future of it.
    """

    def __init__(self, id: bytes | Future) -> None:
        _Reference.__init__(self, id)

    def task_id(self) -> Any:
        self._wait_for_id()
        return super().task_id()

    def future(self) -> Future:
        """A future of the object's value; an error that the task raised is its exception."""
        future: Future = Future()

        def settle(value: Any) -> None:
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)

        # The future keeps the object alive at least as long as somebody can ask for it.
        future.object_ref = self  # type: ignore[attr-defined]
        self._on_completed(settle)
        return future

    def _on_completed(self, py_callback: Callable[[Any], None]) -> None:
        """Calls back once with the value, or with the exception, when the object is ready.

        The callback runs on the session's data thread and must not block.
        """
        self._worker.register_callback(self, py_callback)


class ClientActorRef(_Reference, raylet.ActorID):
    """Stands in the client for an actor of the cluster.

    Args:
        id: the actor's id, or a future of it.
        weak_ref: if True, the actor is not released when this reference goes.
    """

    def __init__(self, id: bytes | Future, weak_ref: bool | None = False) -> None:
        self._releases = not weak_ref
        _Reference.__init__(self, id)
