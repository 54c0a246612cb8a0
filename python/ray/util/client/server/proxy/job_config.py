"""Reads a client's job config without running what the client may have put into the pickle."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet

from ray.util.client.server.proxy import inert


class _JobConfig(inert.Object):
    """Stands in for a JobConfig."""


# All that a job config is made of.
_ADMITTED: inert.StandIns = {
    ("ray.job_config", "JobConfig"): _JobConfig,
    ("ray.runtime_env.runtime_env", "RuntimeEnv"): inert.Mapped,
    ("ray.runtime_env.runtime_env", "RuntimeEnvConfig"): inert.Mapped,
    ("ray._private.ray_logging.logging_config", "LoggingConfig"): inert.Object,
    ("collections", "OrderedDict"): collections.OrderedDict,
}

_CLUSTER_PACKAGE = "gcs://"
# What a runtime environment may cost when it is written out. In a pickle a value may stand many
# times for the price of one, and lists of lists of it for little more.
_MAX_COST = inert.MAX_BYTES
_MAX_DEPTH = 100
_MAX_TEXT = 2000


class BadJobConfig(Exception):
    """The job config can't be read; the text says why, in at most a few lines that any log and
    any message can take."""

    def __init__(self, text: str) -> None:
        # What a hostile pickle holds may be cited here, half surrogates and all.
        super().__init__(text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode())


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


def runtime_env_of(pickled: bytes) -> RuntimeEnvSpec:
    """The runtime environment in a pickled job config. May look at files; call it in a thread.

    Raises:
        BadJobConfig: it is no job config, holds what none holds, is too large, or its runtime
            environment is not valid.
    """
    if not pickled:
        return RuntimeEnvSpec()
    try:
        loaded = inert.load(pickled, _ADMITTED)
    except inert.NotInert as e:
        raise BadJobConfig(
            f"The job config {e}: the proxy server loads nothing but job configs and runtime "
            "environments."
        ) from e
    if type(loaded) is not _JobConfig or type(loaded.state) is not dict:
        raise BadJobConfig(f"Expected a job config, got a {type(loaded).__name__}.")
    env = _Plain().value(loaded.state.get("runtime_env") or {}, _MAX_DEPTH)
    try:
        return _spec(env, loaded.state.get("_client_job") is True)
    except BadJobConfig:
        raise
    except Exception as e:  # The environment is checked by Ray, which raises whatever comes up.
        raise BadJobConfig(f"The runtime environment is not valid: {type(e).__name__}: {e}") from e


def _spec(env: Any, client_job: bool) -> RuntimeEnvSpec:
    from ray.job_config import JobConfig

    _refuse_files(env)
    config = JobConfig(runtime_env=env, _client_job=client_job)
    return RuntimeEnvSpec(
        config._get_serialized_runtime_env(), config._get_proto_runtime_env_config()
    )


def _refuse_files(env: Dict[str, Any]) -> None:
    # Clients put a file's contents in its place; a name that is left would be read on this machine.
    pip, conda = env.get("pip"), env.get("conda")
    if isinstance(pip, dict):
        pip = pip.get("packages")
    if isinstance(conda, str) and Path(conda).suffix not in (".yaml", ".yml"):
        conda = None  # The name of an environment.
    for named in (pip, env.get("uv"), conda):
        if isinstance(named, str):
            raise BadJobConfig(f"The runtime environment names a file of its client's: {named}")


class _Plain:
    """Makes plain values, as JSON has them, of what was loaded; within bounds."""

    def __init__(self) -> None:
        self._left = _MAX_COST

    def value(self, loaded: Any, depth: int) -> Any:
        """The value without anything that has behaviour.

        Raises:
            BadJobConfig: it holds something else, or is too large or nested too deep.
        """
        if depth == 0:
            raise BadJobConfig("The runtime environment is nested too deep.")
        if isinstance(loaded, dict):
            self._pay(len(loaded))
            return {self._scalar(key): self.value(kept, depth - 1) for key, kept in loaded.items()}
        if isinstance(loaded, (list, tuple)):
            self._pay(len(loaded))
            return [self.value(kept, depth - 1) for kept in loaded]
        return self._scalar(loaded)

    def _scalar(self, loaded: Any) -> Any:
        if isinstance(loaded, str):
            self._pay(len(loaded))
        elif not isinstance(loaded, (int, float, type(None))):
            kind = type(loaded).__name__
            raise BadJobConfig(f"The runtime environment holds a {kind}, which has no place in it.")
        return loaded

    def _pay(self, cost: int) -> None:
        self._left -= cost + 1
        if self._left < 0:
            raise BadJobConfig("The runtime environment is too large.")
