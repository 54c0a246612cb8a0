"""Kills a specific server at each N-th request: before it is looked at, or when it has been done.

Runs inside the processes of a head that tests started (see ``sitecustomize``), and reaches into the
server's classes from outside: the product knows nothing of it.

A session's plan is ``before:N`` or ``after:N``, from its metadata or from the environment. Counted
is what is new to the session. What is sent again or restored after a death is known by its meaning
(the names of what it makes or asks for), so that a session gets on with N = 1 as well. What is
known stands in a file of the session, which outlives its servers.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

FOLDER_VARIABLE = "CRASH_FOLDER"
PLAN_VARIABLE = "CRASH_PLAN"
PLAN_KEY = "crash-plan"

BEFORE, AFTER = "before", "after"

# Served beside the data stream.
_UNARY = (
    "ClusterInfo",
    "KVDel",
    "KVExists",
    "KVGet",
    "KVList",
    "KVPut",
    "ListNamedActors",
    "PinRuntimeEnvURI",
)


class Plan(NamedTuple):
    """When to die: at every ``every``-th new request, ``BEFORE`` or ``AFTER`` it."""

    when: str
    every: int

    @classmethod
    def parse(cls, text: str) -> Plan:
        when, _, every = text.partition(":")
        if when not in (BEFORE, AFTER) or not every.isdecimal() or int(every) < 1:
            raise ValueError(f"A plan is before:N or after:N, not {text!r}")
        return cls(when, int(every))


class Points:
    """Where one session's servers die. Thread-safe."""

    def __init__(self, plan: Plan, file: Path) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._known = set(file.read_text().splitlines()) if file.exists() else set()
        self._log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def reach(self, when: str, what: str) -> None:
        """Dies here if it is time to; ``what`` is what the request means, "" for nothing new."""
        if when != self._plan.when or not what:
            return
        with self._lock:
            if what in self._known:
                return
            self._known.add(what)
            os.write(self._log, f"{what}\n".encode())
            if len(self._known) % self._plan.every == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


_points: Dict[str, Optional[Points]] = {}
_points_lock = threading.Lock()


def _points_of(metadata: Any) -> Optional[Points]:
    told = dict(metadata or ())
    client_id, text = told.get("client_id", ""), told.get(PLAN_KEY, os.environ.get(PLAN_VARIABLE))
    if not client_id or not text:
        return None
    with _points_lock:
        if client_id not in _points:
            file = Path(os.environ[FOLDER_VARIABLE]) / f"{client_id}.known"
            _points[client_id] = Points(Plan.parse(text), file)
        return _points[client_id]


# -- what a request means


def _digest(*parts: Any) -> str:
    return hashlib.sha1(repr(parts).encode()).hexdigest()[:16]


def _making(part: Any, names: Any) -> str:
    named = [bytes(name) for name in names if name] or [part.SerializeToString()]
    return f"{_digest(named)} {part.chunk_id}"


_MEANINGS: Dict[str, Callable[[Any], str]] = {
    "init": lambda part: "init",
    "put": lambda part: "make " + _making(part, [part.register_as]),
    "task": lambda part: "make " + _making(part, part.return_tokens[:1]),
    "get": lambda part: f"get {_digest(list(part.ids), part.nowait)}",
    "pick": lambda part: f"pick {_digest(part.name)}",
    "wait": lambda part: f"wait {_digest(list(part.object_ids), part.num_returns)}",
    "terminate": lambda part: f"terminate {_digest(part.SerializeToString())}",
    "release": lambda part: f"release {_digest(sorted(part.ids))}",
    "list_named_actors": lambda part: f"list {part.all_namespaces}",
    "withdraw": lambda part: f"withdraw {part.req_id}",
    "connection_cleanup": lambda part: "cleanup",
}


def meaning(request: Any) -> str:
    """What a DataRequest means, whatever its id; "" for what is no step of the program's."""
    kind = request.WhichOneof("type")
    return _MEANINGS[kind](getattr(request, kind)) if kind in _MEANINGS else ""


# -- where servers are got at


def install() -> None:
    """Puts the crash points in place, before the server is made."""
    from ray.util.client.server.datapath import DataStream
    from ray.util.client.server.raylet import RayletServicer

    DataStream._answer = _on_the_stream(DataStream._answer)
    DataStream._handled = _on_its_answers(DataStream._handled)
    for name in _UNARY:
        setattr(RayletServicer, name, _unary(name, getattr(RayletServicer, name)))


def install_patience() -> None:
    """Has the proxier replace servers at once, for ever: here it is the test that kills them."""
    from ray.util.client.session import grace

    grace.FIRST_DELAY_S = 0.0
    grace.HOPELESS_AFTER = 10**9


def _on_the_stream(answer: Callable) -> Callable:
    @functools.wraps(answer)
    def wrapper(stream: Any, request: Any) -> Any:
        points = _points_of(stream._context.invocation_metadata())
        if points is None:
            return answer(stream, request)
        what = meaning(request)
        points.reach(BEFORE, what)
        stream.__dict__.setdefault("_crash_meanings", {})[request.req_id] = what
        response = answer(stream, request)
        if response is None and request.WhichOneof("type") not in ("get", "wait"):
            points.reach(AFTER, what)
        return response

    return wrapper


def _on_its_answers(handled: Callable) -> Callable:
    @functools.wraps(handled)
    def wrapper(stream: Any, event: Any) -> Iterator[Any]:
        points = _points_of(stream._context.invocation_metadata())
        for response in handled(stream, event):
            what = stream.__dict__.get("_crash_meanings", {}).get(response.req_id, "")
            if points is not None and what:
                # A value may come in several pieces.
                points.reach(AFTER, f"{what} {response.get.chunk_id}")
            yield response

    return wrapper


def _unary(name: str, handle: Callable) -> Callable:
    @functools.wraps(handle)
    def wrapper(servicer: Any, request: Any, context: Any = None) -> Any:
        points = None if context is None else _points_of(context.invocation_metadata())
        if points is None:
            return handle(servicer, request, context)
        told = dict(context.invocation_metadata())
        ids = told.get("thread_id"), told.get("req_id")
        what = f"{name} {_digest(request.SerializeToString(), ids)}"
        points.reach(BEFORE, what)
        response = handle(servicer, request, context)
        points.reach(AFTER, what)
        return response

    return wrapper
