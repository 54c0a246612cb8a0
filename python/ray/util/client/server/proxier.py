"""The proxier, to be run as a program or inside another one.

It takes the connections of all Ray Client sessions on a head node and gives each session a server
process of its own. Its parts are in :mod:`ray.util.client.server.proxy`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import Future
from typing import Optional

from ray.util.client.server.proxy.program import Proxier, Settings


def run_proxier(
    host: str,
    port: int,
    gcs_address: Optional[str],
    *,
    runtime_env_agent_address: Optional[str] = None,
    redis_username: Optional[str] = None,
    node_id: Optional[str] = None,
    redis_password: Optional[str] = None,
) -> None:
    """Runs a proxier until SIGTERM or SIGINT, and keeps its health key fresh.

    To be called in the main thread, for the signals' sake. On return no server process is left.

    Args:
        host: the address to listen on; loopback is always among them.
        port: the port to listen on.
        gcs_address: the cluster's address; None: the cluster that runs on this machine.
        redis_username: passed on to servers.
        redis_password: passed on to servers.
        runtime_env_agent_address: URL of this node's runtime env agent.
        node_id: this node's id in hex.

    Raises:
        OSError: the address can't be listened on.
    """
    settings = Settings(
        host,
        port,
        gcs_address,
        redis_username,
        redis_password,
        runtime_env_agent_address,
        node_id,
        report_health=True,
    )
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    proxier = Proxier(settings)
    try:
        await proxier.start()
        await signalled.wait()
    finally:
        await proxier.stop(None)


class ProxierHandle:
    """A proxier that runs in a thread of this process. Thread-safe.

    Attributes:
        grpc_server: what :meth:`stop` and :meth:`wait_for_termination` may also be called on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started: Future[None] = Future()
        self._stopped: Future[None] = Future()
        self._stop: Optional[asyncio.Future[Optional[float]]] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        # The servers' lives hang on the thread that spawns them, so this one stays to the end.
        self._thread = threading.Thread(target=self._run, name="ray_client_proxier", daemon=True)
        self.grpc_server = self

    def start(self) -> None:
        """Begins to serve; returns when it does.

        Raises:
            OSError: the address can't be listened on.
        """
        self._thread.start()
        self._started.result()

    def stop(self, grace: Optional[float]) -> Future[None]:
        """Asks the proxier to end all sessions and itself.

        Args:
            grace: seconds that calls under way may take to end.

        Returns:
            A future that is done when nothing of it is left.
        """
        assert self._loop is not None, "stop() comes after start()"
        if not self._stopped.done():
            self._loop.call_soon_threadsafe(self._ask_to_stop, grace)
        return self._stopped

    def wait_for_termination(self, timeout: Optional[float] = None) -> None:
        """Waits until the proxier has ended, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def _ask_to_stop(self, grace: Optional[float]) -> None:
        if self._stop is not None and not self._stop.done():
            self._stop.set_result(grace)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as e:  # Whatever it is, the caller of start() is to get it.
            if self._started.done():
                raise
            self._started.set_exception(e)
        finally:
            self._stopped.set_result(None)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        proxier = Proxier(self._settings)
        try:
            await proxier.start()
        except OSError as e:
            await proxier.stop(None)
            # Without its traceback, which would keep the gRPC server until after its loop's end.
            self._started.set_exception(e.with_traceback(None))
            return
        self._started.set_result(None)
        await proxier.stop(await self._stop)


def serve_proxier(
    host: str,
    port: int,
    gcs_address: Optional[str],
    *,
    runtime_env_agent_address: Optional[str] = None,
    redis_username: Optional[str] = None,
    session_dir: Optional[str] = None,
    node_id: Optional[str] = None,
    redis_password: Optional[str] = None,
) -> ProxierHandle:
    """Starts a proxier in a thread of this process.

    Args:
        host: the address to listen on; loopback is always among them.
        port: the port to listen on.
        gcs_address: the cluster's address; None: the cluster that runs on this machine.
        redis_username: passed on to servers.
        redis_password: passed on to servers.
        session_dir: not used; the cluster knows its own.
        runtime_env_agent_address: URL of this node's runtime env agent.
        node_id: this node's id in hex.

    Returns:
        The handle with which to stop it.

    Raises:
        OSError: the address can't be listened on.
    """
    handle = ProxierHandle(
        Settings(
            host,
            port,
            gcs_address,
            redis_username,
            redis_password,
            runtime_env_agent_address,
            node_id,
        )
    )
    handle.start()
    return handle
