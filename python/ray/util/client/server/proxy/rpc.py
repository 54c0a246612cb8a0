"""What the proxier reads from a call and how it refuses one, in gRPC's terms."""

from __future__ import annotations

from typing import List, NoReturn, Optional, Tuple, Union

import grpc

from ray.util.client.server.proxy.channel import token_metadata
from ray.util.client.session import wire
from ray.util.client.session.proxied import Refused
from ray.util.client.session.proxied_table import Caller

Metadata = Tuple[Tuple[str, Union[str, bytes]], ...]

# A status text travels in a header, percent-encoded, and headers beyond 8 KiB may be refused.
_TEXT_BUDGET = 4000
_HEAD_BUDGET = 1000

# Not passed on: the transport's own, what is said anew for each hop, and the secret.
_NOT_ONWARD = frozenset(
    {
        "client_id",
        "reconnecting",
        "user-agent",
        "authorization",
        wire.SECRET_KEY,
        wire.SERVER_KEY,
        wire.INCARNATION_KEY,
        wire.OUTPUT_KEY,
    }
)


def caller_of(context: grpc.aio.ServicerContext) -> Caller:
    """Who calls."""
    metadata = context.invocation_metadata() or ()
    told = {key: value for key, value in metadata if isinstance(value, str)}
    return Caller(
        client_id=told.get("client_id", ""),
        secret=told.get(wire.SECRET_KEY),
        incarnation=wire.incarnation_of(metadata),
        reconnecting=told.get("reconnecting") == "True",
    )


def users_metadata(context: grpc.aio.ServicerContext) -> Metadata:
    """The caller's metadata that a server is to see, beyond what :func:`onward` adds.

    The token is left out: the proxier shows its own.
    """
    return tuple(
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if key not in _NOT_ONWARD and not key.startswith(("grpc-", ":"))
    )


def onward(
    client_id: str,
    incarnation: int,
    key: str,
    users: Metadata,
    reconnecting: Optional[bool] = None,
) -> Metadata:
    """The metadata of a call to a session's server, whose key is ``key``."""
    own: List[Tuple[str, str]] = [
        ("client_id", client_id),
        (wire.INCARNATION_KEY, str(incarnation)),
        (wire.SERVER_KEY, key),
    ]
    if reconnecting is not None:
        own.append(("reconnecting", str(reconnecting)))
    return (*own, *token_metadata(), *users)


def _cost(text: str) -> int:
    return sum(1 if " " <= char <= "~" and char != "%" else 3 * len(char.encode()) for char in text)


def trimmed(text: str) -> str:
    """``text`` cut in the middle so that it fits into a header; the end tells most."""
    text = text.encode("utf-8", "replace").decode()
    if _cost(text) <= _TEXT_BUDGET:
        return text
    head = text
    while _cost(head) > _HEAD_BUDGET:
        head = head[: len(head) * 3 // 4]
    tail = text[len(head) :][-_TEXT_BUDGET:]
    while _cost(tail) > _TEXT_BUDGET - _HEAD_BUDGET:
        tail = tail[len(tail) // 4 + 1 :]
    return f"{head} [...] {tail}"


async def refuse(context: grpc.aio.ServicerContext, why: Refused) -> NoReturn:
    """Ends the call with ``why``. Does not return."""
    trailing: List[Tuple[str, str]] = []
    if why.reason is not None:
        trailing.append((wire.REASON_KEY, why.reason))
    if why.incarnation is not None:
        trailing.append((wire.INCARNATION_KEY, str(why.incarnation)))
    await context.abort(grpc.StatusCode[why.code], trimmed(why.text), tuple(trailing))
    raise AssertionError("abort() returned")
