"""Finding, killing and accounting for processes. Nothing here touches a process by its name alone:
every process is a descendant of one that a test started.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import Iterable, Iterator, List

import psutil

from tests.support.waiting import eventually

_STOP_S = 20.0
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


def command_of(process: psutil.Process) -> str:
    """Returns the command line, or an empty string if the process is gone."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def parent_of(process: psutil.Process) -> int:
    """Returns the pid of the parent; 0 if the process is gone."""
    try:
        return process.ppid()
    except _GONE:
        return 0


def descendants(pid: int) -> List[psutil.Process]:
    """Returns every living descendant of a process; none if it is gone itself."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_running(process: psutil.Process) -> bool:
    """Tells whether the process still runs; a zombie does not.

    The main thread of a killed process may be a zombie while others still run.
    """
    try:
        if not process.is_running():
            return False
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def wait_gone(process: psutil.Process) -> None:
    """Returns once the process has ended, whether or not its parent has reaped it."""
    eventually(lambda: not is_running(process), f"the end of process {process.pid}")


def wait_some(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Waits until all of them have ended, or ``seconds`` are over."""
    # psutil's own wait may fail if one is reaped, by whoever is its parent, in the midst of it.
    with suppress(AssertionError):
        eventually(lambda: not any(map(is_running, processes)), "their end", seconds)


def kill(process: psutil.Process) -> None:
    """Sends SIGKILL and waits until the process no longer runs."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
    wait_gone(process)


def end(root: subprocess.Popen, others: Iterable[psutil.Process]) -> None:
    """Ends a process with SIGTERM, and ``others``, which share its fate; by force what is slow."""
    root.terminate()
    try:
        root.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        root.kill()
        root.wait()
    # They may do so with a delay.
    wait_some(others, _STOP_S / 2)
    for process in others:
        if is_running(process):
            kill(process)


@contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    """Stops the process (SIGSTOP) for the length of the block: what it serves hangs meanwhile."""
    process.suspend()
    try:
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the process to stop")
        yield
    finally:
        if is_running(process):
            os.kill(process.pid, signal.SIGCONT)


def open_sockets(process: psutil.Process) -> List[psutil._common.sconn]:
    """Returns the process's internet sockets; none if it is gone."""
    try:
        listed = getattr(process, "net_connections", None) or process.connections
        return listed(kind="inet")
    except _GONE:
        return []
