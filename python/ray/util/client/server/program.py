"""The program ``python -m ray.util.client.server`` and its three modes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence

import ray
from ray._common.network_utils import build_address, get_all_interfaces_ip
from ray._private import ray_constants
from ray._private.ray_logging import setup_logger
from ray.experimental import internal_kv
from ray.util.client.server import server
from ray.util.client.server.process import ParentWatch, exit_within
from ray.util.client.session import wire

logger = logging.getLogger("ray.util.client.server.server")

# Seconds that a specific server waits for its client before it gives up.
TIMEOUT_FOR_SPECIFIC_SERVER_S = ray_constants.env_integer("TIMEOUT_FOR_SPECIFIC_SERVER_S", 30)

# Seconds between two looks at the parent, at the clients, or health reports.
_TICK_S = 1.0
# Seconds that Ray's shutdown may take before the process ends without it.
_SHUTDOWN_S = 5.0

# Set by a proxier for a server that it keeps ready: a client may come at any time.
WARM_ENV = "RAY_CLIENT_SERVER_WARM"

HEALTH_KEY = "ray_client_server"


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Parses the command line. Options of other programs that share it are passed over."""
    parser = argparse.ArgumentParser(prog="python -m ray.util.client.server")
    parser.add_argument(
        "--host", default=get_all_interfaces_ip(), help="Address to listen on (default: all)."
    )
    parser.add_argument("-p", "--port", type=int, default=10001, help="TCP port to listen on.")
    parser.add_argument(
        "--mode",
        choices=["proxy", "legacy", "specific-server"],
        default="proxy",
        help="proxy: a server process for each client; legacy: serve all clients here; "
        "specific-server: what a proxy starts.",
    )
    parser.add_argument("--address", help="Address of the Ray cluster.")
    parser.add_argument("--redis-username", help="User name for the cluster's Redis, if any.")
    parser.add_argument("--runtime-env-agent-address", help="URL of the runtime env agent.")
    parser.add_argument("--node-id", help="Hex id of this node.")
    args, _ = parser.parse_known_args(argv)
    if WARM_ENV in os.environ:
        args.mode = "specific-server"
    return args


def run(argv: Optional[Sequence[str]] = None) -> None:
    """Runs the program until it is told to stop. ``argv`` defaults to the process's own."""
    args = parse(argv)
    setup_logger(ray_constants.LOGGER_LEVEL, ray_constants.LOGGER_FORMAT)
    where = build_address(args.host, args.port)
    logger.info("Starting Ray Client server on %s, args %s", where, args)
    _MODES[args.mode](args, os.environ.get(ray_constants.RAY_REDIS_PASSWORD_ENV))


def _run_proxy(args: argparse.Namespace, redis_password: Optional[str]) -> None:
    # Here, since specific servers start faster without it.
    from ray.util.client.server.proxier import run_proxier

    redis = {"redis_username": args.redis_username, "redis_password": redis_password}
    agent_address = args.runtime_env_agent_address
    run_proxier(
        *(args.host, args.port, args.address),
        **redis,
        runtime_env_agent_address=agent_address,
        node_id=args.node_id,
    )


def _run_legacy(args: argparse.Namespace, redis_password: Optional[str]) -> None:
    connect = server.create_ray_handler(args.address, redis_password, args.redis_username)
    handle = server.serve(args.host, args.port, connect)
    try:
        while True:
            _report_health(args.address)
            time.sleep(_TICK_S)
    except KeyboardInterrupt:
        handle.stop(0)


def _report_health(address: Optional[str]) -> None:
    """Keeps the key fresh that ``ray health-check --component ray_client_server`` reads."""
    try:
        if not internal_kv._internal_kv_initialized():
            internal_kv._initialize_internal_kv(server.try_create_gcs_client(address))
        internal_kv._internal_kv_put(
            HEALTH_KEY,
            json.dumps({"time": time.time()}),
            namespace=ray_constants.KV_NAMESPACE_HEALTHCHECK,
        )
    except Exception:  # The cluster may be away for a while; the next tick tries again.
        logger.exception("Failed to put health check on %s", address)


def _run_specific_server(args: argparse.Namespace, redis_password: Optional[str]) -> None:
    # Ctrl-C of a foreground head reaches the whole group; the proxy decides who ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    parent = ParentWatch.begin()
    client_left = threading.Event()
    connect = server.create_ray_handler(args.address, redis_password, args.redis_username)
    warm = os.environ.pop(WARM_ENV, None) is not None
    if warm:
        connect = _named_when_called(connect)
    # Out of the environment: what this server starts need not know it.
    key = os.environ.pop(wire.SERVER_KEY_ENV, None)
    handle = server.serve(args.host, args.port, connect, on_idle=client_left.set, key=key)
    try:
        _serve_client(handle, client_left, parent, patient=warm)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with exit_within(_SHUTDOWN_S):
            handle.stop(0)
            handle.task_servicer.lifetime.end_if(lambda: True)


def _leave(signum: int, frame: Any) -> None:
    raise SystemExit(0)


def _named_when_called(connect: Callable[..., None]) -> Callable[..., None]:
    """Gives this process one title now, and another one when ``connect`` is called.

    People, and scripts, find a session's server by the command line.
    """
    title = f"{ray._raylet.getproctitle()} --mode=specific-server"
    ray._raylet.setproctitle("ray-client-server: waiting for a session")

    def named(*args: Any, **kwargs: Any) -> None:
        ray._raylet.setproctitle(title)
        connect(*args, **kwargs)

    return named


def _serve_client(
    handle: Any, client_left: threading.Event, parent: ParentWatch, patient: bool = False
) -> None:
    """Returns when the client has left, or the parent process is gone.

    Also when no client comes in time, unless it is ``patient``.
    """
    give_up_at = math.inf if patient else time.monotonic() + TIMEOUT_FOR_SPECIFIC_SERVER_S
    while not client_left.wait(_TICK_S):
        if parent.is_gone():
            logger.warning("The process that started this server is gone.")
            return
        if handle.data_servicer.num_clients:
            give_up_at = time.monotonic() + TIMEOUT_FOR_SPECIFIC_SERVER_S
        elif time.monotonic() > give_up_at:
            logger.info("No client came within %d s.", TIMEOUT_FOR_SPECIFIC_SERVER_S)
            return
    logger.info("The client has left.")


_MODES: Dict[str, Callable[[argparse.Namespace, Optional[str]], None]] = {
    "proxy": _run_proxy,
    "legacy": _run_legacy,
    "specific-server": _run_specific_server,
}
