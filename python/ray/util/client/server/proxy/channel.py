"""Connections from the proxier to its servers, with the cluster's TLS and token.

Ray's own helper adds the token by interceptors, and asyncio's intercepted streams leave tasks
behind when they are cancelled; a proxier cancels streams all the time. So the token goes into the
metadata of each call.
"""

from __future__ import annotations

import os
from typing import Tuple

import grpc

from ray._common.network_utils import build_address
from ray._common.tls_utils import load_certs_from_env
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray.util.client.limits import GRPC_OPTIONS, RECONNECT_OPTIONS

_OPTIONS = [
    *GRPC_OPTIONS,
    *RECONNECT_OPTIONS,
    # A port's next server must not inherit the back-off of the last one.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(host: str, port: int) -> grpc.aio.Channel:
    """A channel to the server at ``host`` and ``port``; to be called on the loop that uses it."""
    address = build_address(host, port)
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    certificate, key, authority = load_certs_from_env()
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def token_metadata() -> Tuple[Tuple[str, str], ...]:
    """What shows the cluster's token in a call's metadata; empty where none is asked for."""
    headers = get_auth_headers_if_auth_enabled({})
    return tuple((name.lower(), value) for name, value in headers.items())
