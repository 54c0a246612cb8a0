"""A Redis of the test's own, for a head that keeps its state there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import Any, Optional

import pytest

from tests.support.ports import LOOPBACK, free_ports, is_open
from tests.support.waiting import eventually

_PROGRAM = "redis-server"


class Redis:
    """A running Redis on loopback, in memory. Use as a context manager.

    Skips the test where the program is missing: it is the Debian package of that name.
    """

    def __init__(self) -> None:
        if shutil.which(_PROGRAM) is None:
            pytest.skip("needs the Debian package redis-server, which .ci/run installs as root")
        (self.port,) = free_ports(1)
        self._process: Optional[subprocess.Popen] = None

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def __enter__(self) -> Redis:
        self._folder = tempfile.mkdtemp(prefix="redis", dir="/tmp")
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": self._folder,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [_PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        eventually(lambda: is_open(self.port), "Redis to listen")
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
