"""Limits and gRPC options that clients and servers share."""

from __future__ import annotations

import os

import grpc
from grpc.experimental import ChannelOptions

from ray._private import ray_constants

# Serialised objects cross the data stream in pieces of this many bytes.
OBJECT_TRANSFER_CHUNK_SIZE = 5 * 1024 * 1024

# Past this many bytes a transfer is announced by a warning: it will take a while.
OBJECT_TRANSFER_WARNING_SIZE = 2 * 1024**3

# Threads of a server's gRPC pool. Each client holds two (data and log stream), so a specific
# server admits half as many clients.
CLIENT_SERVER_MAX_THREADS = float(os.getenv("RAY_CLIENT_SERVER_MAX_THREADS", 100))

# The largest length that a signed 32-bit field holds, which is gRPC's own ceiling.
GRPC_MAX_MESSAGE_SIZE = 2**31 - 1

# A link on which nothing comes back is given up after time + timeout, that is, within 20 s. It is
# also well under the 60 s after which common load balancers drop an idle connection.
GRPC_KEEPALIVE_TIME_MS = 10_000
GRPC_KEEPALIVE_TIMEOUT_MS = 8_000

GRPC_OPTIONS = [
    *ray_constants.GLOBAL_GRPC_OPTIONS,
    *((f"grpc.max_{way}_message_length", GRPC_MAX_MESSAGE_SIZE) for way in ("send", "receive")),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_timeout_ms", GRPC_KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_time_ms", GRPC_KEEPALIVE_TIME_MS),
    # Newer gRPC waits for a ping's answer by this, a minute by default, not by the keepalive's.
    ("grpc.http2.ping_timeout_ms", GRPC_KEEPALIVE_TIMEOUT_MS),
    # Pings may go on for as long as a session idles, and a server must not punish them.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", GRPC_KEEPALIVE_TIME_MS // 2),
]

# A client's get runs on the caller's thread alone. Otherwise one thread serves all streams of a
# channel, and a Ctrl-C inside gRPC could leave it waiting for a lock that nobody gives back.
SINGLE_THREADED_OPTIONS = [(ChannelOptions.SingleThreadedUnaryStream, 1)]

# What only a client's or a proxier's outgoing channel needs: after an outage try again soon,
# where gRPC's own back-off would grow to two minutes.
RECONNECT_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

# Codes by which a server's own logic refuses; asking again can't help.
GRPC_UNRECOVERABLE_ERRORS = (
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
