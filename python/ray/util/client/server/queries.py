"""Answers about the cluster: its nodes, resources and the job's own context."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict

import ray
from ray._common.utils import hex_to_binary
from ray.util.client import protocol

_TYPE = protocol.ClusterInfoType


def _dashboard_url() -> Dict[str, str]:
    return {"dashboard_url": ray._private.worker.get_dashboard_url()}


_JSON_BY_TYPE: Dict[int, Callable[[], Any]] = {
    _TYPE.NODES: lambda: ray.nodes(),
    _TYPE.IS_INITIALIZED: lambda: ray.is_initialized(),
    _TYPE.TIMELINE: lambda: ray.timeline(),
    _TYPE.PING: dict,
    _TYPE.DASHBOARD_URL: _dashboard_url,
}


def _resource_table(resources: Dict[str, Any]) -> Any:
    table = {name: float(amount) for name, amount in resources.items()}
    return protocol.ClusterInfoResponse.ResourceTable(table=table)


def _runtime_context() -> Any:
    context = ray.get_runtime_context()
    return protocol.ClusterInfoResponse.RuntimeContext(
        job_id=hex_to_binary(context.get_job_id()),
        node_id=hex_to_binary(context.get_node_id()),
        worker_id=hex_to_binary(context.get_worker_id()),
        namespace=context.namespace,
        runtime_env=context.get_runtime_env_string(),
        capture_client_tasks=context.should_capture_child_tasks_in_placement_group,
        gcs_address=context.gcs_address,
        session_name=context.get_session_name(),
    )


def cluster_info(kind: int) -> Any:
    """Answers a ClusterInfoRequest of the given type. To be called with the client hook off.

    Raises:
        TypeError: there is no such type.
    """
    response = protocol.ClusterInfoResponse(type=kind)
    if kind == _TYPE.CLUSTER_RESOURCES:
        response.resource_table.CopyFrom(_resource_table(ray.cluster_resources()))
    elif kind == _TYPE.AVAILABLE_RESOURCES:
        response.resource_table.CopyFrom(_resource_table(ray.available_resources()))
    elif kind == _TYPE.RUNTIME_CONTEXT:
        response.runtime_context.CopyFrom(_runtime_context())
    elif kind in _JSON_BY_TYPE:
        response.json = json.dumps(_JSON_BY_TYPE[kind]())
    else:
        raise TypeError("Unsupported cluster info type")
    return response
