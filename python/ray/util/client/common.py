"""The names of Ray Client that other modules of Ray, and users, import from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from ray.util.client.cache import OrderedResponseCache, ResponseCache
from ray.util.client.cache import id_is_newer as _id_is_newer
from ray.util.client.limits import (
    CLIENT_SERVER_MAX_THREADS,
    GRPC_KEEPALIVE_TIME_MS,
    GRPC_KEEPALIVE_TIMEOUT_MS,
    GRPC_MAX_MESSAGE_SIZE,
    GRPC_OPTIONS,
    GRPC_UNRECOVERABLE_ERRORS,
    OBJECT_TRANSFER_CHUNK_SIZE,
    OBJECT_TRANSFER_WARNING_SIZE,
)
from ray.util.client.refs import ClientActorRef, ClientObjectRef
from ray.util.client.stubs import (
    ActorOptionWrapper,
    ClientActorClass,
    ClientActorHandle,
    ClientRemoteFunc,
    ClientRemoteMethod,
    ClientSideRefID,
    ClientStub,
    InProgressSentinel,
    OptionWrapper,
    remote_decorator,
    return_refs,
    set_task_options,
)
from ray.util.common import INT32_MAX

__all__ = [
    "CLIENT_SERVER_MAX_THREADS",
    "GRPC_KEEPALIVE_TIMEOUT_MS",
    "GRPC_KEEPALIVE_TIME_MS",
    "GRPC_MAX_MESSAGE_SIZE",
    "GRPC_OPTIONS",
    "GRPC_UNRECOVERABLE_ERRORS",
    "INT32_MAX",
    "OBJECT_TRANSFER_CHUNK_SIZE",
    "OBJECT_TRANSFER_WARNING_SIZE",
    "ActorOptionWrapper",
    "ClientActorClass",
    "ClientActorHandle",
    "ClientActorRef",
    "ClientObjectRef",
    "ClientRemoteFunc",
    "ClientRemoteMethod",
    "ClientServerHandle",
    "ClientSideRefID",
    "ClientStub",
    "InProgressSentinel",
    "OptionWrapper",
    "OrderedResponseCache",
    "ResponseCache",
    "_get_client_id_from_context",
    "_id_is_newer",
    "_propagate_error_in_context",
    "remote_decorator",
    "return_refs",
    "set_task_options",
]


@dataclass
class ClientServerHandle:
    """A running server and its servicers. What it lacks it takes from its gRPC server."""

    task_servicer: Any
    data_servicer: Any
    logs_servicer: Any
    grpc_server: Any

    def stop(self, grace: int) -> None:
        """Stops the server; calls that are under way have ``grace`` seconds to finish."""
        self.grpc_server.stop(grace)
        # Wakes whoever keeps the state of clients that may come back.
        self.data_servicer.stopped.set()

    def __getattr__(self, attr: str) -> Any:
        return getattr(self.grpc_server, attr)


def _get_client_id_from_context(context: Any) -> str:
    """The caller's client id; where there is none, "" and FAILED_PRECONDITION is set."""
    client_id = dict(context.invocation_metadata()).get("client_id") or ""
    if not client_id:
        context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        context.set_details("The call carries no client_id in its metadata.")
    return client_id


def _propagate_error_in_context(e: Exception, context: Any) -> bool:
    """Answers a call with an error. Returns whether asking again can help."""
    if isinstance(e, grpc.RpcError) and callable(getattr(e, "code", None)):
        context.set_code(e.code())
        context.set_details(e.details())
        return e.code() not in GRPC_UNRECOVERABLE_ERRORS
    context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
    context.set_details(str(e))
    return False
