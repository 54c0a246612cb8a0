"""References that a client holds: objects and actors of the cluster, by id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import ray._raylet as raylet
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.client import ray

# Guards the moment in which a reference takes its id over from its future. Nobody waits with it.
# Entered again by a destructor that the garbage collector runs right then.
_settle_lock = threading.RLock()


class _Reference:
    """Something of the cluster: its name on the wire, its id, and its release by the last holder.

    Mixed into Ray's id classes. Thread-safe. The destructor takes no lock and never waits: it hands
    the name (or the ticket that will have it) to the worker's release queue.

    With a stock server the name is the cluster's id, which comes with the ticket. Otherwise a
    ticket has a ``token``, which is the name from the beginning; nothing but questions for the id
    itself (``binary()``, ``hex()``) waits then.
    """

    _worker: Any = None
    _name: bytes | None = None
    _ticket: Future | None = None
    _releases = True

    def __init__(self, id: bytes | Future) -> None:
        worker = ray.get_context().client_worker
        if isinstance(id, bytes):
            super()._set_id(bytes(id))  # type: ignore[misc]
            self._worker = worker
            self._take_name(self._name_by(id, worker))
        elif isinstance(id, Future):
            self._ticket = id
            self._worker = worker
            token = getattr(id, "token", None)
            if token is not None:
                self._take_name(token, minted=True)
        else:
            raise TypeError(f"An id is bytes or a Future of bytes, not {type(id).__name__}: {id!r}")

    @staticmethod
    def _name_by(id: bytes, worker: Any) -> bytes:
        token = getattr(id, "token", None)
        if token is not None:
            return token
        return id if worker is None else worker.name_of(id)

    def __del__(self) -> None:
        worker = self._worker
        if worker is None or not self._releases or not worker.is_connected():
            return
        held = self._ticket if self._name is None else self._name
        if held is not None:
            worker.call_release(held)

    def _take_name(self, name: bytes, *, minted: bool = False) -> None:
        # Ctrl-C may come between any two steps. A name that others have, too, is counted before the
        # destructor knows of it: their object would go with this reference. One of its own is to be
        # let go of in any case.
        if minted:
            self._name = name
        if self._worker is not None:
            self._worker.call_retain(name, minted=minted)
        self._name = name

    def _wait_for_id(self, timeout: float | None = None) -> None:
        """Waits until the cluster's id is known.

        Args:
            timeout: seconds; None waits until the server answers or the session ends.

        Raises:
            GetTimeoutError: the time is over.
            RuntimeError: waiting would never end, as in some destructors.
            Exception: what the server answered instead of an id, or why the session ended.
        """
        ticket = self._ticket
        if ticket is None:
            return
        if self._worker is not None and not ticket.done():
            self._worker.check_may_wait()
        try:
            id = ticket.result(timeout)
        except FutureTimeout as e:
            # From Python 3.11 on this is the builtin, which the server's answer may be as well.
            if ticket.done():
                raise
            raise GetTimeoutError("The server has not confirmed the call in time.") from e
        with _settle_lock:
            if self._ticket is not None:
                super()._set_id(id)  # type: ignore[misc]
                if self._name is None:
                    self._take_name(id)
                elif self._worker is not None:
                    self._worker.note_id(self._name, id)
                self._ticket = None

    def _wait_for_name(self, timeout: float | None = None) -> None:
        """Waits until the name is known. Arguments and errors as those of ``_wait_for_id``."""
        if self._name is None:
            self._wait_for_id(timeout)

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
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.id == other.id

    def __ne__(self, other: object) -> bool:
        # Ray's own would compare the cluster's ids, and wait for them.
        return not self == other

    @property
    def id(self) -> bytes:
        """The name on the wire; waits for it where only the cluster can give it."""
        self._wait_for_name()
        assert self._name is not None
        return self._name


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
            if not future.set_running_or_notify_cancel():
                return  # Cancelled: a timeout of asyncio's does that.
            if isinstance(value, Exception):
                future.set_exception(_awaitable(value))
            else:
                future.set_result(value)

        # The future keeps the object alive at least as long as somebody can ask for it.
        future.object_ref = self  # type: ignore[attr-defined]
        self._on_completed(settle)
        return future

    def _on_completed(self, py_callback: Callable[[Any], None]) -> None:
        """Calls back once with the value, or with the exception, when the object is ready.

        The callback runs on the session's thread for callbacks, one after another.
        """
        self._worker.register_callback(self, py_callback)


class ClientActorRef(_Reference, raylet.ActorID):
    """Stands in the client for an actor of the cluster.

    Args:
        id: the actor's id, or a future of it.
        weak_ref: if True, the actor is not released when this reference goes.
    """

    def __init__(self, id: bytes | Future, weak_ref: bool | None = False) -> None:
        # By a token of its own the server tells the reference from the actor, which goes on.
        self._releases = not weak_ref or hasattr(id, "token")
        _Reference.__init__(self, id)

    # An actor may have several names here: each look-up gives it one.

    def __hash__(self) -> int:
        return hash(self.binary())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClientActorRef):
            return False
        return self.id == other.id or self.binary() == other.binary()


def _awaitable(error: Exception) -> Exception:
    """An error that a future may have. CPython 3.11 crashes where one is awaited that is a
    StopIteration, too, as what a task has raised may be."""
    if isinstance(error, StopIteration) and isinstance(error, RayTaskError):
        return RayTaskError("a task", str(error), error.cause)
    return error
