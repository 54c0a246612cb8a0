"""The error tree of a session. Each text names the cause and what can be done.

``SessionError`` is the root. What a user's call may raise is also a ``ConnectionError``, which is
what Ray Client has always raised for a broken connection. Errors carry data and derive their text.
"""

from __future__ import annotations


class SessionError(Exception):
    """Root of everything that the session's code raises on purpose."""


class IllegalTransition(SessionError):
    """A state machine was fed what its table does not allow: a fault of this program."""

    def __init__(self, machine: str, state: str, fed: str) -> None:
        super().__init__(machine, state, fed)
        self.machine, self.state, self.fed = machine, state, fed

    def __str__(self) -> str:
        return f"{self.machine}: {self.fed} is not possible in state {self.state}"


class ProtocolError(SessionError):
    """The peer sent what the protocol does not allow. The stream that carried it is closed."""


class ConnectFailed(SessionError, ConnectionError):
    """No session could be made. Subclasses say why."""


class NothingListening(ConnectFailed):
    """Nothing accepts connections at the address."""


class WrongPort(ConnectFailed):
    """Something answers at the address, but it is not a Ray Client server."""


class TlsMismatch(ConnectFailed):
    """One side speaks TLS and the other does not, or the certificates do not fit."""


class TokenRefused(ConnectFailed):
    """The cluster refused the authentication token, or none was given."""


class ServerStartFailed(ConnectFailed, ConnectionAbortedError):
    """The specific server of the session could not be started or initialised."""


class NotConnected(SessionError, ConnectionError):
    """There is no session: none was begun here, or it was shut down before the call."""


class SessionLost(SessionError, ConnectionError):
    """The session is over and can't come back.

    ``ray.shutdown()`` and then ``ray.init()`` begin a new one.
    """


class GracePeriodOver(SessionLost):
    """The connection did not come back within the reconnect grace period."""


class SessionClosed(SessionLost):
    """The session was shut down by this process."""
