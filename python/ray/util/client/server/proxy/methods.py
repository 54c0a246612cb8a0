"""Which methods the proxier answers, and with what. All others are UNIMPLEMENTED."""

from __future__ import annotations

from typing import Dict, Optional

import grpc

from ray.util.client import protocol
from ray.util.client.server.proxy.datapath import Datapath
from ray.util.client.server.proxy.gcs import Gcs
from ray.util.client.server.proxy.host import Hosts
from ray.util.client.server.proxy.logstream import Logstream
from ray.util.client.server.proxy.unary import Driver


class Methods(grpc.GenericRpcHandler):
    """Ray Client's methods. Without serialisers, so that handlers take and give bytes.

    Args:
        hosts: the sessions.
        gcs: the cluster's store.
    """

    def __init__(self, hosts: Hosts, gcs: Gcs) -> None:
        driver = Driver(hosts, gcs)
        self._handlers: Dict[str, grpc.RpcMethodHandler] = {
            method.path: grpc.unary_unary_rpc_method_handler(driver.unary(name))
            for name, method in protocol.DRIVER.items()
            if method.kind == "unary_unary"
        }
        get_object = protocol.DRIVER["GetObject"].path
        self._handlers[get_object] = grpc.unary_stream_rpc_method_handler(driver.get_object)
        for method, handle in (
            (protocol.DATA_STREAMER["Datapath"], Datapath(hosts).handle),
            (protocol.LOG_STREAMER["Logstream"], Logstream(hosts).handle),
        ):
            self._handlers[method.path] = grpc.stream_stream_rpc_method_handler(handle)

    def service(self, details: grpc.HandlerCallDetails) -> Optional[grpc.RpcMethodHandler]:
        """The handler of the method that ``details`` names; None if there is none."""
        return self._handlers.get(details.method)
