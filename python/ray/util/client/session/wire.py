"""Names that both sides of the wire agree on, beyond stock's protocol. See docs/protocol.md."""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Tuple

# Sent by a client with every call once it has a session: shows that it is the client that began the
# session. Minted by the client at init; a client id alone is not enough to take a session over.
SECRET_KEY = "ray-client-session-secret"
# Client to proxier: the incarnation that the client believes in; a lower one than the session's is
# refused. Proxier to client, in a data stream's initial metadata: the session's incarnation.
INCARNATION_KEY = "ray-client-incarnation"
# Proxier to specific server, every call: the key that the proxier gave that very process in the
# environment variable. On one machine the servers of several clusters take ports out of one range,
# and other users' programs may connect: neither may take a server for theirs.
SERVER_KEY = "ray-client-server-key"
SERVER_KEY_ENV = "RAY_CLIENT_SERVER_KEY"
# Proxier to specific server, log stream: present when the proxier itself streams what the session's
# workers print, so that the server is not to.
OUTPUT_KEY = "ray-client-worker-output"
# Trailing metadata of a failed call: why, as one of the REASON_ values below.
REASON_KEY = "ray-client-reason"

REASON_SERVER_DIED = "server-died"
REASON_RECREATING = "recreating"
REASON_STALE_INCARNATION = "stale-incarnation"
REASON_SESSION_GONE = "session-gone"
REASON_SESSION_UNKNOWN = "session-unknown"
REASON_SESSION_KNOWN = "session-known"
REASON_SECRET = "secret"
REASON_SUPERSEDED = "superseded"
REASON_SHUTTING_DOWN = "shutting-down"

# What a peer can do, told in InitRequest.capabilities and InitResponse.capabilities.
CAP_INCARNATIONS = "incarnations"
CAP_REGISTER_AS = "register-as"
CAP_TOKENS = "tokens"
CAP_BATCHES = "batches"
CAP_PARTS = "parts"
CAP_HANDOUTS = "hand-outs"
CAPABILITIES: Tuple[str, ...] = (
    CAP_INCARNATIONS,
    CAP_REGISTER_AS,
    CAP_TOKENS,
    CAP_BATCHES,
    CAP_PARTS,
    CAP_HANDOUTS,
)

# The first byte of a name that a client minted. A cluster's id may begin with it too; the chance
# part of a token keeps the two apart.
TOKEN_PREFIX = b"\xcd"


# What an incarnation may grow to; it travels as a uint32 too. No session comes near it.
LAST_INCARNATION = 2**31 - 1
_LONGEST = len(str(LAST_INCARNATION))


def incarnation_of(metadata: Optional[Iterable[Tuple[str, object]]]) -> Optional[int]:
    """Reads the incarnation out of gRPC metadata; None where there is none that makes sense."""
    for key, value in metadata or ():
        if key == INCARNATION_KEY and isinstance(value, str) and value.isdecimal():
            # Python refuses to read very long numbers.
            return int(value) if len(value) <= _LONGEST else None
    return None


def reason_of(metadata: Optional[Iterable[Tuple[str, object]]]) -> Optional[str]:
    """Reads the reason of a failure out of trailing metadata; None from a stock peer."""
    for key, value in metadata or ():
        if key == REASON_KEY and isinstance(value, str):
            return value
    return None


def shared(ours: Iterable[str], theirs: Iterable[str]) -> Mapping[str, bool]:
    """What both peers can do, as ``{capability: True}``."""
    known = set(theirs)
    return {name: True for name in ours if name in known}
