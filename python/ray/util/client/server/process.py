"""How a specific server's process ends: with the one that started it, and in bounded time."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Iterator, Optional

logger = logging.getLogger(__name__)

PARENT_PID_ENV = "RAY_CLIENT_SERVER_PARENT_PID"

_PR_SET_PDEATHSIG = 1


def _ask_for_death_signal() -> None:
    """Has the kernel kill this process when the thread that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        logger.warning("prctl failed: %s", os.strerror(ctypes.get_errno()))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class ParentWatch:
    """Tells whether the process that this one belongs to still lives.

    The kernel's death signal does so at once. This covers what it can't: that the parent died
    before the signal was asked for, and a shell of a runtime env between the two.

    Args:
        owner: pid of the process that this one belongs to; None where that is not known.
    """

    def __init__(self, owner: Optional[int]) -> None:
        self._owner = owner
        self._parent = os.getppid()

    @classmethod
    def begin(cls) -> ParentWatch:
        """Asks for the death signal (on Linux), and reads the owner from the environment."""
        told = os.environ.get(PARENT_PID_ENV, "")
        watch = cls(int(told) if told.isdecimal() else None)
        if sys.platform == "linux":
            _ask_for_death_signal()
        if watch.is_gone():
            raise SystemExit("The process that started this server is gone already.")
        return watch

    def is_gone(self) -> bool:
        """Whether the owner, or the parent that this process had at first, is gone."""
        if os.getppid() != self._parent:
            return True
        return self._owner is not None and not _is_alive(self._owner)


@contextmanager
def exit_within(seconds: float) -> Iterator[None]:
    """Ends the process with exit code 0 if it is still there ``seconds`` from now.

    To be held round the last things that it does: the time runs on after the block.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
    yield
