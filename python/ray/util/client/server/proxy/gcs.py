"""The cluster's key-value store, asked in threads so that the loop never waits for it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional

from google.protobuf.message import DecodeError

from ray._raylet import GcsClient
from ray.util.client import protocol
from ray.util.client.session.proxied import Refused

_THREADS = 8


def _namespace(request: Any) -> Optional[bytes]:
    return request.namespace if request.HasField("namespace") else None


class Gcs:
    """The store behind the KV methods of Ray Client.

    Args:
        address: the cluster's address.

    Attributes:
        METHODS: the methods of ``RayletDriver`` that :meth:`call` answers.
    """

    METHODS = frozenset({"KVGet", "KVPut", "KVDel", "KVList", "KVExists", "PinRuntimeEnvURI"})

    def __init__(self, address: str) -> None:
        self._address = address
        # Connecting waits for the cluster, so it is left to the threads.
        self._connecting = threading.Lock()
        self._connected: Optional[GcsClient] = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ray_client_gcs")
        self._answers: Dict[str, Callable[[Any], Any]] = {
            "KVGet": self._get,
            "KVPut": self._put,
            "KVDel": self._del,
            "KVList": self._list,
            "KVExists": self._exists,
            "PinRuntimeEnvURI": self._pin_uri,
        }

    async def call(self, name: str, request: bytes) -> bytes:
        """Answers one of :attr:`METHODS`, serialised both ways.

        Raises:
            Refused: the request is malformed, or the store does not answer.
        """
        try:
            message = protocol.DRIVER[name].request.FromString(request)
        except DecodeError as e:
            raise Refused("INVALID_ARGUMENT", f"The request of {name} is malformed.") from e
        try:
            answer = await self._in_thread(self._answers[name], message)
        except Exception as e:  # Whatever the GCS client raises, the store did not answer.
            raise Refused("UNAVAILABLE", f"The cluster's store did not answer: {e}") from e
        return answer.SerializeToString()

    async def pin(self, uri: str, seconds: int) -> None:
        """Keeps a package for at least so long. Raises what the GCS client raises."""
        await self._in_thread(lambda: self._client.pin_runtime_env_uri(uri, seconds))

    async def put(self, key: bytes, value: bytes, namespace: bytes) -> None:
        """Writes a value. Raises what the GCS client raises."""
        await self._in_thread(lambda: self._client.internal_kv_put(key, value, True, namespace))

    def close(self) -> None:
        """Lets go of the threads. Calls under way are not waited for."""
        self._threads.shutdown(wait=False)

    @property
    def _client(self) -> GcsClient:
        with self._connecting:
            if self._connected is None:
                self._connected = GcsClient(address=self._address)
            return self._connected

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _get(self, request: Any) -> Any:
        value = self._client.internal_kv_get(request.key, _namespace(request))
        return protocol.KVGetResponse(value=value)

    def _put(self, request: Any) -> Any:
        added = self._client.internal_kv_put(
            request.key, request.value, request.overwrite, _namespace(request)
        )
        return protocol.KVPutResponse(already_exists=added == 0)

    def _del(self, request: Any) -> Any:
        deleted = self._client.internal_kv_del(
            request.key, request.del_by_prefix, _namespace(request)
        )
        return protocol.KVDelResponse(deleted_num=deleted or 0)

    def _list(self, request: Any) -> Any:
        keys = self._client.internal_kv_keys(request.prefix, _namespace(request))
        return protocol.KVListResponse(keys=keys)

    def _exists(self, request: Any) -> Any:
        found = self._client.internal_kv_exists(request.key, _namespace(request))
        return protocol.KVExistsResponse(exists=found)

    def _pin_uri(self, request: Any) -> Any:
        self._client.pin_runtime_env_uri(request.uri, request.expiration_s)
        return protocol.ClientPinRuntimeEnvURIResponse()
