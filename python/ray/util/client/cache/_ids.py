"""Request ids: which are tracked, and which of two is the newer one."""

from __future__ import annotations

INT32_MAX = 2**31 - 1

# Clients mint 1..INT32_MAX and start again at 1, so this is also the length of one round.
ROUND = INT32_MAX

# Of two ids the newer one is at most this far ahead of the other, counted round the ring.
HALF_ROUND = (ROUND - 1) // 2

# Carried by requests that a server makes up itself (a session's saved init, sent again).
INIT_REQ_ID = -1

# Protobuf's default: the request asks for no answer that would have to be kept.
UNTRACKED_REQ_ID = 0


def is_tracked(req_id: int) -> bool:
    """Tells whether `req_id` takes part in caching, i.e. whether a client may have minted it."""
    return 0 < req_id <= INT32_MAX


def is_ignored(req_id: int) -> bool:
    """Tells whether caches pass over `req_id`: it is always new, and nothing is kept for it."""
    return req_id == INIT_REQ_ID or req_id == UNTRACKED_REQ_ID


def id_is_newer(id1: int, id2: int) -> bool:
    """Tells whether `id1` was minted after `id2`.

    Ids that lie more than half a round apart are taken to be on both sides of a roll-over, so
    the smaller one is the newer one. An id is not newer than itself.
    """
    if id1 > id2:
        return id1 - id2 <= HALF_ROUND
    return id2 - id1 > HALF_ROUND


def ring_distance(id_to: int, id_from: int) -> int:
    """Returns how many ids `id_to` lies after `id_from` (negative: before), the short way round.

    Both ids must be tracked ones. The result is within -HALF_ROUND..HALF_ROUND, and positive
    exactly if `id_is_newer(id_to, id_from)`.
    """
    distance = id_to - id_from
    if distance > HALF_ROUND:
        return distance - ROUND
    if distance < -HALF_ROUND:
        return distance + ROUND
    return distance


def id_of_serial(serial: int) -> int:
    """Returns the request id that stands for `serial`, an id that was counted on past INT32_MAX."""
    return (serial - 1) % ROUND + 1
