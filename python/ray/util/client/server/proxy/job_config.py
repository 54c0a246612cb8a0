"""Reads a client's job config without running what the client may have put into the pickle."""

from __future__ import annotations

import importlib
import io
import json
import pickle
from dataclasses import dataclass
from typing import Any, FrozenSet

# All that a job config is made of. Nothing here does more than build a value when it is called.
_ADMITTED = frozenset(
    {
        ("ray.job_config", "JobConfig"),
        ("ray.runtime_env.runtime_env", "RuntimeEnv"),
        ("ray.runtime_env.runtime_env", "RuntimeEnvConfig"),
        ("ray._private.ray_logging.logging_config", "LoggingConfig"),
        ("collections", "OrderedDict"),
    }
)


_CLUSTER_PACKAGE = "gcs://"


class BadJobConfig(Exception):
    """The job config can't be read; the text says why."""


@dataclass(frozen=True)
class RuntimeEnvSpec:
    """A job's runtime environment as the runtime env agent wants it.

    Attributes:
        serialized: JSON; ``{}`` where the job has none.
        config: Ray's RuntimeEnvConfig message; None for the defaults.
    """

    serialized: str = "{}"
    config: Any = None

    @property
    def empty(self) -> bool:
        return self.serialized in ("", "{}")

    @property
    def packages(self) -> FrozenSet[str]:
        """URIs of the packages that clients have uploaded to the cluster for it."""
        env = json.loads(self.serialized or "{}")
        named = [env.get("working_dir"), *(env.get("py_modules") or ())]
        return frozenset(
            uri for uri in named if isinstance(uri, str) and uri.startswith(_CLUSTER_PACKAGE)
        )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise BadJobConfig(
                f"The job config holds a {module}.{name}, which has no place in one: the proxy "
                "server loads nothing but job configs and runtime environments."
            )
        return getattr(importlib.import_module(module), name)


def runtime_env_of(pickled: bytes) -> RuntimeEnvSpec:
    """The runtime environment in a pickled job config. May read files; call it in a thread.

    Raises:
        BadJobConfig: it is no job config, holds what none holds, or its runtime environment is
            not valid.
    """
    if not pickled:
        return RuntimeEnvSpec()
    from ray.job_config import JobConfig

    try:
        config = _Unpickler(io.BytesIO(pickled)).load()
        if not isinstance(config, JobConfig):
            raise BadJobConfig(f"Expected a job config, got a {type(config).__name__}.")
        return RuntimeEnvSpec(
            config._get_serialized_runtime_env(), config._get_proto_runtime_env_config()
        )
    except BadJobConfig:
        raise
    except Exception as e:  # A hostile or foreign pickle may fail in any way.
        raise BadJobConfig(f"The job config can't be read: {type(e).__name__}: {e}") from e
