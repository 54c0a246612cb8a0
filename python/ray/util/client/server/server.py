"""Makes Ray Client servers: the functions that start, stop and connect one, and the program."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional, Tuple

import ray
from ray._common.network_utils import build_address, get_localhost_ip, is_localhost
from ray._common.tls_utils import add_port_to_grpc_server
from ray._private.client_mode_hook import disable_client_hook
from ray._private.grpc_utils import create_grpc_server_with_interceptors
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
from ray.util.client import protocol
from ray.util.client.common import ClientServerHandle
from ray.util.client.limits import CLIENT_SERVER_MAX_THREADS, GRPC_OPTIONS
from ray.util.client.server.dataservicer import DataServicer
from ray.util.client.server.logservicer import LogstreamServicer
from ray.util.client.server.raylet import RayletServicer

__all__ = [
    "DataServicer",
    "LogstreamServicer",
    "RayletServicer",
    "create_ray_handler",
    "init_and_serve",
    "main",
    "serve",
    "shutdown_with_server",
    "try_create_gcs_client",
]

# How long a server that has just been stopped may take to give its port back, in seconds.
_PORT_RELEASE_S = 5.0
_WILDCARDS = ("0.0.0.0", "::")


def serve(
    host: str,
    port: int,
    ray_connect_handler: Optional[Callable[..., Any]] = None,
    *,
    on_idle: Optional[Callable[[], None]] = None,
    key: Optional[str] = None,
) -> ClientServerHandle:
    """Starts a server that serves clients directly.

    Args:
        host: the address to listen on; loopback is listened on as well.
        port: the TCP port.
        ray_connect_handler: called as ``handler(job_config, **ray_init_kwargs)`` to begin Ray when
            the first client comes; ``ray.init`` if None.
        on_idle: called each time that the last client's session has ended and Ray was shut down.
        key: what callers must show; None serves everybody.

    Returns:
        The running server. Its ``stop(grace)`` stops it.

    Raises:
        RuntimeError: the port can't be had.
    """
    servicer = RayletServicer(ray_connect_handler or _init_unless_initialised)
    data_servicer = DataServicer(servicer, on_idle)
    logs_servicer = LogstreamServicer()
    grpc_server = create_grpc_server_with_interceptors(
        max_workers=int(CLIENT_SERVER_MAX_THREADS),
        thread_name_prefix="ray_client_server",
        # A port in use is to be an error, not a share of the connections.
        options=[*GRPC_OPTIONS, ("grpc.so_reuseport", 0)],
        asynchronous=False,
    )
    grpc_server.add_generic_rpc_handlers(
        (
            protocol.handler(protocol.DRIVER, servicer, key),
            protocol.handler(protocol.DATA_STREAMER, data_servicer, key),
            protocol.handler(protocol.LOG_STREAMER, logs_servicer, key),
        )
    )
    _bind(grpc_server, host, port)
    grpc_server.start()
    return ClientServerHandle(
        task_servicer=servicer,
        data_servicer=data_servicer,
        logs_servicer=logs_servicer,
        grpc_server=grpc_server,
    )


def _bind(grpc_server: Any, host: str, port: int) -> None:
    hosts = [host]
    if not is_localhost(host) and host not in _WILDCARDS:
        hosts.append(get_localhost_ip())
    give_up_at = time.monotonic() + _PORT_RELEASE_S
    for address in (build_address(h, port) for h in hosts):
        while not _bound(grpc_server, address):
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"The Ray Client server can't listen on {address}.")
            time.sleep(0.1)


def _bound(grpc_server: Any, address: str) -> bool:
    try:
        return add_port_to_grpc_server(grpc_server, address) != 0
    except RuntimeError as e:
        # gRPC says so of a port in use; missing certificates, say, are no matter of time.
        if "bind" not in str(e):
            raise
        return False


def _init_unless_initialised(job_config: Any = None, **ray_init_kwargs: Any) -> Any:
    with disable_client_hook():
        if not ray.is_initialized():
            return ray.init(job_config=job_config, **ray_init_kwargs)
    return None


def init_and_serve(
    host: str, port: int, *args: Any, **kwargs: Any
) -> Tuple[ClientServerHandle, Any]:
    """Begins Ray with ``ray.init(*args, **kwargs)`` and serves clients on it.

    Clients that come after Ray was shut down (because the last client left) get a new one, begun
    with the same arguments.

    Returns:
        The server, and what ``ray.init`` returned.
    """
    with disable_client_hook():
        info = ray.init(*args, **kwargs)

    def connect(job_config: Any = None, **ray_init_kwargs: Any) -> Any:
        return info if ray.is_initialized() else ray.init(*args, job_config=job_config, **kwargs)

    return serve(host, port, ray_connect_handler=connect), info


def shutdown_with_server(server: Any, _exiting_interpreter: bool = False) -> None:
    """Stops a server, or its gRPC server, and shuts Ray down."""
    server.stop(1)
    with disable_client_hook():
        ray.shutdown(_exiting_interpreter=_exiting_interpreter)


def create_ray_handler(
    address: Optional[str], redis_password: Optional[str], redis_username: Optional[str] = None
) -> Callable[..., None]:
    """Makes a connect handler for :func:`serve`.

    Args:
        address: the cluster's; None begins a local one.
        redis_password: of the Redis that the cluster keeps its state in, if any.
        redis_username: goes with the password.
    """
    fixed = {}
    if address:
        fixed["address"] = address
    if address and redis_password:
        fixed.update(_redis_username=redis_username, _redis_password=redis_password)

    def connect(job_config: Any = None, **ray_init_kwargs: Any) -> None:
        ray.init(job_config=job_config, **fixed, **ray_init_kwargs)

    return connect


def try_create_gcs_client(address: Optional[str]) -> GcsClient:
    """Makes a GCS client for the address, or for the Ray that is found on this machine if None."""
    return GcsClient(address=canonicalize_bootstrap_address_or_die(address))


def main() -> None:
    """Runs ``python -m ray.util.client.server``."""
    from ray.util.client.server.program import run

    run()


if __name__ == "__main__":
    main()
