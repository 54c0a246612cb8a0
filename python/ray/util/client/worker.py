"""A Ray Client session, as Ray's API uses it: ``ray.get`` and the rest end here."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import grpc

from ray._private.ray_constants import (
    DEFAULT_CLIENT_RECONNECT_GRACE_PERIOD,
    RAY_RUNTIME_ENV_IGNORE_GITIGNORE,
    env_float,
)
from ray._private.ray_logging.logging_config import LoggingConfig
from ray._private.runtime_env.py_modules import upload_py_modules_if_needed
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.exceptions import GetTimeoutError
from ray.job_config import JobConfig
from ray.util.client import auto_init, protocol, ray
from ray.util.client.aside import Aside
from ray.util.client.callbacks import Callbacks
from ray.util.client.chunking import carry
from ray.util.client.client_pickler import loads_from_server
from ray.util.client.connecting import (
    close_channel,
    make_channel,
    ping_request,
    tls_in_environment,
    wait_for_server,
)
from ray.util.client.dataclient import DataClient
from ray.util.client.fetching import fetch
from ray.util.client.logsclient import LogstreamClient
from ray.util.client.named import NamedObjects
from ray.util.client.pickling import Pickled, pickle_for_server
from ray.util.client.recovery import Limits, Recovery
from ray.util.client.refs import ClientActorRef, ClientObjectRef
from ray.util.client.releases import Handed, Releases
from ray.util.client.rpc_errors import decode_exception
from ray.util.client.sent import error_from, opened
from ray.util.client.session import wire
from ray.util.client.session.client import Receipt, State
from ray.util.client.session.errors import ServerStartFailed, SessionLost
from ray.util.client.session.journal import Kind, Submission
from ray.util.client.slot import Slot
from ray.util.client.speech import NO_ARGUMENTS
from ray.util.client.stubs import (
    ClientActorClass,
    ClientActorHandle,
    ClientRemoteFunc,
    ClientStub,
)
from ray.util.client.unary import Deadline, call_over_gaps
from ray.util.common import INT32_MAX
from ray.util.debug import log_once

logger = logging.getLogger(__name__)

# For how long one request may block in the server, in seconds: a caller that gives up leaves
# nothing behind there for longer.
MAX_BLOCKING_OPERATION_TIME_S: float = env_float("RAY_CLIENT_MAX_BLOCKING_OPERATION_TIME_S", 2.0)

# What a wait's answer may need beyond the time that the server waits, in seconds.
_ANSWER_SLACK_S = 0.25

# Bytes of tasks sent since the session began, beyond which the user is warned.
MESSAGE_SIZE_THRESHOLD = 10 * 1024 * 1024

_PATTERNS = "https://docs.ray.io/en/latest/ray-core/patterns/"


def _grace_period() -> float:
    setting = os.environ.get("RAY_CLIENT_RECONNECT_GRACE_PERIOD")
    if setting is None:
        return DEFAULT_CLIENT_RECONNECT_GRACE_PERIOD
    try:
        return max(0, int(setting))
    except ValueError:
        raise ValueError(
            f"RAY_CLIENT_RECONNECT_GRACE_PERIOD is a whole number of seconds, not {setting!r}"
        ) from None


class Worker:
    """One session with a cluster. Thread-safe.

    Args:
        conn_str: ``host:port`` of the Ray Client server.
        secure: whether to use TLS; RAY_USE_TLS turns it on as well.
        metadata: sent with every call.
        connection_retries: how many attempts, of 5 s and more, before connecting is given up.
        _credentials: for TLS; turns it on.

    Raises:
        ConnectionError: a subclass in ``session.errors`` tells why no connection came about.
    """

    def __init__(
        self,
        conn_str: str = "",
        secure: bool = False,
        metadata: list[tuple[str, str]] | None = None,
        connection_retries: int = 3,
        _credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._client_id = uuid.uuid4().hex
        self.metadata = [
            ("client_id", self._client_id),
            *(metadata or []),
            (wire.SECRET_KEY, secrets.token_hex(16)),
        ]
        self._grace_period = _grace_period()
        self._converted: dict[str, ClientStub] = {}
        # Cluster's id -> token, and back, for ids that somebody asked for.
        self._tokens: dict[bytes, bytes] = {}
        self._cluster_ids: dict[bytes, bytes] = {}
        self._by_name: NamedObjects | None = None
        self._recovery, self._limits = Recovery.from_environment(), Limits.from_environment()
        self.total_outbound_message_size_bytes = 0
        self._req_id = 0
        self._req_id_lock = threading.Lock()
        self.closed = False
        # Popped by whoever ends the session.
        self._ends = [True]
        self._aside = Aside()
        secure = secure or tls_in_environment() or _credentials is not None
        self.channel = make_channel(conn_str, secure, _credentials)
        self.server = protocol.Stub(self.channel, protocol.DRIVER)
        try:
            wait_for_server(self.channel, conn_str, secure, connection_retries, self._first_ping)
        except BaseException:
            close_channel(self.channel)
            self._aside.close()
            raise
        self._open_streams()

    def _first_ping(self, timeout: float) -> Any:
        return self.server.ClusterInfo(ping_request(), timeout=timeout, metadata=self.metadata)

    def _open_streams(self) -> None:
        self._callbacks = Callbacks(ray.get_context())
        self.data_client = DataClient(
            self.channel,
            self.metadata,
            self._grace_period,
            ray.get_context(),
            on_lost=lambda: auto_init.forbid(self),
            on_handed=lambda names, handing: Handed(self, names, handing),
            recovery=self._recovery,
            limits=self._limits,
            busy=lambda: self._releases.busy,
            later=self._callbacks.tell,
            off_main=lambda call: self._aside.run(lambda errand: call()),
        )
        self._releases = Releases(self._send_release)
        self.data_client.start()
        self.log_client = LogstreamClient(
            self.channel, self._call_metadata, self.data_client.wait_connected
        )
        self.log_client.set_logstream_level(logging.INFO)

    # -- the session

    @property
    def reference_count(self) -> dict[bytes, int]:
        """How many references of this client hold each id."""
        return self._releases.held

    def _server_init(
        self, job_config: JobConfig | None, ray_init_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Begins the session: the cluster starts a server and a job for it.

        Raises:
            ServerStartFailed: it could not; the text says why.
        """
        pickled_job_config, init_kwargs = prepare_init_request_args(job_config, ray_init_kwargs)
        request = protocol.InitRequest(
            job_config=pickled_job_config,
            ray_init_kwargs=json.dumps(init_kwargs),
            reconnect_grace_period=int(self._grace_period),
            capabilities=wire.CAPABILITIES,
        )
        answer = self.data_client.Init(request)
        if not answer.ok:
            raise ServerStartFailed(f"Initialization failure from server:\n{answer.msg}")
        if self.data_client.has_tokens:
            self._by_name = NamedObjects(self.data_client, self._client_id, self._callbacks)
        if not self.data_client.recovers:
            logger.info(
                "The cluster runs a stock Ray Client server: this session survives a broken "
                "connection, but recovery from the death of its server is off."
            )

    def connection_info(self) -> dict[str, Any]:
        """What the cluster says of itself: num_clients, ray_version, ray_commit, python_version."""
        info = self.data_client.ConnectionInfo()
        names = ("num_clients", "ray_version", "ray_commit", "python_version")
        return {name: getattr(info, name) for name in names}

    def is_connected(self) -> bool:
        """Whether the session lives; also while it is interrupted and may come back."""
        return not self.closed and self.data_client.state not in (State.LOST, State.CLOSED)

    def is_initialized(self) -> bool:
        """Whether the session lives and its server runs Ray."""
        return self.is_connected()

    def check_alive(self) -> None:
        """Raises why the session has ended, if it has."""
        self.data_client.check_alive()

    def check_may_wait(self) -> None:
        """Raises a RuntimeError where waiting for the session would never end, as in some
        destructors."""
        self.data_client.check_may_wait()

    def ping_server(self, timeout: float | None = None) -> bool:
        """Whether the cluster answers within ``timeout`` seconds."""
        try:
            limit = timeout if timeout is not None else MAX_BLOCKING_OPERATION_TIME_S
            self._aside.run(lambda errand: self._first_ping(limit))
            return True
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """Ends the session and tells the cluster so. Idempotent."""
        if self.data_client.must_not_wait:
            self._end_session()
            return
        # Others wait for what this tells them, so Ctrl-C must not end it halfway.
        self._aside.run(lambda errand: self._end_session())
        self._callbacks.join()

    def _end_session(self) -> None:
        try:
            self._ends.pop()
        except IndexError:  # Somebody has done it, or is about to.
            return
        self.closed = True
        auto_init.allow(self)
        self._releases.close()
        self.data_client.close()
        self._callbacks.close()
        self.log_client.close()
        close_channel(self.channel)
        self._aside.close()

    # -- calls

    def _call_metadata(self) -> list[tuple[str, str]]:
        incarnation = self.data_client.incarnation
        if incarnation is None:
            return self.metadata
        return [*self.metadata, (wire.INCARNATION_KEY, str(incarnation))]

    def _numbered_metadata(self) -> list[tuple[str, str]]:
        """Metadata by which the server knows a repeated request that must not be done twice."""
        with self._req_id_lock:
            self._req_id = self._req_id % INT32_MAX + 1
            req_id = self._req_id
        return [("thread_id", str(threading.get_ident())), ("req_id", str(req_id))]

    def _over_gaps(
        self,
        deadline: Deadline,
        attempt: Callable[[], Any],
        progress: Callable[[], int] = lambda: 0,
    ) -> Any:
        return self._aside.run(
            lambda errand: call_over_gaps(
                self.data_client, self._grace_period, deadline, attempt, progress, errand.check
            )
        )

    def _call_stub(
        self,
        name: str,
        request: Any,
        *,
        timeout: float | None = None,
        numbered: bool = False,
    ) -> Any:
        """Makes a unary call, over interruptions.

        Args:
            name: of the method.
            request: the message.
            timeout: seconds; None waits for as long as the session lives.
            numbered: whether the server must not do it twice.

        Raises:
            TimeoutError: the time is over.
            Exception: what the server raised; a ConnectionError if it was not reached.
        """
        deadline = Deadline(timeout)
        extra = self._numbered_metadata() if numbered else []

        def attempt() -> Any:
            return getattr(self.server, name)(
                request, metadata=self._call_metadata() + extra, timeout=deadline.remaining()
            )

        try:
            return self._over_gaps(deadline, attempt)
        except grpc.RpcError as e:
            if deadline.over and e.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"{name} was not answered within {timeout} s") from e
            raise decode_exception(e) from e

    # -- objects

    def register_callback(self, ref: ClientObjectRef, callback: Callable[[Any], None]) -> None:
        """Calls back with an object's value, or an exception, when it is ready.

        It runs on a thread for callbacks, and may wait for the session. What it raises is logged.
        """
        if self._by_name is not None:
            self._by_name.call_back(ref.id, callback)
            return
        pending = ref._ticket
        if pending is None or pending.done():
            self._get_later(ref.id, callback)
            return

        def when_named(slot: Slot) -> None:
            if slot.succeeded:
                try:
                    self._get_later(slot.result(), callback)
                except SessionLost as e:
                    self._callbacks.call(callback, e)
            else:  # What the submission failed with is the object's value.
                self._callbacks.tell(callback, slot.exception)

        pending.add_done_callback(when_named)

    def _get_later(self, id: bytes, callback: Callable[[Any], None]) -> None:
        def read(got: Any) -> Any:
            return opened(got) if isinstance(got, Exception) else loads_from_server(got)

        request = protocol.GetRequest(ids=[id], asynchronous=True)
        self.data_client.RegisterGetCallback(
            request, lambda got: self._callbacks.tell(callback, lambda: read(got))
        )

    def get(
        self,
        vals: ClientObjectRef | list[ClientObjectRef],
        *,
        timeout: float | None = None,
    ) -> Any:
        """The values of one reference or of a list of them.

        Args:
            vals: the reference or references.
            timeout: seconds; None waits as long as it takes.

        Raises:
            GetTimeoutError: they are not ready in time; also in an interruption.
            OwnerDiedError: the session's server died and took the object along.
            Exception: what the task raised.
        """
        if isinstance(vals, ClientObjectRef):
            return self._get([vals], timeout)[0]
        if not isinstance(vals, list):
            raise TypeError(
                f"ray.get() takes an object reference or a list of them, not {type(vals).__name__}"
            )
        for ref in vals:
            if not isinstance(ref, ClientObjectRef):
                raise TypeError(
                    f"ray.get() takes object references; the list has a {type(ref).__name__}"
                )
        return self._get(vals, timeout) if vals else []

    def _get(self, refs: list[ClientObjectRef], timeout: float | None) -> list[Any]:
        if self._by_name is not None:
            return self._by_name.get([ref.id for ref in refs], timeout)
        ids = self._ids(refs, Deadline(timeout))
        try:
            data = fetch(
                ids,
                timeout,
                MAX_BLOCKING_OPERATION_TIME_S,
                lambda: self.data_client.incarnation,
                self._over_gaps,
                self.server.GetObject,
                self._call_metadata,
            )
        except grpc.RpcError as e:
            raise decode_exception(e) from e
        values = loads_from_server(data)
        if len(values) != len(refs):
            raise ConnectionError(
                f"The server answered {len(values)} objects where {len(refs)} were asked for"
            )
        return values

    @staticmethod
    def _ids(refs: Sequence[ClientObjectRef], deadline: Deadline) -> list[bytes]:
        for ref in refs:
            ref._wait_for_name(deadline.remaining())
        return [ref.id for ref in refs]

    def put(self, val: Any, *, client_ref_id: bytes | None = None) -> ClientObjectRef:
        """Stores an object on the cluster."""
        if isinstance(val, ClientObjectRef):
            raise TypeError(
                "Calling 'put' on an ObjectRef is not allowed. To store the reference itself, put "
                "it into a list and call 'put' on that."
            )
        return self._put_pickled(self._pickle(val), client_ref_id)

    def _put_pickled(self, pickled: Pickled, client_ref_id: bytes | None) -> ClientObjectRef:
        if self._by_name is not None:
            return ClientObjectRef(self._by_name.put(pickled, client_ref_id))
        data = pickled.data
        answer = self.data_client.PutObject(
            protocol.PutRequest(data=data, client_ref_id=client_ref_id)
        )
        if not answer.valid:
            raise error_from(answer.error)
        return ClientObjectRef(answer.id)

    def wait(
        self,
        object_refs: list[ClientObjectRef],
        *,
        num_returns: int = 1,
        timeout: float | None = None,
        fetch_local: bool = True,
    ) -> tuple[list[ClientObjectRef], list[ClientObjectRef]]:
        """Waits until ``num_returns`` of the objects are ready.

        Args:
            object_refs: distinct references.
            num_returns: how many.
            timeout: seconds; None waits as long as it takes, also over interruptions.
            fetch_local: without meaning here; objects stay on the cluster.

        Returns:
            The ready ones, at most ``num_returns``, and the others, both in the order given.
        """
        self._check_wait(object_refs, num_returns)
        if not object_refs:
            return [], []
        deadline = Deadline(timeout)
        named, ready = self._named(object_refs, deadline)
        while len(ready) < num_returns and named:
            wanted = min(num_returns - len(ready), len(named))
            if self._by_name is not None:
                left = deadline.remaining()
                ready.update(named[id] for id in self._by_name.wait(list(named), wanted, left))
                break
            answer = self._wait_once(list(named), wanted, deadline)
            if len(answer) >= wanted or deadline.over:
                ready.update(named[id] for id in answer)
                break
        chosen = sorted(ready)[:num_returns]
        return (
            [object_refs[i] for i in chosen],
            [ref for i, ref in enumerate(object_refs) if i not in set(chosen)],
        )

    @staticmethod
    def _check_wait(object_refs: Any, num_returns: int) -> None:
        if not isinstance(object_refs, list):
            raise TypeError(
                f"wait() expected a list of ClientObjectRef, got {type(object_refs).__name__}"
            )
        for ref in object_refs:
            if not isinstance(ref, ClientObjectRef):
                raise TypeError(
                    f"wait() expected a list of ClientObjectRef, got one of {type(ref).__name__}"
                )
        # As many as there are is what a loop asks for that has waited for all.
        if object_refs and not 1 <= num_returns <= len(object_refs):
            raise ValueError(
                f"wait() can't wait for {num_returns} of {len(object_refs)} references"
            )

    @staticmethod
    def _named(
        refs: Sequence[ClientObjectRef], deadline: Deadline
    ) -> tuple[dict[bytes, int], set[int]]:
        """Indices of the ids that are known in time, and of the references with an error."""
        named: dict[bytes, int] = {}
        failed: set[int] = set()
        for index, ref in enumerate(refs):
            try:
                ref._wait_for_name(deadline.remaining())
            except GetTimeoutError:
                continue
            except Exception:  # Whatever it is, ray.get() of the reference will raise it.
                failed.add(index)
                continue
            if named.setdefault(ref.id, index) != index:
                raise ValueError("wait() requires a list of distinct references")
        return named, failed

    def _wait_once(self, ids: list[bytes], num_returns: int, deadline: Deadline) -> list[bytes]:
        blocking = deadline.within(MAX_BLOCKING_OPERATION_TIME_S)
        request = protocol.WaitRequest(
            object_ids=ids, num_returns=num_returns, timeout=blocking, client_id=self._client_id
        )

        def attempt() -> Any:
            left = deadline.remaining()
            limit = None if left is None else left + _ANSWER_SLACK_S
            return self.server.WaitObject(request, metadata=self._call_metadata(), timeout=limit)

        try:
            answer = self._over_gaps(deadline, attempt)
        except TimeoutError:
            return []
        except grpc.RpcError as e:
            if deadline.over and e.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return []
            raise decode_exception(e) from e
        if not answer.valid:
            raise ValueError("The server could not wait for these references.")
        return list(answer.ready_object_ids)

    # -- tasks and actors

    def call_remote(self, instance: Any, *args: Any, **kwargs: Any) -> list[Future]:
        """Submits what ``instance`` stands for. Returns futures of the ids of what it returns."""
        num_returns = instance._num_returns()
        if num_returns == "streaming":
            raise RuntimeError(
                'Streaming actor methods (num_returns="streaming") are not currently supported '
                "when using Ray Client."
            )
        task = instance._prepare_client_task()
        pickled = self._pickle((args, kwargs))
        payload = carry(task, pickled.data)
        if num_returns is None or num_returns in ("dynamic", -1):
            num_returns = 1
        return self._call_schedule_for_task(
            *(task, num_returns, instance._retries(), instance._journal_kind(), pickled.needs),
            payload=payload,
        )

    def _call_schedule_for_task(
        self,
        task: Any,
        num_returns: int,
        retries: int = 0,
        kind: Kind = Kind.TASK,
        needs: tuple[bytes, ...] = (),
        payload: Any = None,
    ) -> list[Future]:
        task.client_id = self._client_id
        size = task.ByteSize() + len(payload or b"")
        futures: list[Any]
        if self._by_name is not None:
            runs = (task.payload_id,) if task.payload_id else ()
            futures = self._by_name.schedule(
                task, num_returns, Submission(kind, (), runs + needs, retries), payload
            )
        else:
            futures = [Slot() for _ in range(num_returns)]
            # Without a journal nobody makes a dead server's actors again.
            self.data_client.Schedule(
                task, futures, 0 if kind is Kind.CALL else retries, payload=payload
            )
        self.total_outbound_message_size_bytes += size
        if self.total_outbound_message_size_bytes > MESSAGE_SIZE_THRESHOLD and log_once(
            "client_communication_overhead_warning"
        ):
            warnings.warn(
                "More than 10MB of messages have been created to schedule tasks on the server. "
                "Over a network that is slow. If there are many small tasks, let each do more: "
                f"{_PATTERNS}too-fine-grained-tasks.html. If functions or arguments are large, "
                "store them with ray.put and pass the references: "
                f"{_PATTERNS}closure-capture-large-objects.html",
                UserWarning,
                stacklevel=4,
            )
        return futures

    def get_actor(self, name: str, namespace: str | None = None) -> ClientActorHandle:
        """A handle of the actor of that name.

        Raises:
            ValueError: there is none.
        """
        task = protocol.ClientTask(
            type=protocol.ClientTask.NAMED_ACTOR,
            name=name,
            namespace=namespace or "",
            data=NO_ARGUMENTS,
            total_chunks=1,
        )
        (future,) = self._call_schedule_for_task(task, 1, kind=Kind.NAMED)
        ref = ClientActorRef(future, weak_ref=True)
        # Waits for the answer: asking for an actor is how programs find out whether it exists.
        if ref.is_nil():
            raise ValueError(f"There is no actor of the name {name!r}")
        return ClientActorHandle(ref)

    def terminate_actor(self, actor: ClientActorHandle, no_restart: bool) -> None:
        """Kills an actor (``ray.kill``)."""
        if not isinstance(actor, ClientActorHandle):
            raise ValueError(f"ray.kill() only supported for actors. Got: {type(actor).__name__}.")
        body = protocol.TerminateRequest.ActorTerminate(
            id=actor.actor_ref.id, no_restart=no_restart
        )
        self._terminate(protocol.TerminateRequest(actor=body))

    def terminate_task(self, obj: ClientObjectRef, force: bool, recursive: bool) -> None:
        """Cancels a task (``ray.cancel``)."""
        if not isinstance(obj, ClientObjectRef):
            raise TypeError(
                f"ray.cancel() only supported for non-actor object refs. Got: {type(obj).__name__}."
            )
        body = protocol.TerminateRequest.TaskObjectTerminate(
            id=obj.id, force=force, recursive=recursive
        )
        self._terminate(protocol.TerminateRequest(task_object=body))

    def _terminate(self, request: Any) -> None:
        request.client_id = self._client_id
        self.data_client.Terminate(request)

    def list_named_actors(self, all_namespaces: bool) -> list[Any]:
        request = protocol.ClientListNamedActorsRequest(all_namespaces=all_namespaces)
        return json.loads(self.data_client.ListNamedActors(request).actors_json)

    def call_retain(self, id: bytes, *, minted: bool = False) -> None:
        """One more reference of this client holds ``id``. ``minted``: this client has named it."""
        first = self._releases.retain(id)
        if first and not minted and self._by_name is not None:
            self.data_client.adopt(id)

    def name_of(self, id: bytes) -> bytes:
        """The name on the wire of what the cluster calls ``id``."""
        return self._tokens.get(id, id)

    def id_of(self, name: bytes, id: bytes) -> bytes:
        """The cluster's id of what is called ``name`` here: the first one, if known, or ``id``."""
        return self._cluster_ids.get(name, id)

    def note_id(self, name: bytes, id: bytes) -> None:
        """The cluster has told the id of what this client calls ``name``."""
        if name != id:
            self._tokens[id] = name
            self._cluster_ids[name] = id

    def call_handed(self, names: Sequence[bytes], handing: int) -> None:
        """An answer has come that refers to these. One more reference to each, for a while."""
        for name in names:
            self.call_retain(name)
        self._releases.note_handed(names, handing)

    def call_release(self, id: bytes | Future | tuple[bytes, ...]) -> None:
        """One reference less, to each of several. May be called from destructors."""
        if not self.closed:
            self._releases.release(id)

    def _send_release(self, ids: list[bytes], receipts: list[Receipt]) -> None:
        for id in ids:
            self._tokens.pop(self._cluster_ids.pop(id, b""), None)
        self.data_client.release(ids, receipts)

    # -- functions and classes that were declared before the session

    def _convert_function(self, func: Any) -> str:
        return self._convert(ClientRemoteFunc(func._function, options=func._default_options))

    def _convert_actor(self, actor: Any) -> str:
        target = actor.__ray_metadata__.modified_class
        return self._convert(ClientActorClass(target, options=actor._default_options))

    def _convert(self, stub: ClientStub) -> str:
        key = uuid.uuid4().hex
        self._converted[key] = stub
        return key

    def _get_converted(self, key: str) -> ClientStub:
        return self._converted[key]

    def _converted_key_exists(self, key: str) -> bool:
        return key in self._converted

    def _dumps_from_client(self, val: Any) -> bytes:
        return self._pickle(val).data

    def _pickle(self, val: Any) -> Pickled:
        return pickle_for_server(val, self._client_id)

    # -- the cluster

    def get_cluster_info(self, req_type: int, timeout: float | None = None) -> Any:
        """One piece of information on the cluster, by ``ClusterInfoType``."""
        request = protocol.ClusterInfoRequest(type=req_type)
        answer = self._call_stub("ClusterInfo", request, timeout=timeout)
        kind = answer.WhichOneof("response_type")
        if kind == "resource_table":
            return dict(answer.resource_table.table)
        if kind == "runtime_context":
            return answer.runtime_context
        return json.loads(answer.json)

    def internal_kv_get(self, key: bytes, namespace: bytes | None) -> bytes | None:
        answer = self._call_stub("KVGet", protocol.KVGetRequest(key=key, namespace=namespace))
        return answer.value if answer.HasField("value") else None

    def internal_kv_exists(self, key: bytes, namespace: bytes | None) -> bool:
        request = protocol.KVExistsRequest(key=key, namespace=namespace)
        return self._call_stub("KVExists", request).exists

    def internal_kv_put(
        self,
        key: bytes,
        value: bytes,
        overwrite: bool,
        namespace: bytes | None,
    ) -> bool:
        request = protocol.KVPutRequest(
            namespace=namespace, key=key, value=value, overwrite=overwrite
        )
        answer = self._call_stub("KVPut", request, numbered=True)
        return answer.already_exists

    def internal_kv_del(self, key: bytes, del_by_prefix: bool, namespace: bytes | None) -> int:
        request = protocol.KVDelRequest(namespace=namespace, key=key, del_by_prefix=del_by_prefix)
        answer = self._call_stub("KVDel", request, numbered=True)
        return answer.deleted_num

    def internal_kv_list(self, prefix: bytes, namespace: bytes | None) -> list[bytes]:
        request = protocol.KVListRequest(prefix=prefix, namespace=namespace)
        return list(self._call_stub("KVList", request).keys)

    def pin_runtime_env_uri(self, uri: str, expiration_s: int) -> None:
        request = protocol.ClientPinRuntimeEnvURIRequest(uri=uri, expiration_s=expiration_s)
        self._call_stub("PinRuntimeEnvURI", request)


def make_client_id() -> str:
    """A new id of a session."""
    return uuid.uuid4().hex


def prepare_init_request_args(
    job_config: JobConfig | None, ray_init_kwargs: dict[str, Any] | None = None
) -> tuple[bytes | None, dict[str, Any]]:
    """Makes what an InitRequest carries out of what ``ray.init`` was given.

    Local directories of the runtime env are uploaded to the cluster, and the job config is changed
    to name the uploaded packages.

    Args:
        job_config: of the session's job, or None.
        ray_init_kwargs: for ``ray.init`` on the server, or None; left unchanged.

    Returns:
        The pickled job config, or None; and the arguments in a form that JSON can carry.
    """
    kwargs = dict(ray_init_kwargs or {})
    if isinstance(kwargs.get("logging_config"), LoggingConfig):
        kwargs["logging_config"] = kwargs["logging_config"].to_dict()
    if job_config is None:
        return None, kwargs
    job_config.ensure_logging_config(kwargs.get("logging_config"))
    job_config.set_runtime_env(_uploaded(job_config.runtime_env or {}), validate=True)
    return pickle.dumps(job_config), kwargs


def _uploaded(runtime_env: Any) -> Any:
    use_gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    with tempfile.TemporaryDirectory() as scratch:
        for upload in (upload_py_modules_if_needed, upload_working_dir_if_needed):
            runtime_env = upload(
                runtime_env,
                scratch_dir=scratch,
                include_gitignore=use_gitignore,
                logger=logger,
            )
    runtime_env.pop("excludes", None)
    return runtime_env
