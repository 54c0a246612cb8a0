"""Making actors that an earlier server of the session may have made already."""

from __future__ import annotations

import time
from typing import Any, Dict, Sequence

import ray

# A dead owner's actors give their names back within some 20 ms. More is left for a busy cluster.
_NAME_FREE_S = 5.0
_PAUSE_S = 0.01


def make_again(
    made: Any, args: Sequence[Any], kwargs: Dict[str, Any], options: Dict[str, Any]
) -> Any:
    """Makes an actor; finds it instead if it is a detached one that lives.

    Args:
        made: the actor class, with its options.
        args: of the constructor.
        kwargs: of the constructor.
        options: all that were given.

    Raises:
        ValueError: its name stays taken.
        Exception: whatever Ray refuses it with.
    """
    name = options.get("name")
    if name and options.get("lifetime") == "detached":
        try:
            return ray.get_actor(name, options.get("namespace"))
        except ValueError:
            pass  # It was not made, or has died since.
    give_up_at = time.monotonic() + _NAME_FREE_S
    while True:
        try:
            return made.remote(*args, **kwargs)
        except ValueError as e:
            if not name or "already" not in str(e) or time.monotonic() > give_up_at:
                raise
        time.sleep(_PAUSE_S)
