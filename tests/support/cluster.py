"""A real Ray head on the loopback interface, with a Ray Client server, ended without a trace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import psutil

from tests.support.ports import LOOPBACK, NODE_ADDRESS, free_ports, is_open
from tests.support.processes import (
    command_of,
    descendants,
    end,
    is_running,
    parent_of,
    wait_gone,
)
from tests.support.waiting import eventually

# Variables that all heads get. For plugins of pytest, which run before any head is started.
EXTRA: Dict[str, str] = {}
# Long enough for a head on a busy machine with few cores.
_START_S = 120.0
_SERVER_MARK = "ray.util.client.server"
# How a server without a session calls itself.
_WARM_MARK = "waiting for a session"
# What the proxier logs of a session.
_BEGUN = re.compile(r"Server number \d+ of client (\S+) listens on port \d+, pid (\d+)")
_OVER = re.compile(r"Session of client (\S+) is over")


def ray_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """Returns this process's environment without what would steer Ray, plus ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept.pop("PYTHONPATH", None)
    ours = {
        "PYTHONUNBUFFERED": "1",
        # A head asks for a token by default and would leave one in the user's home.
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return {**kept, **ours, **(extra or {})}


@dataclass(frozen=True)
class ClusterOptions:
    """How to start a head.

    Attributes:
        python: the interpreter whose Ray is started.
        environment: variables that the head's processes get (``RAY_USE_TLS`` and such).
        cpus: logical CPUs that the head offers.
        object_store_bytes: how much the head's object store holds in memory.
    """

    python: str
    environment: Dict[str, str] = field(default_factory=dict)
    cpus: int = 4
    object_store_bytes: int = 200 * 2**20


class Cluster:
    """A running head. Use as a context manager; it leaves no process and no file behind."""

    def __init__(self, options: ClusterOptions) -> None:
        self.options = options
        self.gcs_port, self.client_port, self._metrics, agent, agent_grpc, env_agent = free_ports(6)
        self._ports = [agent, agent_grpc, env_agent]
        # Unix socket paths are limited to 107 bytes, hence not pytest's long tmp_path.
        self.folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
        self._head: Optional[subprocess.Popen] = None
        self._proxier: Optional[psutil.Process] = None
        self._seen: Set[psutil.Process] = set()

    @property
    def address(self) -> str:
        """The address that a client connects to."""
        return f"ray://{LOOPBACK}:{self.client_port}"

    @property
    def gcs_address(self) -> str:
        return f"{NODE_ADDRESS}:{self.gcs_port}"

    @property
    def proxier(self) -> psutil.Process:
        """The process that listens at the client port."""
        assert self._proxier is not None, "the cluster is not running"
        return self._proxier

    @property
    def head_pid(self) -> int:
        """The process that started the head, a child of this one."""
        assert self._head is not None, "the cluster is not running"
        return self._head.pid

    @property
    def logs(self) -> Path:
        """The folder of the log files of this head's session."""
        return self.folder / "session_latest" / "logs"

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ray(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Runs the ``ray`` command of the head's installation and returns what it printed."""
        return subprocess.run(
            [*self.command, *arguments],
            env=ray_environment(self.options.environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=check,
            timeout=_START_S,
        )

    def servers(self) -> List[psutil.Process]:
        """Returns the specific servers that run now, oldest first."""
        found = [
            process
            for process in descendants(self.proxier.pid)
            if "--mode=specific-server" in command_of(process) and is_running(process)
        ]
        parents = {parent_of(process) for process in found}
        servers = [process for process in found if process.pid not in parents]
        self._seen.update(servers)
        return sorted(servers, key=lambda process: process.create_time())

    def sessions(self) -> Set[str]:
        """Returns the clients whose sessions go on, with a server or between two; for the fork's
        head only, whose proxier logs a session's beginning and its end."""
        text = self._proxier_log()
        return {client for client, _ in _BEGUN.findall(text)} - set(_OVER.findall(text))

    def server_of(self, client_id: str) -> Optional[psutil.Process]:
        """Returns the server that a session was given last, if it runs; for the fork's head only,
        and a moment late, as :meth:`sessions`."""
        begun = _BEGUN.findall(self._proxier_log())
        pids = [int(pid) for client, pid in begun if client == client_id]
        return next((server for server in self.servers() if server.pid in pids[-1:]), None)

    def _proxier_log(self) -> str:
        log = self.logs / "ray_client_server.err"
        return log.read_text(errors="replace") if log.exists() else ""

    def next_server(self, *known: psutil.Process) -> psutil.Process:
        """Waits until a specific server runs that is none of ``known``, and returns it."""

        def fresh() -> Optional[psutil.Process]:
            return next((server for server in self.servers() if server not in known), None)

        found = eventually(fresh, "a new specific server")
        assert found is not None
        return found

    def wait_warm(self) -> None:
        """Returns once a server stands warm; for the fork's head only."""

        def stands() -> bool:
            found = descendants(self.proxier.pid)
            return any(_WARM_MARK in command_of(process) for process in found)

        eventually(stands, "a server that stands warm")

    def wait_no_servers(self) -> None:
        """Returns once no specific server runs any more."""
        eventually(lambda: not self.servers(), "the end of every specific server")

    def terminate(self) -> None:
        """Ends the head as its user would (SIGTERM), and returns once its own process is gone."""
        assert self._head is not None, "the cluster is not running"
        self._seen.update(descendants(self._head.pid))
        self._head.terminate()
        self._head.wait()

    def kill(self) -> None:
        """Ends every process of the head, the clients' servers included, with SIGKILL."""
        assert self._head is not None, "the cluster is not running"
        # Processes that begin meanwhile end by themselves, for want of their parents.
        self._seen.update(descendants(self._head.pid))
        for process in (self._head, *self._seen):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._head.wait()
        for process in self._seen:
            wait_gone(process)

    def start_again(self) -> None:
        """Starts the head again, after :meth:`kill`, at the same ports."""
        self._stop()
        # By this, and another node's processes, Ray takes the dead head for running.
        (self.folder / "ray_current_cluster").unlink(missing_ok=True)
        self._start()

    def leftovers(self) -> List[str]:
        """Returns a line for each process that outlived the head; empty when all is well."""
        return [f"{p.pid} {command_of(p)}" for p in self._seen if is_running(p)]

    @property
    def command(self) -> List[str]:
        """The ``ray`` program of the head's installation."""
        return [str(Path(self.options.python).parent / "ray")]

    def _start(self) -> None:
        agent, agent_grpc, env_agent = self._ports
        arguments = {
            "port": self.gcs_port,
            "ray-client-server-port": self.client_port,
            "node-ip-address": NODE_ADDRESS,
            "temp-dir": self.folder,
            "num-cpus": self.options.cpus,
            "object-store-memory": self.options.object_store_bytes,
            "include-dashboard": "false",
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": agent_grpc,
            "runtime-env-agent-port": env_agent,
            "metrics-export-port": self._metrics,
            # Free ones, else two heads on one machine hand out the same.
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        output = (self.folder / "head.log").open("wb")
        with output:
            self._head = subprocess.Popen(
                [*self.command, "start", "--head", "--block", "--disable-usage-stats", *flags],
                env=ray_environment({**EXTRA, **self.options.environment}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually(self._is_up, "the head to start", _START_S)
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{self._output()}") from None

    def _output(self) -> str:
        return (self.folder / "head.log").read_text(errors="replace")

    def _is_up(self) -> bool:
        assert self._head is not None
        if self._head.poll() is not None:
            raise RuntimeError(f"the head did not start:\n{self._output()}")
        if "Ray runtime started" not in self._output() or not is_open(self.client_port):
            return False
        self._proxier = next(
            process
            for process in descendants(self._head.pid)
            if _SERVER_MARK in command_of(process) and "--mode=proxy" in command_of(process)
        )
        return True

    def _stop(self) -> None:
        if self._head is None:
            return
        # While it starts it may get children after they were listed, which nobody would end.
        self._head.send_signal(signal.SIGSTOP)
        self._seen.update(descendants(self._head.pid))
        self._head.terminate()
        self._head.send_signal(signal.SIGCONT)
        end(self._head, self._seen)
        self._head = None
