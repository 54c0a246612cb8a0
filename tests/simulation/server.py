"""A specific server's process: the product's sessions, cache, streams and holdings on the
simulated Ray."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc

from ray.util.client import protocol
from ray.util.client.cache import CacheError
from ray.util.client.server import dataservicer
from ray.util.client.server.datapath import DataStream
from ray.util.client.server.inbox import Answer
from ray.util.client.server.ray_calls import ActorRecord, RayCalls
from ray.util.client.server.raylet import RayletServicer
from ray.util.client.server.sessions import Refused, Session, SessionGone, Sessions
from ray.util.client.server.unary import raises_to_caller, runs_once
from ray.util.client.session import wire as names
from ray.util.client.session.errors import ProtocolError
from tests.simulation.cluster import Actor, Bag, Cluster, Driver, Ref, Work, check_ready
from tests.simulation.network import Metadata, Status, Wire
from tests.simulation.world import World

# How late a server that has nobody to serve may notice it (seconds).
_TICK_S = 1.0
# What one process admits. Nobody else but its proxier ever comes.
_CLIENTS = 50


class Killed(BaseException):
    """The process was killed in the middle of what it did."""


def described(message: Any) -> str:
    """A request, or a response, in a line for people."""
    kind = message.WhichOneof("type")
    body = getattr(message, kind) if kind else None
    if kind == "batch":
        parts = getattr(body, "requests", None) or body.responses
        return " | ".join(described(part) for part in parts)
    names = []
    if kind == "put":
        names.append(body.register_as.lstrip(b"\xcdsimul\0")[-2:].hex())
    for field in ("ids", "return_tokens", "object_ids", "ready_object_ids"):
        names += [name.lstrip(b"\xcdsimul\0")[-2:].hex() for name in getattr(body, field, ())]
    return f"{kind} {message.req_id} {' '.join(names)}".strip()


class Arguments(NamedTuple):
    """What a task, an actor or a call is given.

    Attributes:
        client: whose names these are.
        args: ("ref" or "actor", name), or ("value", value).
        work: what it does.
    """

    client: str
    args: list[tuple[str, Any]]
    work: Work


class Nest(NamedTuple):
    """What is put: a value that refers to objects. ``names``: as the client calls them."""

    client: str
    text: str
    names: tuple[bytes, ...]


class Parcel(NamedTuple):
    """A value as a client gets it: with the names of what it refers to."""

    text: str
    names: tuple[bytes, ...]


class Handle:
    """An actor's handle, as a driver has it."""

    def __init__(self, calls: SimulatedRay, actor: Actor) -> None:
        self._calls = calls
        self.actor = actor
        self._actor_id = actor.id

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return _Method(self._calls, self.actor, {})


class _Method:
    def __init__(self, calls: SimulatedRay, actor: Actor, options: dict[str, Any]) -> None:
        self._calls = calls
        self._actor = actor
        self._options = options

    def options(self, **options: Any) -> _Method:
        return _Method(self._calls, self._actor, options)

    def remote(self, *args: Any, work: Work) -> list[Ref]:
        retries = self._options.get("max_task_retries", 0)
        calls = self._calls
        return calls.cluster.call(calls.driver, self._actor, work, list(args), retries)


class _Function:
    def __init__(self, calls: SimulatedRay, options: dict[str, Any]) -> None:
        self._calls = calls
        self._options = options

    def options(self, **options: Any) -> _Function:
        return _Function(self._calls, {**self._options, **options})

    def remote(self, *args: Any, work: Work) -> list[Ref]:
        retries = self._options.get("max_retries", 3)
        return self._calls.cluster.run(self._calls.driver, work, list(args), retries)


class _ActorClass(_Function):
    def options(self, **options: Any) -> _ActorClass:
        return _ActorClass(self._calls, {**self._options, **options})

    def remote(self, *args: Any, work: Work) -> Any:
        calls = self._calls
        actor = calls.cluster.make_actor(
            calls.driver, work, list(args), self._options, calls.namespace
        )
        return Handle(calls, actor)


class SimulatedRay(RayCalls):
    """The Ray of one server's process.

    Args:
        server: the process.
        cluster: the cluster.
    """

    def __init__(self, server: ServerProcess, cluster: Cluster) -> None:
        self._server = server
        self.cluster = cluster
        self.driver: Driver
        self.namespace = ""

    def load(self, data: bytes, servicer: Any) -> Any:
        body = pickle.loads(data)
        if isinstance(body, Nest):
            held = servicer.object_refs[body.client]
            return Bag(body.text, tuple(held[name] for name in body.names))
        if not isinstance(body, Arguments):
            return body
        client, args, work = body
        found = [self._argument(client, arg, servicer) for arg in args]
        return found, {"work": work}

    @staticmethod
    def _argument(client: str, arg: tuple[str, Any], servicer: Any) -> Any:
        kind, it = arg
        if kind == "ref":
            return servicer.object_refs[client][it]
        if kind == "actor":
            return servicer.actor_refs[it]
        return it

    def pickled(
        self,
        value: Any,
        client_id: str,
        servicer: Any,
        source: bytes | None = None,
        names: dict[bytes, None] | None = None,
    ) -> bytes:
        if not isinstance(value, Bag):
            return pickle.dumps(value)
        picked = servicer.held.picks.names_in(source) if source is not None else {}
        inside = []
        for place, ref in enumerate(dict.fromkeys(value.inside)):
            id = ref.binary()
            name = picked.get(place) or servicer.held.name_of(client_id, id)
            if name == id:
                servicer.object_refs[client_id].setdefault(id, ref)
            inside.append(name)
        if names is not None:
            names.update(dict.fromkeys(inside))
        return pickle.dumps(Parcel(value.text, tuple(inside)))

    def put(self, value: Any) -> Ref:
        return self.cluster.put(self.driver, value)

    def remote(self, ref: Ref, check: Callable[[Any], Any], options: dict | None) -> Any:
        made = {"function": _Function, "class": _ActorClass}[ref.outcome]
        return made(self, options or {})

    def pick(self, source: Ref, index: int) -> Ref:
        return self.cluster.pick(self.driver, source, index)

    def get_actor(self, name: str, namespace: str | None) -> Handle:
        return Handle(self, self.cluster.find(name, namespace or self.namespace))

    def actors_named(self, name: str, namespace: str | None) -> list[ActorRecord]:
        found = self.cluster.had_name(name, namespace or self.namespace)
        return [_record(actor) for actor in found if actor.dead]

    def actor_record(self, actor_id: bytes) -> ActorRecord | None:
        found = [each for each in self.cluster.actors if each.id.binary() == actor_id]
        return _record(found[0]) if found else None

    def kill(self, actor: Handle, no_restart: bool) -> None:
        self.cluster.kill(actor.actor)

    def cancel(self, ref: Ref, force: bool, recursive: bool) -> None:
        self.cluster.cancel(ref)

    def wait(
        self,
        refs: Iterable[Ref],
        num_returns: int,
        timeout: float | None,
        wanted: Callable[[], bool],
    ) -> tuple[list[Ref], list[Ref]]:
        # Longer waits go on aside, and ask again.
        assert timeout == 0
        ready = [ref for ref in refs if ref.ready][:num_returns]
        return ready, []

    def check_ready(self, refs: list[Ref]) -> None:
        check_ready(refs)

    def pause(self, seconds: float) -> None:
        self._server.stay_busy(seconds)


def _record(actor: Actor) -> ActorRecord:
    # Younger ones have higher ids.
    at = float(int.from_bytes(actor.id.binary(), "big"))
    return ActorRecord(at, not actor.begun and not actor.dead, actor.unstarted)


class _Servicer(RayletServicer):
    """The product's servicer, with waits that hold no thread."""

    def __init__(self, server: ServerProcess, calls: SimulatedRay) -> None:
        super().__init__(lambda *args, **kwargs: None, calls)
        self._server = server
        self._calls = calls

    def Init(self, request: Any, context: Any = None, *, incarnation: int = 1) -> Any:
        self.held.note_incarnation(incarnation)
        self._calls.namespace = request.namespace or self._server.anonymous
        return self.acceptance(incarnation)

    def acceptance(self, incarnation: int) -> Any:
        return protocol.InitResponse(
            ok=True,
            capabilities=names.CAPABILITIES,
            incarnation=incarnation,
            namespace=self._calls.namespace,
        )

    def has_begun(self) -> bool:
        return bool(self._calls.namespace)

    def wait_aside(
        self, request: Any, wanted: Callable[[], bool], tell: Callable[[Any], None]
    ) -> None:
        world = self._server.world
        patience = float("inf") if request.timeout == -1 else request.timeout
        give_up_at = world.now + patience
        told: list[bool] = []

        def look(_: Any = None) -> None:
            if told or not self._server.alive or not wanted():
                return
            answer = self.wait_now(request)
            if answer is None and world.now < give_up_at:
                return
            told.append(True)
            once = protocol.WaitRequest()
            once.CopyFrom(request)
            once.timeout = 0
            tell(answer or self.wait_by_name(once, lambda: True))

        if patience < float("inf"):
            world.at(give_up_at, look)
        for id in request.object_ids:
            ref = self.held.object_refs[request.client_id].get(id)
            if isinstance(ref, Ref):
                ref._on_completed(look)

    @raises_to_caller(protocol.KVPutResponse)
    @runs_once
    def KVPut(self, request: Any, context: Any = None) -> Any:
        self._server.asked_beside(request.key, context.invocation_metadata())
        return protocol.KVPutResponse(already_exists=False)


class _Stream:
    """One data stream as the server sees it: its wire, and its turn of the product's handler."""

    def __init__(self, server: ServerProcess, wire: Wire) -> None:
        self._server = server
        self.wire = wire
        self.inbox = _Inbox(self)
        self.path = DataStream(server.servicer, None, server.connection_info)
        self.path.inbox = self.inbox  # type: ignore[assignment]
        self.session: Session
        self.over = False
        self._items: deque[Any] = deque()

    # What the wire tells.

    def took(self, data: bytes) -> None:
        self._items.append(protocol.DataRequest.FromString(data))
        self._server.work(self)

    def half_closed(self) -> None:
        self._items.append(_END)
        self._server.work(self)

    def cancelled(self) -> None:
        self.half_closed()

    # What the server does.

    def add(self, result: Any) -> None:
        if not self.over:
            self._items.append(result)
            self._server.work(self)

    def step(self) -> None:
        """Handles what has come."""
        while not self.over and not self._server.busy and (self._items or not self.path.idle):
            item = self._items.popleft() if self._items else None
            if item is _END:
                self._server.leave(self, Status(grpc.StatusCode.OK))
                return
            if isinstance(item, protocol.DataRequest):
                self.wire.read()
            self._handle(item)
            if not self._items and not self.path.idle and not self.over:
                self._server.world.after(0.0001, self._server.work, self)
                return

    def _handle(self, item: Any) -> None:
        server = self._server
        if server.world.traced and isinstance(item, protocol.DataRequest):
            server.world.note(f"{server} is asked {described(item)}")
        try:
            for response in self.path.handle(item):
                self.wire.answer(response.SerializeToString())
            server.measure(self)
            if self.path.done:
                server.leave(self, Status(grpc.StatusCode.OK))
        except ProtocolError as e:
            server.refuse(self, Status(grpc.StatusCode.INVALID_ARGUMENT, str(e)))
        except CacheError as e:
            server.refuse(self, Status(grpc.StatusCode.FAILED_PRECONDITION, str(e)))


class _Inbox:
    """Where results come in, while the stream is open."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    @property
    def closed(self) -> bool:
        return self._stream.over

    def put_result(self, result: Any) -> None:
        self._stream.add(result)


_END = Answer(None)


class ServerProcess:
    """A specific server.

    Args:
        world: the world.
        cluster: where its driver works.
        number: tells it from other processes; its port and pid.

    Attributes:
        alive: whether the process runs.
        listens: whether it can be connected to.
        busy: whether it does something that takes time, or is stopped.
        sessions: the product's.
    """

    def __init__(self, world: World, cluster: Cluster, number: int) -> None:
        self.world = world
        self._cluster = cluster
        self.number = number
        self.alive = True
        self.listens = False
        self.busy = False
        self.anonymous = f"anonymous-{number}"
        self.calls = SimulatedRay(self, cluster)
        self.servicer = _Servicer(self, self.calls)
        self.sessions = Sessions(_CLIENTS)
        self.serving: dict[_Stream, None] = {}
        self.unary: dict[Any, None] = {}
        self.most_entries = self.most_bytes = 0
        self._waiting: deque[_Stream] = deque()
        self._when_dead: list[Callable[[], None]] = []
        self._when_listening: Callable[[], None] = lambda: None
        self._driver: Driver | None = None

    def __repr__(self) -> str:
        return f"server {self.number}"

    # -- the process

    def when_dead(self, callback: Callable[[], None]) -> None:
        self._when_dead.append(callback)

    def when_listening(self, callback: Callable[[], None]) -> None:
        self._when_listening = callback

    def listen(self) -> None:
        """The program is up."""
        if self.alive:
            self.listens = True
            self._when_listening()

    def kill(self) -> None:
        """As by SIGKILL, or by its own exit."""
        if not self.alive:
            return
        self.world.note(f"{self} dies")
        self.alive = self.listens = False
        if self._driver is not None:
            self._cluster.end(self._driver)
        for stream in list(self.serving):
            stream.over = True
            stream.wire.callee_died()
        self.serving.clear()
        for call in list(self.unary):
            call.callee_died()
        for callback in self._when_dead:
            callback()

    def stop_for(self, seconds: float) -> None:
        """As by SIGSTOP, and SIGCONT after so many seconds."""
        if self.alive and not self.busy:
            self.world.note(f"{self} stops for {seconds:.2f} s")
            self.busy = True
            self.world.after(seconds, self._free)

    def stay_busy(self, seconds: float) -> None:
        """Lets time pass for everything else."""
        was_busy, self.busy = self.busy, True
        self.world.run(self.world.now + seconds, self.world.events + 100_000)
        if not self.alive:
            raise Killed()
        self.busy = was_busy
        self.world.after(0, self._go_on)

    def _free(self) -> None:
        self.busy = False
        self._go_on()

    def _go_on(self) -> None:
        """Does what has come meanwhile."""
        while self._waiting and not self.busy and self.alive:
            self._step(self._waiting.popleft())

    def work(self, stream: _Stream) -> None:
        """Something has come for a stream."""
        if not self.alive:
            return
        if self.busy:
            self._waiting.append(stream)
            return
        self._step(stream)

    def _step(self, stream: _Stream) -> None:
        try:
            stream.step()
        except Killed:
            return

    # -- data streams, as the product's DataServicer serves them

    def connection_info(self) -> Any:
        return protocol.ConnectionInfoResponse(num_clients=len(self.sessions))

    def accept(self, wire: Wire, metadata: Metadata) -> Any:
        """A data stream has been opened."""
        told = dict(metadata)
        stream = _Stream(self, wire)
        incarnation = names.incarnation_of(metadata) or 1
        try:
            session, superseded = self.sessions.attach(
                told["client_id"],
                stream,
                reconnecting=told["reconnecting"] == "True",
                incarnation=incarnation,
            )
        except Refused as refused:
            wire.finish(_turned_away(refused))
            return stream
        if superseded is not None:
            self._end_stream(
                superseded,
                Status(grpc.StatusCode.ABORTED, "superseded", _why(names.REASON_SUPERSEDED)),
            )
        if told["reconnecting"] != "True":
            self.servicer.admit(told["client_id"])
        self.servicer.held.note_incarnation(incarnation)
        if self._driver is None:
            others = self._cluster.living(told["client_id"])
            if others:
                self.world.faults.append(f"{self} begins while {others} live")
            self._driver = self.calls.driver = self._cluster.begin(told["client_id"], incarnation)
        stream.session = session
        stream.path.begin(session, session.streams[stream])
        self.serving[stream] = None
        return stream

    def refuse(self, stream: _Stream, status: Status) -> None:
        self.world.note(f"{self} refuses: {status.details}")
        if stream.session.current is stream:
            stream.session.asked_to_end = True
        self.leave(stream, status)

    def leave(self, stream: _Stream, status: Status) -> None:
        if not stream.over:
            self._end_stream(stream, status)

    def _end_stream(self, stream: _Stream, status: Status) -> None:
        stream.over = True
        self.serving.pop(stream, None)
        stream.wire.finish(status)
        self.sessions.detach(stream.session, stream, self.world.now)
        expiry = self.sessions.next_expiry()
        if expiry < float("inf"):
            self.world.at(expiry, self._expire)

    def _expire(self) -> None:
        if not self.alive:
            return
        for session in self.sessions.take_over(self.world.now):
            session.cache.close()
            self.servicer.release_all(session.client_id)
            if not len(self.sessions):
                # The client has left: the program ends.
                self.world.after(self.world.random() * _TICK_S, self.kill)

    def measure(self, stream: _Stream) -> None:
        cache = stream.session.cache
        self.most_entries = max(self.most_entries, cache.entry_count)
        self.most_bytes = max(self.most_bytes, cache.byte_count)

    def leaks(self, client_id: str) -> list[str]:
        """What is left of what a client has let go of, as text."""
        streams = [s for s in self.serving if s.session.client_id == client_id]
        if not streams:
            return []
        held = self.servicer.held
        tokens = held.tokens.get(client_id, {}).values()
        refs = held.object_refs.get(client_id, ())
        inside = sum(1 for name in refs if not name.startswith(names.TOKEN_PREFIX))
        found = {
            "references": len(refs) - inside,
            "references of values": inside,
            "tokens": len([token for token in tokens if token not in held.actor_refs]),
            "owned actors": len(held.actor_owners.get(client_id, ())),
            "functions": len(held.function_refs),
            "classes": len(held.registered_actor_classes),
            "digests": len(held.digests),
            "picks": len(held.picks._places),
            "streams": len(streams) - 1,
            "gets under way": len(streams[-1].path._asked),
            "cached responses": streams[-1].session.cache.entry_count,
        }
        return [f"{count} {what} in {self}" for what, count in found.items() if count]

    # -- unary calls

    def asked_beside(self, key: bytes, metadata: Metadata) -> None:
        incarnation = self._driver.incarnation if self._driver is not None else 0
        self._cluster.ledger.asked.append((dict(metadata)["client_id"], key, incarnation))

    def call(self, name: str, request: bytes, metadata: Metadata) -> tuple[bytes, Status]:
        """Does a unary call; returns its answer and how it ended."""
        context = _Context(metadata)
        message = protocol.DRIVER[name].request.FromString(request)
        answer = getattr(self.servicer, name)(message, context)
        return answer.SerializeToString(), Status(context.code, context.details)


class _Context:
    """A unary call's context, as handlers use it."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.code = grpc.StatusCode.OK
        self.details = ""

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def is_active(self) -> bool:
        return True


def _why(reason: str) -> Metadata:
    return ((names.REASON_KEY, reason),)


def _turned_away(refused: Refused) -> Status:
    if isinstance(refused, SessionGone):
        return Status(
            grpc.StatusCode.NOT_FOUND,
            dataservicer.SESSION_GONE,
            _why(names.REASON_SESSION_GONE),
        )
    return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is full")
