"""Waits for objects on behalf of a data stream, without holding up its thread."""

from __future__ import annotations

import threading
from typing import Any, Callable, List, NamedTuple, Sequence

import ray
from ray._private.client_mode_hook import disable_client_hook
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    UnserializableException,
    WorkerCrashedError,
)


class Values(NamedTuple):
    """The values of all objects that were asked for."""

    values: List[Any]


class Failure(NamedTuple):
    """Why they can't all be had.

    Attributes:
        error: of the first that has failed.
        index: which of them that is.
    """

    error: BaseException
    index: int

    @property
    def is_final(self) -> bool:
        """Whether the error is what the object's task has come to, as a value would be. Else the
        object is lost, or out of reach, and may yet be had again."""
        return isinstance(self.error, _OUTCOMES)


_OUTCOMES = (
    RayTaskError,
    UnserializableException,
    WorkerCrashedError,
    OutOfMemoryError,
    TaskCancelledError,
    RuntimeEnvSetupError,
    TaskUnschedulableError,
    ActorUnschedulableError,
    TaskPlacementGroupRemoved,
    ActorPlacementGroupRemoved,
)


class _Gathering:
    """Collects values that come on threads of Ray's; tells once."""

    def __init__(self, count: int, tell: Callable[[Any], None]) -> None:
        self._lock = threading.Lock()
        self._values: List[Any] = [None] * count
        self._missing = count
        self._tell = tell

    def take(self, index: int, value: Any) -> None:
        with self._lock:
            if not self._missing:
                return
            if isinstance(value, RayError):
                self._missing = 0
                # ray.get() raises an error that is also of the type that the task raised.
                if isinstance(value, RayTaskError):
                    value = value.as_instanceof_cause()
                outcome: Any = Failure(value, index)
            else:
                self._values[index] = value
                self._missing -= 1
                if self._missing:
                    return
                outcome = Values(self._values)
            self._values = []
        self._tell(outcome)


def when_ready(ref: Any, callback: Callable[[Any], None]) -> None:
    """Calls back with the value, or the exception, of an object.

    Holds the reference until then: Ray ends the process if the last one goes while it looks an
    object up (``GetOwnerAddressOrDie``), and a client may drop what it has just asked for.

    Args:
        ref: of the object.
        callback: called once, on a thread of Ray's; must not block.
    """

    def tell(value: Any, ref: Any = ref) -> None:
        callback(value)

    with disable_client_hook():
        ref._on_completed(tell)


def gather(refs: Sequence[Any], tell: Callable[[Any], None]) -> None:
    """Tells :class:`Values` when all objects are ready, or :class:`Failure` once one has failed.

    Args:
        refs: what is waited for, at least one.
        tell: called once, on a thread of Ray's; must not block.
    """
    gathering = _Gathering(len(refs), tell)
    for index, ref in enumerate(refs):
        when_ready(ref, lambda value, index=index: gathering.take(index, value))


def check_ready(refs: Sequence[Any]) -> None:
    """Raises GetTimeoutError unless all are ready now."""
    distinct = list(dict.fromkeys(refs))
    with disable_client_hook():
        ready, _ = ray.wait(distinct, num_returns=len(distinct), timeout=0, fetch_local=False)
    if len(ready) < len(distinct):
        raise GetTimeoutError("The objects are not ready.")
