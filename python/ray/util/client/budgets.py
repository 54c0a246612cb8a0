"""How often Ray may run again what a user submitted, by the options that the user gave.

A death of the session's server uses up one of these, like a death of a worker does.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from ray._private.ray_constants import DEFAULT_TASK_MAX_RETRIES
from ray.util.client import protocol

_TASK_OPTION = "max_retries"
_ACTOR_OPTION = "max_restarts"

Options = dict[str, Any] | None


def _chosen(name: str, default: int, *layers: Options) -> int:
    for options in layers:
        value = (options or {}).get(name)
        if value is not None:
            return value
    return default


def of_task(*layers: Options) -> int:
    """Retries of a task: -1 is without limit. ``layers``: options, the most specific first."""
    default = int(os.environ.get("RAY_TASK_MAX_RETRIES", DEFAULT_TASK_MAX_RETRIES))
    return _chosen(_TASK_OPTION, default, *layers)


def of_actor(*layers: Options) -> int:
    """Restarts of an actor: -1 is without limit. ``layers``: options, the most specific first."""
    return _chosen(_ACTOR_OPTION, 0, *layers)


def of_calls(*layers: Options) -> int:
    """Retries of an actor's calls: -1 is without limit. ``layers``: the most specific first."""
    return _chosen("max_task_retries", 0, *layers)


def is_detached(*layers: Options) -> bool:
    """Whether an actor outlives the job that makes it. ``layers``: the most specific first."""
    for options in layers:
        if options and options.get("lifetime") is not None:
            return options["lifetime"] == "detached"
    return False


def spend(task: Any, left: int) -> None:
    """Writes into a task message that only so many retries, or restarts, are left."""
    options = {}
    if task.options.pickled_options:
        options = pickle.loads(task.options.pickled_options)
    name = _ACTOR_OPTION if task.type == protocol.ClientTask.ACTOR else _TASK_OPTION
    options[name] = left
    task.options.pickled_options = pickle.dumps(options)
