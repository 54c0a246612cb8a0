"""Whether and how a session goes on when its data stream has ended.

What is decided here is all that a client's streams begin with and what their ends mean. No I/O,
threads or clock: the shell (``dataclient``) opens the streams, and the simulation, which proves
what the session promises, runs this same code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from ray.util.client import protocol
from ray.util.client.recovery import Recovery
from ray.util.client.rpc_errors import grace_period_over, reason, recoverable, session_lost
from ray.util.client.session import wire
from ray.util.client.session.conversation import Conversation
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import Journal


class Met(NamedTuple):
    """The server that a stream has met.

    Attributes:
        incarnation: its number; None with a stock cluster, or if nobody was asked.
        handed: id of the newest request that any server of the session was given; None if that is
            not known.
    """

    incarnation: int | None
    handed: int | None


class Continuity:
    """What is to be known of a session to go on with it. Not thread-safe.

    Args:
        core: the session's conversation, which gets its journal here.
        grace_period: seconds for which an interrupted stream is opened again; 0 is never.
        recovery: what is to be restored after a death of the server.

    Attributes:
        init: the InitRequest; None before there is one.
        begun: whether a server has answered it.
        recovers: whether the cluster can carry the session over the death of its server.
        has_tokens: whether objects are called by names that this client mints.
    """

    def __init__(
        self, core: Conversation, grace_period: float, recovery: Recovery = Recovery.REPLAY
    ) -> None:
        self.init: Any = None
        self.begun = False
        self._core = core
        self._grace_period = grace_period
        self._recovery = recovery
        self._namespace = ""
        # Whether the session is to be begun anew, with a proxier that does not know it.
        self._forgotten = False
        self._last_error: BaseException | None = None

    @property
    def recovers(self) -> bool:
        return wire.CAP_INCARNATIONS in self._core.session.capabilities

    @property
    def has_tokens(self) -> bool:
        return wire.CAP_TOKENS in self._core.session.capabilities

    # -- beginnings

    def negotiated(self, accepted: Any, journal: Callable[[], Journal]) -> None:
        """A server has accepted the init. ``journal`` makes the session's, if it is to have one."""
        self._namespace = accepted.namespace
        self._core.session.negotiated(accepted.capabilities, accepted.incarnation)
        if self.has_tokens:
            self._core.journal = journal()
        self.begun = True
        self._forgotten = False

    def first_message(self, reconnecting: bool) -> Any:
        """What a stream begins with, without an id: only whoever opens it waits for the answer.

        None if it begins with what stands in line.
        """
        if not reconnecting or not self.recovers:
            return None
        if not self._forgotten:
            return protocol.DataRequest(connection_info=protocol.ConnectionInfoRequest())
        again = protocol.DataRequest(init=self.init)
        again.init.after = self._core.session.incarnation or 0
        again.init.namespace = self._namespace
        return again

    def metadata(self, reconnecting: bool) -> list[tuple[str, str]]:
        """What a stream's call tells beside what identifies the client."""
        if self._forgotten:
            return [("reconnecting", "False")]
        told = [("reconnecting", str(reconnecting))]
        incarnation = self._core.session.incarnation
        if incarnation is not None:
            told.append((wire.INCARNATION_KEY, str(incarnation)))
        return told

    def met(self, told: Any) -> Met:
        """Reads the answer to a stream's first message; ``told`` is None if there was none.

        Raises:
            SessionLost: the session could not be begun anew.
        """
        if told is None:
            return Met(None, None)
        if told.WhichOneof("type") == "init":
            if not told.init.ok:
                raise SessionLost(f"The session could not be begun anew: {told.init.msg}")
            self._forgotten = False
            return Met(told.init.incarnation or None, None)
        info = told.connection_info
        return Met(info.incarnation or None, info.handed or None)

    # -- ends

    def outlives(self, error: BaseException | None) -> bool:
        """A stream has ended, by ``error`` if any. Whether another one may be opened after it."""
        if error is not None and not _is_of_own_making(error):
            self._last_error = error
        if not self._may_pass(error):
            return False
        if isinstance(error, grpc.RpcError):
            self._forgotten = _is_forgotten(error)
        return True

    def has_more_to_say(self, error: BaseException | None, unsent: int) -> bool:
        """A stream has ended while the session was shut down. Whether another may tell the rest.

        ``unsent``: how many requests no session knows yet.
        """
        if error is not None and _is_forgotten(error):
            return False
        session = self._core.session
        # A stream that took the goodbye ends well.
        if error is not None:
            session.goodbye_broke()
        return bool(self.begun and session.unsent + unsent and self._may_pass(error))

    def _may_pass(self, error: BaseException | None) -> bool:
        if self._grace_period == 0:
            return False
        if error is not None and _is_forgotten(error):
            # A session that has not begun yet holds nothing that would be lost.
            restores = self._recovery is Recovery.REPLAY and self._core.journal is not None
            return restores or not self.begun
        return error is None or (isinstance(error, grpc.RpcError) and recoverable(error))

    def cause(self, error: BaseException | None) -> SessionLost:
        """Why the session is lost whose last stream ended by ``error``, if by any."""
        if isinstance(error, SessionLost):
            return error
        if self._grace_period and (error is None or isinstance(error, grpc.RpcError)):
            if error is None or recoverable(error):
                return grace_period_over(self._grace_period, self._last_error)
        return session_lost(error or ConnectionError("the server closed the data stream"))


def _is_forgotten(error: BaseException) -> bool:
    """Whether the proxier does not know the session (any more)."""
    return isinstance(error, grpc.RpcError) and reason(error) == wire.REASON_SESSION_UNKNOWN


def _is_of_own_making(error: BaseException) -> bool:
    """Whether the client itself ended the call, out of patience; that is no cause to tell."""
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.CANCELLED
