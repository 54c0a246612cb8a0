"""Making, and finding, actors that an earlier server of the session may have made already."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from ray.util.client.server.ray_calls import RayCalls

# A dead owner's actors give their names back within some 20 ms. More is left for a busy cluster.
NAME_FREE_S = 5.0
_PAUSE_S = 0.01
# So soon the cluster knows that an actor's owner has died.
_DEATH_KNOWN_S = 5.0


class NeverStarted(Exception):
    """An actor died with its owner before its constructor ran."""


def find_started(
    find: Callable[[], Any],
    name: str,
    namespace: Optional[str],
    actor_id: bytes,
    ray_calls: RayCalls,
) -> Any:
    """Finds a detached actor, unless it never started.

    The cluster ends a detached actor with its owner as long as it waits for its arguments, or has
    only just been asked for; from then on it lives by itself.

    Args:
        find: gives the actor's handle, or raises ValueError.
        name: of the actor; "" if it has none.
        namespace: None is the job's own.
        actor_id: that the cluster has told; b"" if it may not have heard of the actor.
        ray_calls: what does the work.

    Raises:
        NeverStarted: its constructor has provably not run.
        ValueError: there is no such actor any more.
    """
    for _ in range(round(_DEATH_KNOWN_S / _PAUSE_S)):
        record = ray_calls.actor_record(actor_id) if actor_id else None
        if record is None:
            try:
                actor_id = find()._actor_id.binary()
                continue
            except ValueError:
                if actor_id or not name or not _never_started(name, namespace, ray_calls):
                    raise
                raise NeverStarted from None
        if record.unstarted:
            raise NeverStarted
        if not record.unready:
            break
        ray_calls.pause(_PAUSE_S)
    return find()


def _never_started(name: str, namespace: Optional[str], ray_calls: RayCalls) -> bool:
    known = ray_calls.actors_named(name, namespace)
    # Without any the cluster never heard of it.
    return not known or max(known, key=lambda record: record.at).unstarted


def make_again(
    made: Any,
    args: Sequence[Any],
    kwargs: Dict[str, Any],
    ray_calls: RayCalls,
) -> Any:
    """Makes an actor that no server of the session has made, or whose maker has died.

    Args:
        made: the actor class, with its options.
        args: of the constructor.
        kwargs: of the constructor.
        ray_calls: what does the work.

    Raises:
        ValueError: its name stays taken.
        Exception: whatever Ray refuses it with.
    """
    pauses = round(NAME_FREE_S / _PAUSE_S)
    while True:
        try:
            return made.remote(*args, **kwargs)
        except ValueError as e:
            if "already" not in str(e) or not pauses:
                raise
        ray_calls.pause(_PAUSE_S)
        pauses -= 1
