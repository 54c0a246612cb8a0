"""Keeps Ray from starting a cluster of its own in place of a session that was lost.

Ray's API begins a local cluster when it is used without a connection. After the loss of a session
that would hide the loss: the program would go on, elsewhere and without its objects.
"""

from __future__ import annotations

import threading
from typing import Any

from ray._private import auto_init_hook

_lock = threading.Lock()
_lost: set[int] = set()
_wanted = auto_init_hook.enable_auto_connect


def forbid(session: Any) -> None:
    """``session`` is lost: until :meth:`allow`, Ray's API raises instead of beginning anew."""
    with _lock:
        _lost.add(id(session))
        auto_init_hook.enable_auto_connect = False


def allow(session: Any) -> None:
    """The user has ended ``session``, lost or not, on purpose. Idempotent."""
    with _lock:
        _lost.discard(id(session))
        auto_init_hook.enable_auto_connect = _wanted and not _lost
