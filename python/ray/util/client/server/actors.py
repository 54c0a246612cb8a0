"""Making actors that an earlier server of the session may have made already."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ray.util.client.server.ray_calls import RayCalls

# A dead owner's actors give their names back within some 20 ms. More is left for a busy cluster.
_NAME_FREE_S = 5.0
_PAUSE_S = 0.01


def make_again(
    made: Any,
    args: Sequence[Any],
    kwargs: Dict[str, Any],
    options: Dict[str, Any],
    ray_calls: RayCalls,
) -> Any:
    """Makes an actor; finds it instead if it is a detached one that lives.

    Args:
        made: the actor class, with its options.
        args: of the constructor.
        kwargs: of the constructor.
        options: all that were given.
        ray_calls: what does the work.

    Raises:
        ValueError: its name stays taken.
        Exception: whatever Ray refuses it with.
    """
    name = options.get("name")
    if name and options.get("lifetime") == "detached":
        try:
            return ray_calls.get_actor(name, options.get("namespace"))
        except ValueError:
            pass  # It was not made, or has died since.
    pauses = round(_NAME_FREE_S / _PAUSE_S)
    while True:
        try:
            return made.remote(*args, **kwargs)
        except ValueError as e:
            if not name or "already" not in str(e) or not pauses:
                raise
        ray_calls.pause(_PAUSE_S)
        pauses -= 1
