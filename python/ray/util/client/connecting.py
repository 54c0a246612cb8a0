"""Makes the channel to a cluster, and says what is wrong where that fails."""

from __future__ import annotations

import enum
import logging
import os
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from typing import Any

import grpc

from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import env_integer
from ray.util.client import protocol
from ray.util.client.limits import GRPC_OPTIONS, RECONNECT_OPTIONS, SINGLE_THREADED_OPTIONS
from ray.util.client.session.errors import (
    ConnectFailed,
    NothingListening,
    TlsMismatch,
    TokenRefused,
    WrongPort,
)
from ray.util.debug import log_once

logger = logging.getLogger(__name__)

# Seconds for the first attempt, and for the longest; each lasts 5 s more than the one before.
INITIAL_TIMEOUT_SEC = env_integer("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", 5)
MAX_TIMEOUT_SEC = env_integer("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", 30)
_BACKOFF_STEP_S = 5

# How soon a channel that does not come up is looked into, and how long a look may take (seconds).
_LOOK_AFTER_S = 1.0
_PROBE_TIMEOUT_S = 2.0

# Where gRPC (1.66 as well as 1.76) keeps whether a thread watches a channel. Without it a
# channel is closed at once.
_WATCH = "_connectivity_state"
_WATCH_ENDS_S = 0.5

_TRUE = ("1", "true")


class Finding(enum.Enum):
    """What a look at an address found."""

    NO_PORT = enum.auto()  # The address is no host:port, so there was no look.
    NOTHING = enum.auto()
    PLAIN_GRPC = enum.auto()
    TLS = enum.auto()
    HTTP1 = enum.auto()
    OTHER = enum.auto()


def tls_in_environment() -> bool:
    """Whether RAY_USE_TLS asks for TLS with the certificates that the environment names."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in _TRUE


def make_channel(
    address: str, secure: bool, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """The channel to ``host:port``. It reconnects by itself, about once a second.

    Args:
        address: ``host:port``.
        secure: whether to use TLS.
        credentials: what to use for it; None takes RAY_TLS_* if RAY_USE_TLS is set, else gRPC's
            defaults.
    """
    if secure and credentials is None and not tls_in_environment():
        credentials = grpc.ssl_channel_credentials()
    return init_grpc_channel(
        address,
        options=GRPC_OPTIONS + RECONNECT_OPTIONS + SINGLE_THREADED_OPTIONS,
        credentials=credentials,
    )


def close_channel(channel: grpc.Channel) -> None:
    """Closes a channel, once gRPC has stopped to watch whether it is connected.

    That is within a fifth of a second of the last question; a thread of gRPC's that still watched
    would print a traceback. After half a second the channel is closed all the same.
    """
    bare = channel
    while hasattr(bare, "_channel") and not hasattr(bare, _WATCH):
        bare = bare._channel  # Interceptors wrap it.
    watch = getattr(bare, _WATCH, None)
    give_up_at = time.monotonic() + _WATCH_ENDS_S
    while getattr(watch, "polling", False) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    channel.close()


def timeouts(retries: int) -> list[float]:
    """Seconds of each attempt to connect. ``retries``: how many, at least one."""
    lengths: list[float] = []
    for _ in range(max(retries, 1)):
        last = lengths[-1] + _BACKOFF_STEP_S if lengths else INITIAL_TIMEOUT_SEC
        lengths.append(float(min(last, MAX_TIMEOUT_SEC)))
    return lengths


def wait_for_server(
    channel: grpc.Channel,
    address: str,
    secure: bool,
    retries: int,
    ping: Callable[[float], Any],
) -> None:
    """Waits until a Ray Client server answers.

    Args:
        channel: to the server.
        address: ``host:port``, for the look when the channel does not come up.
        secure: whether the channel uses TLS.
        retries: how many attempts, of growing length, before giving up.
        ping: asks the server for a sign of life, within so many seconds.

    Raises:
        ConnectFailed: a subclass tells why. At once where waiting can't help.
    """
    begun = time.monotonic()
    give_up = begun + sum(timeouts(retries))
    last: grpc.RpcError | None = None
    while True:
        left = give_up - time.monotonic()
        if left <= 0:
            raise _timed_out(address, secure, last)
        if not _ready(channel, min(left, _LOOK_AFTER_S)):
            hopeless = _hopeless(address, secure, time.monotonic() - begun)
            if hopeless is not None:
                raise hopeless
            continue
        try:
            ping(min(left, MAX_TIMEOUT_SEC))
            return
        except grpc.RpcError as e:
            refusal = _refusal(address, e)
            if refusal is not None:
                raise refusal from e
            last = e
            logger.debug("No answer from %s yet: %s", address, e.details())
            time.sleep(min(left, 0.5))


def _ready(channel: grpc.Channel, timeout: float) -> bool:
    ready = grpc.channel_ready_future(channel)
    try:
        ready.result(timeout)
        return True
    except grpc.FutureTimeoutError:
        return False
    finally:
        ready.cancel()


def _refusal(address: str, e: grpc.RpcError) -> ConnectFailed | None:
    code = e.code()
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return WrongPort(
            f"What answers at {address} speaks gRPC but is not a Ray Client server; it may be the "
            "GCS (port 6379 by default). Use the Ray Client server's port, 10001 by default: "
            'ray.init("ray://<head>:10001").'
        )
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return TokenRefused(
            f"The cluster at {address} refused the authentication token: {e.details()}. Set "
            "RAY_AUTH_MODE=token and give the cluster's token in RAY_AUTH_TOKEN, or in the file "
            "that RAY_AUTH_TOKEN_PATH names."
        )
    return None


def _hopeless(address: str, secure: bool, waited: float) -> ConnectFailed | None:
    """Why no waiting will help, if a look at the address tells that. ``waited``: seconds."""
    finding, detail = look(address)
    if finding is Finding.HTTP1:
        return WrongPort(
            f"What answers at {address} speaks HTTP/1, not gRPC; it may be the dashboard (port "
            "8265 by default). Use the Ray Client server's port, 10001 by default."
        )
    if finding is Finding.TLS and not secure:
        return TlsMismatch(
            f"The server at {address} wants TLS and this client does not use it. Set RAY_USE_TLS=1 "
            "and RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT, or pass _credentials."
        )
    # Both sides speak TLS: they disagree, or a busy machine needs a while for the handshake.
    if finding is Finding.TLS and secure and waited >= INITIAL_TIMEOUT_SEC:
        return TlsMismatch(
            f"No TLS connection to {address} came about. Check that the certificates of both sides "
            "are of one authority, valid today, and made for this host (RAY_TLS_CA_CERT names the "
            f"authority that this client trusts).{detail}"
        )
    if finding is Finding.PLAIN_GRPC and secure:
        return TlsMismatch(
            f"This client uses TLS and the server at {address} does not. Unset RAY_USE_TLS (and "
            "leave _credentials out), or start the cluster with RAY_USE_TLS=1."
        )
    return None


def _timed_out(address: str, secure: bool, last: grpc.RpcError | None) -> ConnectFailed:
    finding, detail = look(address)
    text = "ray client connection timeout: "
    if log_once("ray_client_security_groups"):
        warnings.warn(
            "Ray Client connection timed out. Ensure that the Ray Client port on the head node is "
            "reachable from your local machine. See https://docs.ray.io/en/latest/cluster/"
            "ray-client.html#step-2-check-ports for more information.",
            stacklevel=4,
        )
    if finding is Finding.NOTHING:
        return NothingListening(
            f"{text}nothing accepts connections at {address}{detail}. Check the address, that the "
            "cluster runs with a Ray Client server (ray start --head "
            "--ray-client-server-port=10001), and that no firewall is in between."
        )
    if finding is Finding.NO_PORT:
        return ConnectFailed(
            f"{text}the address {address!r} names no port. The Ray Client server's is 10001 by "
            'default: ray.init("ray://<head>:10001").'
        )
    why = f": {last.code().name}: {last.details()}" if last is not None else ""
    return ConnectFailed(
        f"{text}the server at {address} accepts connections but does not answer{why}."
    )


# -- a look at an address

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_FRAME = 0x04


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def look(address: str) -> tuple[Finding, str]:
    """Finds out what listens at ``host:port``. Returns it and a detail for people."""
    try:
        target = _host_and_port(address)
    except ValueError:
        return Finding.NO_PORT, ""
    try:
        plain = _talk_plain(target)
    except OSError as e:
        return Finding.NOTHING, f" ({e})"
    if plain.startswith(b"HTTP/1"):
        return Finding.HTTP1, ""
    if len(plain) >= 9 and plain[3] == _SETTINGS_FRAME:
        return Finding.PLAIN_GRPC, ""
    try:
        _shake_hands(target)
    except (OSError, ValueError):
        return Finding.OTHER, ""
    return Finding.TLS, ""


def _talk_plain(target: tuple[str, int]) -> bytes:
    with socket.create_connection(target, timeout=_PROBE_TIMEOUT_S) as connection:
        try:
            connection.sendall(_HTTP2_PREFACE)
            return connection.recv(64)
        except OSError:
            return b""  # It listens, and hangs up on what it does not understand.


def _shake_hands(target: tuple[str, int]) -> None:
    # The look only asks whether TLS is spoken: nothing is sent over it, so nothing is verified.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(target, timeout=_PROBE_TIMEOUT_S) as connection:
        with context.wrap_socket(connection, server_hostname=target[0]):
            pass


def ping_request() -> Any:
    """The request that every Ray Client server answers, before a session exists too."""
    return protocol.ClusterInfoRequest(type=protocol.ClusterInfoType.PING)
