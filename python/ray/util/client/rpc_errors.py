"""Where gRPC's errors become Ray's: which may be retried, and what a caller is told."""

from __future__ import annotations

import base64

import grpc

from ray.util.client.client_pickler import loads_from_server
from ray.util.client.limits import GRPC_UNRECOVERABLE_ERRORS
from ray.util.client.session import wire
from ray.util.client.session.errors import GracePeriodOver, SessionLost

# How gRPC for Python reports a request that is no message: it would go the same way again.
_NOT_A_MESSAGE = "Exception serializing request!"


# What passes as soon as this client's data stream has met the new incarnation, or has begun the
# session anew with a proxier that knows nothing of it. The last two tell of an older stream of this
# client that was given up, and yet arrived late: the next stream takes the session over from it.
_UNTIL_RECONNECTED = frozenset(
    {
        wire.REASON_STALE_INCARNATION,
        wire.REASON_SESSION_UNKNOWN,
        wire.REASON_SESSION_KNOWN,
        wire.REASON_SUPERSEDED,
    }
)


def reason(e: grpc.RpcError) -> str | None:
    """Why a fork's proxier failed the call; None from a stock one."""
    trailing = getattr(e, "trailing_metadata", None)
    return wire.reason_of(trailing()) if callable(trailing) else None


def recoverable(e: grpc.RpcError) -> bool:
    """Tells whether the same call may succeed later."""
    if not callable(getattr(e, "code", None)):
        return False
    if reason(e) in _UNTIL_RECONNECTED:
        return True
    if e.code() in GRPC_UNRECOVERABLE_ERRORS:
        return False
    # UNKNOWN is what a middleman's handler ends with when the call behind it breaks.
    return e.details() != _NOT_A_MESSAGE


def short(error: BaseException | None) -> str:
    """What ended a stream, for people; None: it ended well."""
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
        return f"{error.code().name}: {error.details()}"
    return "the server closed the stream" if error is None else str(error)


def decode_exception(e: grpc.RpcError) -> Exception:
    """The exception to raise for a call that failed for good.

    A server sends its own exceptions pickled in the details of an ABORTED call; anything else is a
    ConnectionError.
    """
    if e.code() == grpc.StatusCode.ABORTED:
        try:
            return loads_from_server(base64.standard_b64decode(e.details()))
        except Exception as not_ours:  # Unpickling may raise anything, and details may be foreign.
            return ConnectionError(f"The call was aborted: {e.details()} ({not_ours})")
    return ConnectionError(f"The call to the cluster failed: {e.code().name}: {e.details()}")


def _lost(kind: type, why: str) -> SessionLost:
    return kind(
        "Ray Client is not connected: the Ray client has already been disconnected. "
        f"{why} What the session held is gone; call ray.shutdown() and then ray.init() to begin a "
        "new one."
    )


def session_lost(e: BaseException) -> SessionLost:
    """The error of a session that ended because of ``e``."""
    if isinstance(e, SessionLost):
        return e
    if isinstance(e, grpc.RpcError) and callable(getattr(e, "code", None)):
        return _lost(SessionLost, f"The cluster ended it: {e.code().name}: {e.details()}.")
    return _lost(SessionLost, f"It broke because of {type(e).__name__}: {e}.")


def grace_period_over(grace_period: float, last: BaseException | None) -> SessionLost:
    """The error of a session whose connection did not come back in time (seconds)."""
    why = f"Failed to reconnect within the reconnection grace period ({grace_period:g} s)."
    if isinstance(last, grpc.RpcError) and callable(getattr(last, "code", None)):
        why += f" The last attempt ended with {last.code().name}: {last.details()}."
    return _lost(GracePeriodOver, why + " (RAY_CLIENT_RECONNECT_GRACE_PERIOD sets the period.)")
