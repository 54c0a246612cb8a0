"""Placement groups: whether the one that a task asks for is still there.

Ray removes a group with the job that made it, unless it is detached, and has what is submitted into
a removed group wait for ever. After a death of the session's server that is no mistake of the
program's: it is to be told.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional, Set

import ray
from ray._private import state
from ray._private.client_mode_hook import disable_client_hook
from ray.exceptions import ActorPlacementGroupRemoved, RayError, TaskPlacementGroupRemoved
from ray.util.placement_group import PlacementGroup

# How long the cluster may take to see that a job has ended, in seconds.
_SETTLES_S = 1.0
_PAUSE_S = 0.05


def group_of(options: Dict[str, Any]) -> Optional[PlacementGroup]:
    """The placement group that options of a task or actor name, if they do."""
    strategy = options.get("scheduling_strategy")
    group = getattr(strategy, "placement_group", None) or options.get("placement_group")
    return group if isinstance(group, PlacementGroup) and not group.is_empty else None


def is_removed(group: PlacementGroup) -> bool:
    """Whether the cluster has removed a group. Waits a moment where the job that made it may just
    be ending."""
    job = group.id.binary()[-ray.JobID.size() :]
    give_up_at = time.monotonic() + _SETTLES_S
    with disable_client_hook():
        while True:
            settled = _has_ended(job) or time.monotonic() >= give_up_at
            known = state.state.placement_group_table(group.id)
            if not known or known.get("state") == "REMOVED":
                return True
            if settled or job == ray.get_runtime_context().job_id.binary():
                return False
            time.sleep(_PAUSE_S)


def _has_ended(job: bytes) -> bool:
    return any(known["IsDead"] for known in state.jobs() if known["JobID"] == job.hex())


class Groups:
    """Refuses what is submitted into placement groups that are gone.

    Args:
        removed: tells of a group; see :func:`is_removed`.
    """

    def __init__(self, removed: Callable[[PlacementGroup], bool]) -> None:
        self._removed = removed
        self._there: Set[bytes] = set()

    def check(self, options: Dict[str, Any], actor: bool) -> None:
        """Raises TaskPlacementGroupRemoved, or ActorPlacementGroupRemoved."""
        group = group_of(options)
        if group is None or group.id.binary() in self._there:
            return
        if self._removed(group):
            error: RayError = ActorPlacementGroupRemoved() if actor else TaskPlacementGroupRemoved()
            raise error
        self._there.add(group.id.binary())
