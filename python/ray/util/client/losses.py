"""Errors for what was lost when a session's server died.

They are Ray's own exceptions, so that a program handles them as it does with a native driver.
"""

from __future__ import annotations

from typing import Any

from ray.exceptions import ActorDiedError, OwnerDiedError
from ray.util.client import protocol


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
