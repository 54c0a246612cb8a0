"""The program: how a specific server's process begins and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import psutil
import pytest

from ray.util.client.server import process, program
from tests.support.cluster import ray_environment
from tests.support.ports import free_ports, is_open
from tests.support.waiting import eventually

TOO_LONG = 60.0
_MODULE = ["-m", "ray.util.client.server"]


def command(port: int) -> List[str]:
    return [
        sys.executable,
        *_MODULE,
        *("--host=127.0.0.1", f"--port={port}", "--mode=specific-server"),
        # Nothing connects to a cluster before a client comes.
        *("--address=127.0.0.1:1", "--language=PYTHON"),
    ]


def start(port: int, environment: Optional[Dict[str, str]] = None) -> subprocess.Popen:
    return subprocess.Popen(command(port), env=ray_environment(environment), cwd="/")


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def server(port: int) -> Iterator[subprocess.Popen]:
    """A specific server that listens."""
    running = start(port)
    eventually(lambda: is_open(port), "the server to listen")
    yield running
    running.kill()
    running.wait()


def test_sigterm_ends_it_cleanly(server: subprocess.Popen, port: int) -> None:
    server.terminate()
    assert server.wait(TOO_LONG) == 0
    assert not is_open(port)


def test_ctrl_c_is_not_for_it(server: subprocess.Popen) -> None:
    server.send_signal(signal.SIGINT)
    # Had SIGINT ended it, its exit code would not be 0.
    server.terminate()
    assert server.wait(TOO_LONG) == 0


def test_without_a_client_it_gives_up(port: int) -> None:
    server = start(port, {"TIMEOUT_FOR_SPECIFIC_SERVER_S": "0"})
    assert server.wait(TOO_LONG) == 0


def test_a_port_in_use_is_an_error(server: subprocess.Popen, port: int) -> None:
    second = subprocess.Popen(
        command(port), env=ray_environment(), cwd="/", stderr=subprocess.PIPE, text=True
    )
    _, said = second.communicate(timeout=TOO_LONG)
    assert second.returncode != 0
    assert f"can't listen on 127.0.0.1:{port}" in said


_STARTER = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], cwd="/")
print(child.pid, flush=True)
child.wait()
"""


def test_it_dies_with_the_process_that_started_it(port: int) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, *command(port)],
        env=ray_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    server = psutil.Process(int(starter.stdout.readline()))
    eventually(lambda: is_open(port), "the server to listen")
    starter.kill()
    starter.wait()
    starter.stdout.close()
    eventually(lambda: _has_ended(server), "the server's end")


def test_it_dies_with_the_owner_that_is_not_its_parent(port: int) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    server = start(port, {process.PARENT_PID_ENV: str(owner.pid)})
    eventually(lambda: is_open(port), "the server to listen")
    owner.kill()
    owner.communicate()
    assert server.wait(TOO_LONG) == 0


def test_it_does_not_begin_for_an_owner_that_is_gone(port: int) -> None:
    owner = subprocess.Popen([sys.executable, "-c", ""])
    owner.wait()
    server = start(port, {process.PARENT_PID_ENV: str(owner.pid)})
    assert server.wait(TOO_LONG) != 0


def _has_ended(of: psutil.Process) -> bool:
    return not of.is_running() or of.status() == psutil.STATUS_ZOMBIE


def test_it_starts_without_the_proxy(tmp_path: Path) -> None:
    code = "import sys, ray.util.client.server.program; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=ray_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    assert "ray.util.client.server.server" in loaded
    assert not [name for name in loaded if ".server.prox" in name]


def test_the_command_line_is_stocks() -> None:
    args = program.parse(
        ["--address=h:1", "-p", "5", "--mode=legacy", "--node-id=ab", "--redis-username=u", "--x=y"]
    )
    assert (args.address, args.port, args.mode, args.node_id) == ("h:1", 5, "legacy", "ab")
    assert program.parse([]).port == 10001
    assert program.parse([]).mode == "proxy"


def test_this_process_is_not_orphaned() -> None:
    assert not process.ParentWatch(os.getpid()).is_gone()
