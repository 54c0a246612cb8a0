"""Ray Client: a program that uses a cluster from outside of it, over one connection.

``ray`` of this module stands in for the ``ray`` module while a client is connected.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from typing import Any

import ray._private.ray_constants as ray_constants
from ray._common.network_utils import build_address, get_localhost_ip
from ray._private.client_mode_hook import (
    _explicitly_disable_client_mode,
    _explicitly_enable_client_mode,
)
from ray._private.ray_logging import setup_logger
from ray._private.utils import check_version_info
from ray.job_config import JobConfig
from ray.util.annotations import DeveloperAPI

logger = logging.getLogger(__name__)

# The port of the server that ``RayAPIStub.init`` starts in this process, for tests.
_OWN_SERVER_PORT = 50051

_NOT_CONNECTED = "Ray Client is not connected. Please connect by calling `ray.init`."


def _apply_uv_hook_for_client(runtime_env: dict[str, Any] | None) -> dict[str, Any] | None:
    """Lets the workers run under the same ``uv run`` as this client, where it runs under one.

    It must be found out here: the cluster can't see the client's parent processes.

    Args:
        runtime_env: of the session, or None. One that sets ``py_executable`` is left alone: the
            user has decided.

    Returns:
        The runtime env to use: the same object, or what the hook made of it.

    Raises:
        RuntimeError: uv is in use in a way that can't be passed on.
    """
    if not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV or "py_executable" in (runtime_env or {}):
        return runtime_env
    # Needs parts of Ray that are not importable yet when this module is.
    from ray._private.runtime_env.uv_runtime_env_hook import hook

    try:
        hooked = hook(runtime_env)
    except Exception as e:  # The hook looks at foreign processes and files: anything may go wrong.
        raise RuntimeError(
            f"Failed to apply UV runtime env hook for Ray Client: {e} If the workers need not run "
            "under uv, set RAY_ENABLE_UV_RUN_RUNTIME_ENV=0."
        ) from e
    return hooked if "py_executable" in hooked else runtime_env


class _ClientContext:
    """One client of a process: at most one session at a time, and the API round it."""

    def __init__(self) -> None:
        from ray.util.client.api import _ClientAPI

        self.api = _ClientAPI()
        self.client_worker: Any = None
        self._inside_client_test = False
        self._connected_with_init = False
        # The gRPC server of this process, if init() has started one.
        self._server: Any = None

    def connect(
        self,
        conn_str: str,
        job_config: JobConfig | None = None,
        secure: bool = False,
        metadata: list[tuple[str, str]] | None = None,
        connection_retries: int = 3,
        namespace: str | None = None,
        *,
        ignore_version: bool = False,
        _credentials: Any = None,
        ray_init_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Begins a session.

        Args:
            conn_str: ``host:port``.
            job_config: of the session's job.
            secure: whether to use TLS.
            metadata: sent with every call.
            connection_retries: how often to try before giving up.
            namespace: for the job; overrides the job config's.
            ignore_version: connect also if the cluster runs another Python or Ray.
            _credentials: gRPC's, for TLS.
            ray_init_kwargs: further arguments for ``ray.init`` on the server.

        Returns:
            What the cluster says of itself: num_clients, python_version, ray_version, ray_commit.

        Raises:
            ConnectionError: there is no session then; what was begun is undone.
        """
        if self.client_worker is not None and not self.client_worker.is_connected():
            self.disconnect()  # What is left of a lost session does not stand in the way.
        if self.client_worker is not None:
            if self._connected_with_init:
                return None
            raise Exception("ray.init() called, but ray client is already connected")
        if not self._inside_client_test:
            _explicitly_enable_client_mode()
        init_kwargs = {} if ray_init_kwargs is None else ray_init_kwargs
        job_config = self._prepared(job_config, namespace, init_kwargs)
        try:
            return self._begin(
                job_config,
                init_kwargs,
                ignore_version,
                conn_str=conn_str,
                secure=secure,
                metadata=metadata,
                connection_retries=connection_retries,
                _credentials=_credentials,
            )
        except BaseException:  # Ctrl-C as well: half a session must not stay behind.
            self.disconnect()
            raise

    @staticmethod
    def _prepared(
        job_config: JobConfig | None, namespace: str | None, init_kwargs: dict[str, Any]
    ) -> JobConfig | None:
        if namespace is not None:
            job_config = job_config or JobConfig()
            job_config.set_ray_namespace(namespace)
        runtime_env = init_kwargs.get("runtime_env")
        if runtime_env is None and job_config is not None:
            runtime_env = job_config.runtime_env
        runtime_env = _apply_uv_hook_for_client(runtime_env)
        if runtime_env is not None:
            init_kwargs["runtime_env"] = runtime_env
            if job_config is not None:
                job_config.set_runtime_env(runtime_env)
        # A hook of the user's runs where ray.init is called, not once more on the server.
        init_kwargs["_skip_env_hook"] = True
        return job_config

    def _begin(
        self,
        job_config: JobConfig | None,
        init_kwargs: dict[str, Any],
        ignore_version: bool,
        **connection: Any,
    ) -> dict[str, Any]:
        # Imports this module.
        from ray.util.client.worker import Worker

        setup_logger(
            init_kwargs.get("logging_level") or ray_constants.LOGGER_LEVEL,
            init_kwargs.get("logging_format") or ray_constants.LOGGER_FORMAT,
        )
        self.client_worker = Worker(connection.pop("conn_str"), **connection)
        self.api.worker = self.client_worker
        self.client_worker._server_init(job_config, init_kwargs)
        info = self.client_worker.connection_info()
        self._check_versions(info, ignore_version)
        self._register_serializers()
        return info

    def _register_serializers(self) -> None:
        """Registers here the serialisers that workers register on their own."""
        import ray.util.serialization_addons
        from ray.util.serialization import StandaloneSerializationContext

        ray.util.serialization_addons.apply(StandaloneSerializationContext())

    def _check_versions(self, conn_info: dict[str, Any], ignore_version: bool) -> None:
        tolerant = ignore_version or "RAY_IGNORE_VERSION_MISMATCH" in os.environ
        check_version_info(
            conn_info,
            "Ray Client",
            raise_on_mismatch=not tolerant,
            python_version_match_level="minor",
        )

    def disconnect(self) -> None:
        """Ends the session, if there is one."""
        from ray.util.client.api import _ClientAPI

        worker, self.client_worker = self.client_worker, None
        self.api = _ClientAPI()
        if worker is not None:
            worker.close()
            # gRPC's calls hang in cycles and take a lock when they are collected. At the
            # interpreter's exit one of gRPC's threads may have been stopped while it held that;
            # now they all run.
            del worker
            gc.collect()

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """``ray.remote``; works before a session exists, too."""
        return self.api.remote(*args, **kwargs)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        if self.is_connected():
            return getattr(self.api, key)
        if key in ("is_initialized", "_internal_kv_initialized"):
            return lambda: False
        if self.__dict__.get("client_worker") is not None:
            self.client_worker.check_alive()  # A lost session says why.
        # Imports this module.
        from ray.util.client.session.errors import NotConnected

        raise NotConnected(_NOT_CONNECTED)

    def is_connected(self) -> bool:
        worker = self.__dict__.get("client_worker")
        return worker is not None and worker.is_connected()

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Starts a server in this process and connects to it."""
        if self._server is not None:
            raise Exception("Trying to start two instances of ray via client")
        import ray.util.client.server.server as ray_client_server

        host = get_localhost_ip()
        handle, info = ray_client_server.init_and_serve(host, _OWN_SERVER_PORT, *args, **kwargs)
        self._server = handle.grpc_server
        self.connect(build_address(host, _OWN_SERVER_PORT))
        self._connected_with_init = True
        return info

    def shutdown(self, _exiting_interpreter: bool = False) -> None:
        """Ends the session, and the server of this process if there is one."""
        self.disconnect()
        server, self._server = self._server, None
        if server is None:
            return
        import ray.util.client.server.server as ray_client_server

        self._connected_with_init = False
        ray_client_server.shutdown_with_server(server, _exiting_interpreter)


# Every context that has, or had, a session. Guarded by _lock, which is held only to look at or
# change the set: ending a session may take a while.
_all_contexts: set[_ClientContext] = set()
_lock = threading.Lock()

# The context of threads that were not given another one (allow_multiple).
_default_context = _ClientContext()


def _end(context: _ClientContext, how: str, *args: Any, **kwargs: Any) -> None:
    """Ends the session of ``context``; with the default context's, those of all others."""
    with _lock:
        ending = {context}
        if context is _default_context:
            ending |= _all_contexts
        _all_contexts.difference_update(ending)
        last = not _all_contexts
    try:
        for one in ending:
            getattr(one, how)(*args, **kwargs)
    finally:
        if last:
            _explicitly_disable_client_mode()


@DeveloperAPI
class RayAPIStub:
    """Stands in for the ``ray`` module: passes everything to the calling thread's context."""

    def __init__(self) -> None:
        self._cxt = threading.local()
        self._cxt.handler = _default_context
        self._inside_client_test = False

    def get_context(self) -> _ClientContext:
        """The calling thread's context."""
        handler = self._cxt.__dict__.get("handler")
        if handler is None:
            handler = self._cxt.handler = _default_context
        return handler

    def set_context(self, cxt: _ClientContext | None) -> _ClientContext:
        """Gives the calling thread a context, a new one for None. Returns the one it had."""
        before = self.get_context()
        self._cxt.handler = _ClientContext() if cxt is None else cxt
        return before

    def is_default(self) -> bool:
        return self.get_context() is _default_context

    def connect(self, *args: Any, **kw_args: Any) -> Any:
        context = self.get_context()
        context._inside_client_test = self._inside_client_test
        info = context.connect(*args, **kw_args)
        with _lock:
            _all_contexts.add(context)
        return info

    def disconnect(self, *args: Any, **kw_args: Any) -> None:
        _end(self.get_context(), "disconnect", *args, **kw_args)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_context().remote(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_cxt":
            raise AttributeError(name)
        return getattr(self.get_context(), name)

    def is_connected(self, *args: Any, **kwargs: Any) -> bool:
        return self.get_context().is_connected(*args, **kwargs)

    def init(self, *args: Any, **kwargs: Any) -> Any:
        context = self.get_context()
        info = context.init(*args, **kwargs)
        with _lock:
            _all_contexts.add(context)
        return info

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        _end(self.get_context(), "shutdown", *args, **kwargs)


ray = RayAPIStub()


@DeveloperAPI
def num_connected_contexts() -> int:
    """How many clients of this process have a session."""
    with _lock:
        return len(_all_contexts)
