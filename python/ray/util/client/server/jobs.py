"""Init requests: what a client's job is to be, and whether this server's job can be it."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any, Dict, Set

import ray
from ray._private.client_mode_hook import disable_client_hook
from ray._private.ray_logging.logging_config import LoggingConfig
from ray.job_config import JobConfig
from ray.util.client import protocol
from ray.util.client.server.lifetime import RayLifetime
from ray.util.client.server.logservicer import worker_output
from ray.util.client.session import wire

logger = logging.getLogger(__name__)


def refusal(why: str) -> Any:
    """The InitResponse that tells a client why it can't have its job."""
    return protocol.InitResponse(ok=False, msg=why)


def acceptance(incarnation: int) -> Any:
    """The InitResponse for a client whose job runs."""
    with disable_client_hook():
        namespace = ray.get_runtime_context().namespace if ray.is_initialized() else ""
        output = worker_output()
    return protocol.InitResponse(
        ok=True,
        capabilities=wire.CAPABILITIES,
        incarnation=incarnation,
        namespace=namespace,
        worker_output=output,
    )


def begin_job(request: Any, lifetime: RayLifetime, incarnation: int) -> Any:
    """Begins the job that an InitRequest asks for, or joins the one that runs.

    Args:
        request: an InitRequest, ours or stock's.
        lifetime: of Ray in this process.
        incarnation: of this server in the client's session.

    Returns:
        The InitResponse.
    """
    try:
        wanted = _job_config(request)
        running = lifetime.begin(wanted, _init_kwargs(request))
    except Exception as e:  # Whatever keeps Ray from starting is the client's to see.
        logger.exception("Running Ray Init failed:")
        return refusal(f"Call to `ray.init()` on the server failed with: {e}")
    if wanted is not None and running is not None:
        ours = running.runtime_env_info.uris
        theirs = wanted._get_proto_job_config().runtime_env_info.uris
        if _packages(theirs) and _packages(theirs) != _packages(ours):
            return refusal(
                f"Runtime environment doesn't match request one {theirs} current one {ours}"
            )
    return acceptance(incarnation)


def _job_config(request: Any) -> Any:
    config = pickle.loads(request.job_config) if request.job_config else None
    # Stock's message class lacks the field.
    namespace = getattr(request, "namespace", "")
    if namespace:
        config = config or JobConfig()
        config.set_ray_namespace(namespace)
    if config is not None:
        config._client_job = True
    return config


def _init_kwargs(request: Any) -> Dict[str, Any]:
    kwargs = json.loads(request.ray_init_kwargs or "{}")
    if isinstance(kwargs.get("logging_config"), dict):
        kwargs["logging_config"] = LoggingConfig.from_dict(kwargs["logging_config"])
    return kwargs


def _packages(uris: Any) -> Set[str]:
    return {uris.working_dir_uri, *uris.py_modules_uris} - {""}
