"""The proxier put together: a gRPC server on a loop, the sessions behind it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import List, Optional

from ray._common.network_utils import build_address, get_localhost_ip, is_localhost
from ray._common.tls_utils import add_port_to_grpc_server
from ray._private.grpc_utils import create_grpc_server_with_interceptors
from ray._private.ray_constants import env_integer
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsLogSubscriber
from ray.util.client.limits import GRPC_OPTIONS
from ray.util.client.server.proxy import health
from ray.util.client.server.proxy.gcs import Gcs
from ray.util.client.server.proxy.host import Hosts
from ray.util.client.server.proxy.launcher import Launcher
from ray.util.client.server.proxy.methods import Methods
from ray.util.client.server.proxy.output import Outputs
from ray.util.client.server.proxy.packages import Packages
from ray.util.client.server.proxy.ports import Ports
from ray.util.client.server.proxy.runtime_env import RuntimeEnvAgent
from ray.util.client.server.proxy.starter import Starter

logger = logging.getLogger(__name__)

# How many servers wait for sessions to come, or to lose theirs.
WARM_SERVERS = env_integer("RAY_CLIENT_WARM_SERVERS", 1)

# Two proxiers must not share a port: clients would meet the one that lacks their session.
_OPTIONS = [*GRPC_OPTIONS, ("grpc.so_reuseport", 0)]


@dataclass(frozen=True)
class Settings:
    """What a proxier is started with.

    Attributes:
        host: the address to listen on.
        port: the port to listen on.
        gcs_address: the cluster's; None: the one that runs on this machine.
        redis_username: passed on to servers.
        redis_password: passed on to servers.
        runtime_env_agent_address: URL of this node's runtime env agent.
        node_id: this node's id in hex.
        report_health: whether to keep the health key fresh.
    """

    host: str
    port: int
    gcs_address: Optional[str] = None
    redis_username: Optional[str] = None
    redis_password: Optional[str] = None
    runtime_env_agent_address: Optional[str] = None
    node_id: Optional[str] = None
    report_health: bool = False


class Proxier:
    """A proxier. To be made, started and stopped on one loop; servers die with its thread.

    Args:
        settings: see there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        address = settings.gcs_address or canonicalize_bootstrap_address_or_die(None)
        local = get_localhost_ip()
        self._gcs = Gcs(address)
        launcher = Launcher(address, local, settings.redis_username, settings.redis_password)
        self._agent = RuntimeEnvAgent(settings.runtime_env_agent_address, address, settings.node_id)
        ports = Ports.scattered(local)
        self._starter = Starter(local, launcher, self._agent, ports, WARM_SERVERS)
        self._outputs = Outputs(lambda: GcsLogSubscriber(address=address))
        self._hosts = Hosts(self._starter, Packages(self._gcs), self._outputs)
        self._server = create_grpc_server_with_interceptors(options=_OPTIONS, asynchronous=True)
        self._server.add_generic_rpc_handlers((Methods(self._hosts, self._gcs),))
        self._health: Optional[asyncio.Task] = None

    async def start(self) -> None:
        """Begins to serve.

        Raises:
            OSError: the address can't be listened on.
        """
        for address in self._addresses():
            try:
                bound = add_port_to_grpc_server(self._server, address)
            except RuntimeError as e:
                raise OSError(f"Ray Client server can't listen on {address}: {e}") from e
            if not bound:
                raise OSError(f"Ray Client server can't listen on {address}.")
        await self._server.start()
        self._starter.begin()
        if self._settings.report_health:
            self._health = asyncio.ensure_future(health.keep_reporting(self._gcs))
        logger.info("Ray Client server listens on %s.", ", ".join(self._addresses()))

    async def stop(self, grace: Optional[float]) -> None:
        """Ends all sessions, kills and reaps their servers, and stops to serve.

        Args:
            grace: seconds that calls under way may take to end; None: none.
        """
        if self._health is not None:
            self._health.cancel()
        await self._hosts.shutdown()
        await self._starter.close()
        await self._server.stop(grace)
        await self._outputs.close()
        self._agent.close()
        self._gcs.close()

    def _addresses(self) -> List[str]:
        host, port = self._settings.host, self._settings.port
        addresses = [build_address(host, port)]
        if not is_localhost(host) and host not in ("0.0.0.0", "::"):
            # Programs on the head node itself look for the server on loopback.
            addresses.append(build_address(get_localhost_ip(), port))
        return addresses
