"""A head whose specific servers die at the requests that a session's plan names."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from tests.crash.inside.crash_points import FOLDER_VARIABLE, PLAN_KEY, PLAN_VARIABLE
from tests.support.cluster import Cluster

_INSIDE = Path(__file__).with_name("inside")


def crash_environment(folder: Path, plan: str = "") -> Dict[str, str]:
    """Environment variables that put the crash points into the servers of a head.

    Args:
        folder: where sessions' files are kept.
        plan: ``before:N`` or ``after:N``, for sessions that don't bring one; "": they are spared.
    """
    environment = {"PYTHONPATH": str(_INSIDE), FOLDER_VARIABLE: str(folder)}
    if plan:
        environment[PLAN_VARIABLE] = plan
    return environment


def metadata(plan: str) -> List[List[str]]:
    """What a session brings as ``_metadata`` of ``ray.init`` so that its servers follow a plan."""
    return [[PLAN_KEY, plan]]


def new_requests(folder: Path, client_id: str) -> int:
    """How many requests that were new a session's servers have seen, of a plan's kind."""
    return len((folder / f"{client_id}.known").read_text().splitlines())


def deaths(cluster: Cluster, client_id: str) -> int:
    """How often a session's server has died by now, as its proxier saw it."""
    log = (cluster.logs / "ray_client_server.err").read_text(errors="replace")
    return log.count(f"Server of client {client_id} died: it was killed by signal 9")
