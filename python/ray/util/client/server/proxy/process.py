"""One specific server's process: watched, ended and reaped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from typing import IO, Dict, Optional, Sequence

from ray.util.client.session import wire

# How much of a dead server's log is worth showing.
TAIL_BYTES = 4096
# For how long a server may take to leave when it is asked to.
TERM_S = 5.0


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"it exited with code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    text = f"it was killed by signal {-returncode} ({name})"
    return text + ", maybe because memory ran out" if -returncode == signal.SIGKILL else text


class _ExitProbe:
    """Tells at once whether a child has exited, before the loop gets to hear of it.

    It holds a descriptor until it is closed.
    """

    def __init__(self, pid: int) -> None:
        self._poll = select.poll()
        try:
            self._fd: Optional[int] = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self._fd = None  # Not on this system, or gone already; the loop will tell.
            return
        self._poll.register(self._fd, select.POLLIN)

    def exited(self) -> bool:
        return bool(self._poll.poll(0)) if self._fd is not None else False

    def close(self) -> None:
        """Frees the descriptor; the loop has heard of the exit."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class ServerProcess:
    """A child process. To be used on the loop that spawned it.

    Attributes:
        pid: its process id.
        log_name: the base name of its stderr log; None if it has none.
        key: what it was told to ask of its callers; "" if nothing.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, log_path: Optional[str], key: str = ""
    ) -> None:
        self.key = key
        self._process = process
        self._log_path = log_path
        self._exit = asyncio.ensure_future(process.wait())
        self._kernel = _ExitProbe(process.pid)
        # Not left to the garbage collector: each of a session's many servers has one.
        self._exit.add_done_callback(lambda _: self._kernel.close())
        self.pid = process.pid
        self.log_name = os.path.basename(log_path) if log_path else None

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        env: Dict[str, str],
        stdout: Optional[IO],
        stderr: Optional[IO],
    ) -> ServerProcess:
        """Starts ``command``; the two files are closed here, whatever happens.

        No ``preexec_fn`` and no new session: CPython then takes vfork, after which nothing of this
        process, whose gRPC threads hold locks, runs in the child.

        Raises:
            OSError: the process could not be started.
        """
        log_path = getattr(stderr, "name", None)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env
            )
        finally:
            for file in (stdout, stderr):
                if file is not None:
                    file.close()
        key = env.get(wire.SERVER_KEY_ENV, "")
        return cls(process, log_path if isinstance(log_path, str) else None, key)

    @property
    def alive(self) -> bool:
        """Whether the exit was not seen yet by this loop."""
        return not self._exit.done()

    def exited(self) -> bool:
        """Asks the kernel whether the process is gone: what is sent from now on has no effect."""
        return self._exit.done() or self._kernel.exited()

    async def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for the exit, at most ``timeout`` seconds. Returns whether the process is gone."""
        await asyncio.wait({self._exit}, timeout=timeout)
        return self._exit.done()

    async def end(self, gently: bool) -> None:
        """Ends the process and reaps it, with a few seconds to leave on its own if ``gently``."""
        if gently and self.alive:
            self._signal(signal.SIGTERM)
            await self.wait(TERM_S)
        if self.alive:
            self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def obituary(self) -> str:
        """How the process ended, with the end of its log."""
        how = _how(self._exit.result()) if self._exit.done() else "it did not answer"
        tail = self._tail()
        if not tail:
            return f"{how}."
        return f"{how}. The end of its log {self.log_name}:\n{tail}"

    def _tail(self) -> str:
        if self._log_path is None:
            return ""
        try:
            with open(self._log_path, "rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL_BYTES))
                return log.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""
