"""Errors for what was lost when a session's server died.

They are Ray's own exceptions, so that a program handles them as it does with a native driver.
"""

from __future__ import annotations

from typing import Any

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OwnerDiedError,
    TaskCancelledError,
)
from ray.util.client import protocol
from ray.util.client.session.journal import Reason


class SessionOwnerDiedError(OwnerDiedError):
    """The owner that died is the server of a Ray Client session.

    Pickles as a plain OwnerDiedError: a stock Ray, on a worker say, does not know this class.
    """

    def __init__(self, object_ref_hex: str, why: str) -> None:
        super().__init__(object_ref_hex, b"", "")
        self.why = why

    def __str__(self) -> str:
        what = f"object {self.object_ref_hex}" if self.object_ref_hex else "the call's result"
        return f"Failed to retrieve {what}: {self.why}"

    def __reduce__(self) -> Any:
        return OwnerDiedError, (self.object_ref_hex, b"", self.why)


_DIED = (
    "the Ray Client session's server, which owned it, died before it confirmed the call. Whether "
    "the call had an effect is not known. The session itself goes on: call again if that is safe."
)


_RAN_ALREADY = (
    "the Ray Client session's server, which owned it, died, and running the task again was not "
    "allowed (max_retries) or all its retries are used up. The session itself goes on."
)
_WHY = {
    Reason.NO_RETRY: _RAN_ALREADY,
    Reason.ADOPTED: (
        "the Ray Client session's server, which held it, died. It came to this program inside "
        "another object, so the session can't make it again; get that object again."
    ),
    Reason.NOT_KEPT: (
        "the Ray Client session's server, which owned it, died, and the session's journal had no "
        "room left to keep what is needed to make it again. RAY_CLIENT_JOURNAL_BYTES (and "
        "RAY_CLIENT_JOURNAL_ENTRIES) set its size."
    ),
    Reason.SWITCHED_OFF: (
        "the Ray Client session's server, which owned it, died, and RAY_CLIENT_RECOVERY is set to "
        "'reconnect', which restores nothing."
    ),
    Reason.ACTOR_DIED: (
        "the Ray Client session's server, which owned it, died, and max_restarts did not allow to "
        "create it again. The session itself goes on."
    ),
    Reason.ACTOR_UNAVAILABLE: (
        "the Ray Client session's server died while the call was under way. Whether it had an "
        "effect is not known, and max_task_retries does not allow to repeat it. The actor itself "
        "can be called again."
    ),
    Reason.CANCELLED: (
        "It was cancelled before the Ray Client session's server died, and is not run again."
    ),
}
_ACTOR_ID_SIZE = 16


def lost_error(name: bytes, reason: Reason) -> Exception:
    """Ray's error for something that the session lost.

    Args:
        name: how it is called on the wire.
        reason: why it is lost.
    """
    if reason is Reason.ACTOR_UNAVAILABLE:
        return ActorUnavailableError(f"The call failed: {_WHY[reason]}", None)
    if reason is Reason.ACTOR_DIED or len(name) == _ACTOR_ID_SIZE:
        error = ActorDiedError()
        error.error_msg = f"The actor died: {_WHY[reason]}"
        return error
    if reason is Reason.CANCELLED:
        return TaskCancelledError(error_message=_WHY[reason])
    return SessionOwnerDiedError(name.hex(), _WHY[reason])


def outcome_unknown(message: Any) -> Exception:
    """The error for a call that a server may have carried out before it died.

    Args:
        message: the DataRequest of the call.
    """
    task = message.task
    if task.type == protocol.ClientTask.FUNCTION:
        return SessionOwnerDiedError("", _DIED)
    error = ActorDiedError()
    error.error_msg = f"The actor died: {_DIED}"
    return error
