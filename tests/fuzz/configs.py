"""The proxier's reader of job configs: nothing but a refusal, and no side effects."""

from __future__ import annotations

import pickle
import sys
from typing import Any, Dict, List

import ray
from ray.job_config import JobConfig
from ray.runtime_env import RuntimeEnv, RuntimeEnvConfig
from ray.util.client.server.proxy import inert
from ray.util.client.server.proxy.job_config import BadJobConfig, runtime_env_of

# What Python tells of by audit events, beyond what reading a pickle is made of.
_HARMLESS = ("object.__", "pickle.find_class", "sys._getframe", "code.__new__", "gc.")
_CLASSES = (
    JobConfig,
    RuntimeEnv,
    RuntimeEnvConfig,
    ray.LoggingConfig,
    inert.Object,
    inert.Mapped,
)


class _Watch:
    """Notes what is done while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: List[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: Any) -> None:
        if self.on and not event.startswith(_HARMLESS):
            self.seen.append(f"{event} {arguments}")


_watch = _Watch()


def _looks() -> List[Dict[str, Any]]:
    return [dict(vars(kind)) for kind in _CLASSES]


def _read(data: bytes) -> None:
    try:
        spec = runtime_env_of(data)
    except BadJobConfig as refusal:
        text = str(refusal)
        assert len(text.encode()) < 16384
        return
    assert isinstance(spec.serialized, str) and spec.serialized.encode()
    assert all(isinstance(uri, str) for uri in spec.packages)


def job_config(data: bytes) -> None:
    """Reads the bytes, and looks for traces."""
    before = _looks()
    _watch.seen.clear()
    _watch.on = True
    try:
        _read(data)
    finally:
        _watch.on = False
    assert not _watch.seen, _watch.seen
    assert _looks() == before, "a class has changed"


def _configs() -> List[JobConfig]:
    full = JobConfig(metadata={"a": "b"}, ray_namespace="ns", _client_job=True)
    full.set_runtime_env({"pip": ["x"], "config": {"setup_timeout_seconds": 5}}, validate=True)
    full.set_py_logging_config(ray.LoggingConfig(encoding="JSON"))
    packed = {"working_dir": "gcs://a.zip", "py_modules": ["gcs://b.zip"], "env_vars": {"A": "1"}}
    return [
        JobConfig(),
        full,
        JobConfig(runtime_env=packed, _client_job=True),
        JobConfig(runtime_env={"conda": {"dependencies": ["pip", {"pip": ["x"]}]}}),
    ]


def seeds() -> List[bytes]:
    return [pickle.dumps(config, protocol=n) for config in _configs() for n in (2, 4, 5)]


# What Ray imports or reads when it is first asked is none of an input's doing.
for _seed in seeds():
    _read(_seed)
