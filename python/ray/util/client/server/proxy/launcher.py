"""Starts the processes of specific servers and waits until they listen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from typing import Any, Dict, List, Optional

from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.util.client.server.proxy.process import ServerProcess
from ray.util.client.session import wire

# Tells the server whose child it is, so that it can notice when that parent is gone.
PARENT_PID_ENV = "RAY_CLIENT_SERVER_PARENT_PID"
SPECIFIC_SERVER = "--mode=specific-server"
# Tells the server that no session is there yet that could be late.
WARM_ENV = "RAY_CLIENT_SERVER_WARM"
READY_TIMEOUT_S = float(os.environ.get("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", 30))
_POLL_S = 0.02


class NotReady(Exception):
    """The server died, or did not listen in time; the text says which."""


class Launcher:
    """Starts servers for one cluster.

    Args:
        gcs_address: the cluster's address.
        host: where servers listen.
        redis_username: as given to the proxier.
        redis_password: as given to the proxier; reaches servers in their environment alone.
    """

    def __init__(
        self,
        gcs_address: str,
        host: str,
        redis_username: Optional[str] = None,
        redis_password: Optional[str] = None,
    ) -> None:
        self._gcs_address = gcs_address
        self._host = host
        self._redis_username = redis_username
        self._redis_password = redis_password
        self._node: Optional[Any] = None
        self._node_lock = asyncio.Lock()

    async def launch(
        self, port: int, runtime_env_context: Optional[str], warm: bool = False
    ) -> ServerProcess:
        """Starts a server.

        Args:
            port: what it is to listen on.
            runtime_env_context: the agent's answer; None for a server in this very environment.
            warm: whether it is to wait for its session for as long as it takes.

        Raises:
            OSError: the process or its log files could not be made, or the cluster's store does
                not tell where these are to lie.
        """
        node = await self._local_node()
        out, err = node.get_log_file_handles(f"ray_client_server_{port}", unique=True)
        return await ServerProcess.spawn(
            self._command(port, runtime_env_context, warm), self._env(warm), out, err
        )

    async def wait_ready(self, process: ServerProcess, port: int) -> None:
        """Waits until the server listens.

        Raises:
            NotReady: it never will.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_TIMEOUT_S
        while loop.time() < deadline:
            if not process.alive:
                raise NotReady(process.obituary())
            if await self._listens(port):
                return
            await process.wait(_POLL_S)
        raise NotReady(f"it did not listen on port {port} within {READY_TIMEOUT_S:g} s.")

    async def _listens(self, port: int) -> bool:
        try:
            _, writer = await asyncio.open_connection(self._host, port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _local_node(self) -> Any:
        async with self._node_lock:
            if self._node is None:
                try:
                    self._node = await asyncio.to_thread(_node_at, self._gcs_address)
                except RuntimeError as e:
                    # So Ray says that its store did not answer, after many attempts.
                    text = f"the cluster's store at {self._gcs_address} does not answer: {e}"
                    raise OSError(text) from e
            return self._node

    def _command(
        self, port: int, runtime_env_context: Optional[str], warm: bool = False
    ) -> List[str]:
        server = [
            "-m",
            "ray.util.client.server",
            f"--address={self._gcs_address}",
            f"--host={self._host}",
            f"--port={port}",
        ]
        if not warm:
            # By this people find a session's server; a warm one has no session yet.
            server.append(SPECIFIC_SERVER)
        if self._redis_username:
            server.append(f"--redis-username={self._redis_username}")
        if runtime_env_context is None:
            # The set-up script would only import Ray once more and then run this.
            return [sys.executable, *server]
        return [
            sys.executable,
            _set_up_script(),
            *server,
            "--language=PYTHON",
            f"--serialized-runtime-env-context={runtime_env_context}",
        ]

    def _env(self, warm: bool = False) -> Dict[str, str]:
        env = dict(os.environ)
        if warm:
            env[WARM_ENV] = "1"
        env[PARENT_PID_ENV] = str(os.getpid())
        env[wire.SERVER_KEY_ENV] = secrets.token_hex(16)
        if self._redis_password:
            env[ray_constants.RAY_REDIS_PASSWORD_ENV] = self._redis_password
        return env


def _node_at(gcs_address: str) -> Any:
    params = RayParams(gcs_address=gcs_address)
    return Node(params, connect_only=True, shutdown_at_exit=False, spawn_reaper=False)


def _set_up_script() -> str:
    package = os.path.dirname(os.path.dirname(os.path.abspath(ray_constants.__file__)))
    return os.path.join(package, "_private", "workers", ray_constants.SETUP_WORKER_FILENAME)
