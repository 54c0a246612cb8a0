"""A Ray Client session: its core, and what a program may ask of it.

The modules of this package are the core: decisions without I/O, threads, clocks or Ray calls.
Shells (``worker``, ``dataclient``, ``server.proxier`` …) feed these modules what happened, take
what is to be done, and do it. Time and ids are arguments.

The functions here are for programs that use ``ray.init("ray://…")``::

    from ray.util.client import session

    session.add_listener(lambda info: print(info.state, info.incarnation))
    session.info().last_recovery_s
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.util.client.session.info import SessionInfo, SessionState

__all__ = ["SessionInfo", "SessionState", "add_listener", "info", "remove_listener"]


def info() -> SessionInfo:
    """The calling thread's session as it is now. Thread-safe; never waits for the cluster.

    Raises:
        ConnectionError: there is no session; ``ray.init("ray://…")`` begins one.
    """
    return _session().info()


def add_listener(listener: Callable[[SessionInfo], None]) -> None:
    """Calls ``listener(info)`` at every change of the calling thread's session, in order.

    It is called on a thread of its own, so it may block and use the session. What it raises is
    logged. Adding it again changes nothing; the session's end removes it.

    Raises:
        ConnectionError: there is no session; ``ray.init("ray://…")`` begins one.
        TypeError: it can't be called.
    """
    if not callable(listener):
        raise TypeError(f"A listener is called with a SessionInfo; {listener!r} can't be called")
    _session().listeners.add(listener)


def remove_listener(listener: Callable[[SessionInfo], None]) -> None:
    """Calls ``listener`` no more. Nothing happens if it was not added.

    Raises:
        ConnectionError: there is no session; ``ray.init("ray://…")`` begins one.
    """
    _session().listeners.remove(listener)


def _session() -> Any:
    # The core must be importable without the client that is built on it.
    from ray.util.client import ray

    worker = ray.get_context().client_worker
    if worker is None:
        raise ConnectionError('There is no Ray Client session: call ray.init("ray://…") first.')
    return worker.data_client
