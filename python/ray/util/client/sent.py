"""Errors that a server has sent, until somebody asks what they are.

Unpickling runs foreign code, which may import a module that is waiting for the session right now,
or raise whatever it likes. So it is done where the error is asked for, as with values, and never
on the threads that bring the answers.
"""

from __future__ import annotations

import ray.cloudpickle as cloudpickle
from ray.util.client.session.errors import ProtocolError


class SentError(Exception):
    """Stands for an error that is still pickled. Whoever takes it raises what it reads.

    Args:
        pickled: the error, as the server pickled it.
        of: the name of the object whose own outcome it is, as a value would be; empty if of none.
    """

    def __init__(self, pickled: bytes, of: bytes = b"") -> None:
        super().__init__("an error of the server's")
        self.pickled = pickled
        self.of = of

    def read(self) -> Exception:
        """As :func:`error_from`."""
        return error_from(self.pickled)


def opened(error: BaseException) -> BaseException:
    """The error itself, read if it was sent."""
    return error.read() if isinstance(error, SentError) else error


def error_from(pickled: bytes) -> Exception:
    """The exception that a server sent; where it can't be unpickled here, the reason for that.

    Raises:
        BaseException: what the unpickled code raised that is no Exception, such as a SystemExit.
    """
    try:
        error = cloudpickle.loads(pickled)
    except Exception as e:  # Unpickling runs foreign code and may raise anything.
        return e
    return error if isinstance(error, Exception) else ProtocolError(f"Not an error: {error!r}")
