"""The part of the RayletDriver service that is about the cluster, not about a client's objects."""

from __future__ import annotations

import json
from typing import Any

import ray
from ray._private.client_mode_hook import disable_client_hook
from ray.experimental import internal_kv
from ray.util.client import protocol
from ray.util.client.server import queries
from ray.util.client.server.unary import ResponseCaches, raises_to_caller, runs_once


class ClusterServicer:
    """Serves the cluster's key-value store, and what is asked about cluster and job. Thread-safe.

    Attributes:
        response_caches: what clients' unary calls were answered.
    """

    def __init__(self) -> None:
        self.response_caches = ResponseCaches()

    @raises_to_caller(protocol.KVPutResponse)
    @runs_once
    def KVPut(self, request: Any, context: Any = None) -> Any:
        """Stores a value."""
        with disable_client_hook():
            existed = internal_kv._internal_kv_put(
                request.key, request.value, request.overwrite, namespace=request.namespace
            )
        return protocol.KVPutResponse(already_exists=existed)

    @raises_to_caller(protocol.KVGetResponse)
    def KVGet(self, request: Any, context: Any = None) -> Any:
        """Reads a value."""
        with disable_client_hook():
            value = internal_kv._internal_kv_get(request.key, namespace=request.namespace)
        return protocol.KVGetResponse(value=value)

    @raises_to_caller(protocol.KVDelResponse)
    @runs_once
    def KVDel(self, request: Any, context: Any = None) -> Any:
        """Deletes a key, or all that begin with it."""
        with disable_client_hook():
            count = internal_kv._internal_kv_del(
                request.key, del_by_prefix=request.del_by_prefix, namespace=request.namespace
            )
        return protocol.KVDelResponse(deleted_num=count)

    @raises_to_caller(protocol.KVListResponse)
    def KVList(self, request: Any, context: Any = None) -> Any:
        """Lists the keys that begin with a prefix."""
        with disable_client_hook():
            keys = internal_kv._internal_kv_list(request.prefix, namespace=request.namespace)
        return protocol.KVListResponse(keys=keys)

    @raises_to_caller(protocol.KVExistsResponse)
    def KVExists(self, request: Any, context: Any = None) -> Any:
        """Tells whether there is a key."""
        with disable_client_hook():
            exists = internal_kv._internal_kv_exists(request.key, namespace=request.namespace)
        return protocol.KVExistsResponse(exists=exists)

    @raises_to_caller(protocol.ClientPinRuntimeEnvURIResponse)
    def PinRuntimeEnvURI(self, request: Any, context: Any = None) -> Any:
        """Keeps a runtime env's package for a while before a job uses it."""
        with disable_client_hook():
            internal_kv._pin_runtime_env_uri(request.uri, expiration_s=request.expiration_s)
        return protocol.ClientPinRuntimeEnvURIResponse()

    @raises_to_caller(protocol.ClientListNamedActorsResponse)
    def ListNamedActors(self, request: Any, context: Any = None) -> Any:
        """Lists the named actors of the job's namespace, or of all."""
        with disable_client_hook():
            actors = ray.util.list_named_actors(all_namespaces=request.all_namespaces)
        return protocol.ClientListNamedActorsResponse(actors_json=json.dumps(actors))

    @raises_to_caller(protocol.ClusterInfoResponse)
    def ClusterInfo(self, request: Any, context: Any = None) -> Any:
        """Tells about the cluster and the job. PING always works."""
        with disable_client_hook():
            return queries.cluster_info(request.type)
