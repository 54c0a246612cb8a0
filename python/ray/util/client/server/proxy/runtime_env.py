"""Asks the node's runtime env agent to set up the environment that a server is to run in."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Optional
from urllib.parse import urlparse, urlunparse

from ray._private.authentication.http_token_authentication import (
    format_authentication_http_error,
    get_auth_headers_if_auth_enabled,
)
from ray._private.services import get_node_with_retry
from ray.core.generated import runtime_env_agent_pb2 as agent_pb2
from ray.util.client.server.proxy.job_config import RuntimeEnvSpec

# The agent bounds its own work by the environment's setup timeout; this ends dead connections.
_ANSWER_S = 3600
# An agent that has just been started may not listen yet: 0.5 + 1 + 2 + 4 + 8 s.
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_THREADS = 16


class RuntimeEnvFailed(Exception):
    """The environment can't be set up; the text says why. Trying again would not help."""


class RuntimeEnvAgent:
    """The agent of this node.

    Args:
        address: its URL; the port may be missing or 0, it is then read from the cluster.
        gcs_address: the cluster's address.
        node_id: this node's id in hex; needed where the URL has no port.
    """

    def __init__(self, address: Optional[str], gcs_address: str, node_id: Optional[str]) -> None:
        self._address = address
        self._gcs_address = gcs_address
        self._node_id = node_id
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ray_client_runtime_env")

    async def set_up(self, spec: RuntimeEnvSpec, owner: str) -> str:
        """Sets the environment up, or finds it set up.

        Args:
            spec: the environment.
            owner: a name for whom it is made, for the agent's log.

        Returns:
            The serialised context that a worker's set-up script takes.

        Raises:
            RuntimeEnvFailed: see there.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._request, spec, owner)

    def close(self) -> None:
        """Lets go of the threads. Requests under way are not waited for."""
        self._threads.shutdown(wait=False)

    def _request(self, spec: RuntimeEnvSpec, owner: str) -> str:
        body = agent_pb2.GetOrCreateRuntimeEnvRequest(
            serialized_runtime_env=spec.serialized,
            runtime_env_config=spec.config,
            job_id=owner.encode(),
            source_process="client_server",
        ).SerializeToString()
        reply = agent_pb2.GetOrCreateRuntimeEnvReply()
        reply.ParseFromString(self._post(body))
        if reply.status != agent_pb2.AgentRpcStatus.AGENT_RPC_STATUS_OK:
            raise RuntimeEnvFailed(
                "Failed to create runtime_env for Ray client server, it is caused by:\n"
                + reply.error_message
            )
        return reply.serialized_runtime_env_context

    def _post(self, body: bytes) -> bytes:
        url = urllib.parse.urljoin(self._url(), "/get_or_create_runtime_env")
        headers = {"Content-Type": "application/octet-stream"}
        headers.update(get_auth_headers_if_auth_enabled(headers))
        trouble = ""
        for pause in (*_PAUSES_S, None):
            request = urllib.request.Request(url, data=body, method="POST", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                    return answer.read()
            except urllib.error.HTTPError as e:
                trouble = f"HTTP {e.code}: {e.read().decode('utf-8', 'replace') or e.reason}"
                refused = format_authentication_http_error(e.code, trouble)
                if refused:
                    raise RuntimeEnvFailed(refused) from e
            except OSError as e:
                trouble = str(e)
            if pause is not None:
                time.sleep(pause)
        raise RuntimeEnvFailed(f"The runtime env agent at {url} does not answer: {trouble}")

    def _url(self) -> str:
        if not self._address:
            raise RuntimeEnvFailed(
                "This proxy server was started without --runtime-env-agent-address, so sessions "
                "with a runtime environment can't be served."
            )
        parsed = urlparse(self._address)
        if parsed.port:
            return self._address
        if self._node_id is None:
            raise RuntimeEnvFailed("The runtime env agent's port is not known without --node-id.")
        port = get_node_with_retry(self._gcs_address, self._node_id)["runtime_env_agent_port"]
        self._address = urlunparse(parsed._replace(netloc=f"{parsed.hostname}:{port}"))
        return self._address
