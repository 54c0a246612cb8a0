"""Streams between simulated processes: in order, slow, and cut at any point.

A :class:`Wire` is one call of gRPC's: messages both ways, each way in order; different wires pass
each other as they like. What is under way when a wire is cut arrives up to some point and is lost
from there, and both ends notice at times of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import grpc

from tests.simulation.world import World

Metadata = tuple[tuple[str, Any], ...]

# A link on which nothing comes back is given up after so many seconds (gRPC's keepalive).
KEEPALIVE_S = 18.0


class Status(NamedTuple):
    """How a call ended. ``code`` OK: well."""

    code: grpc.StatusCode
    details: str = ""
    trailing: Metadata = ()


OK = Status(grpc.StatusCode.OK)
CANCELLED = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
CUT = Status(grpc.StatusCode.UNAVAILABLE, "the connection broke")
REFUSED = Status(grpc.StatusCode.UNAVAILABLE, "failed to connect")


class Caller(Protocol):
    """The end of a wire that began the call."""

    def took(self, data: Any) -> None:
        """A message has come."""

    def room(self) -> None:
        """The other end has taken a message."""

    def ended(self, status: Status) -> None:
        """Nothing more will come."""


class Callee(Protocol):
    """The end of a wire that serves the call."""

    def took(self, data: Any) -> None:
        """A message has come."""

    def half_closed(self) -> None:
        """The caller will send no more."""

    def cancelled(self) -> None:
        """The caller is gone."""


class Route:
    """What wires run over: a link between two machines, or two processes.

    Args:
        world: whose time and chance it uses.
        latency: seconds that a message takes, on average.
        window: messages that may be under way in one direction, or unread, before a sender waits.
        delivered: called before each message is handed over.

    Attributes:
        wires: those that are open.
    """

    def __init__(
        self, world: World, latency: float, window: int, delivered: Callable[[], None]
    ) -> None:
        self.world = world
        self.latency = latency
        self.window = window
        self.delivered = delivered
        self.wires: dict[Wire, None] = {}
        self._silent_until = 0.0

    def due(self, after: float) -> float:
        """When a message that is sent now arrives; not before ``after``."""
        world = self.world
        at = world.now + world.about(self.latency)
        if at < self._silent_until:
            at = self._silent_until + world.about(self.latency)
        return at if at > after else after

    def cut(self) -> None:
        """Breaks all wires that are open."""
        for wire in list(self.wires):
            wire.cut()

    def silence(self, seconds: float) -> None:
        """Nothing arrives for so long; wires break if that is longer than a keepalive."""
        world = self.world
        self._silent_until = max(self._silent_until, world.now + seconds)
        if seconds > KEEPALIVE_S:
            world.after(KEEPALIVE_S + 2 * world.random(), self.cut)


class _Way:
    """One direction of a wire: how much of it was sent, has arrived, and will ever arrive."""

    __slots__ = ("arrived", "last", "limit", "sent", "unread")

    def __init__(self) -> None:
        self.sent = 0
        self.arrived = 0
        self.limit: float = float("inf")
        self.last = 0.0
        self.unread = 0

    def stop(self, world: World) -> None:
        """From some point of what is under way on, nothing arrives."""
        under_way = self.sent - self.arrived
        self.limit = min(self.limit, self.arrived + world.chance.randint(0, under_way))


class _Opening:
    """Stands for a callee that is just being made; it may end the call at once."""


_OPENING: Any = _Opening()


class Wire:
    """One call. Each end is told once that it is over, and hears nothing after that."""

    def __init__(self, route: Route, caller: Caller) -> None:
        self.route = route
        self.world = route.world
        self._caller: Caller | None = caller
        self._callee: Callee | None = None
        self._up = _Way()
        self._down = _Way()
        route.wires[self] = None

    # -- the caller's end

    def open(self, serve: Callable[[Wire], Callee | None]) -> Wire:
        """Makes the call. ``serve`` is asked for the callee when the call arrives; None: nobody."""
        self._go_up(self._reach, serve)
        return self

    @property
    def has_room(self) -> bool:
        """Whether the caller may send, by flow control."""
        return self._up.unread < self.route.window

    def send(self, data: Any) -> None:
        """Sends a message to the callee."""
        self._up.unread += 1
        self._go_up(self._take, data)

    def half_close(self) -> None:
        """Tells the callee that no more will come."""
        self._go_up(self._half_close)

    def cancel(self) -> None:
        """The caller ends the call. It is told nothing more."""
        if self._caller is None:
            return
        self._caller = None
        self._up.stop(self.world)
        self._tell_callee()

    # -- the callee's end

    def answer(self, data: Any) -> None:
        """Sends a message to the caller."""
        self._go_down(self._hand_back, data)

    def read(self) -> None:
        """The callee has taken a message out: there is room for another one."""
        self._up.unread -= 1
        if self._up.unread == self.route.window - 1 and self._caller is not None:
            self.world.after(self.world.about(self.route.latency), self._room)

    def finish(self, status: Status) -> None:
        """The callee ends the call, after what it has sent."""
        if self._callee is None:
            return
        self._callee = None
        self._go_down(self._end, status)

    # -- what the network and the deaths of processes do

    def cut(self) -> None:
        """The network breaks."""
        self._up.stop(self.world)
        self._down.stop(self.world)
        self._tell_callee()
        self._tell_caller(CUT)

    def callee_died(self) -> None:
        """The process that served the call is gone."""
        self._callee = None
        self._down.stop(self.world)
        self._tell_caller(CUT)

    def caller_died(self) -> None:
        """The process that made the call is gone."""
        if self._caller is not None:
            self.cancel()

    def _tell_caller(self, status: Status) -> None:
        at = self.route.due(self._down.last)
        self.world.at(at, self._end, status)

    def _tell_callee(self) -> None:
        self.world.at(self.route.due(self._up.last), self._cancelled)

    # -- deliveries

    def _go_up(self, deliver: Callable[..., None], *args: Any) -> None:
        way = self._up
        way.sent += 1
        way.last = self.route.due(way.last)
        self.world.at(way.last, self._arrive, way, way.sent, deliver, args)

    def _go_down(self, deliver: Callable[..., None], *args: Any) -> None:
        way = self._down
        way.sent += 1
        way.last = self.route.due(way.last)
        self.world.at(way.last, self._arrive, way, way.sent, deliver, args)

    def _arrive(self, way: _Way, number: int, deliver: Callable[..., None], args: tuple) -> None:
        if number > way.limit:
            return
        self.route.delivered()
        # Whatever is done now, a crash too, may have changed that.
        if number > way.limit:
            return
        way.arrived = number
        deliver(*args)

    def _reach(self, serve: Callable[[Wire], Callee | None]) -> None:
        self._callee = _OPENING
        callee = serve(self)
        if callee is None:
            self._callee = None
            self._tell_caller(REFUSED)
        elif self._callee is _OPENING:
            self._callee = callee

    def _take(self, data: Any) -> None:
        if self._callee is not None:
            self._callee.took(data)

    def _half_close(self) -> None:
        if self._callee is not None:
            self._callee.half_closed()

    def _cancelled(self) -> None:
        callee, self._callee = self._callee, None
        self._forget()
        if callee is not None:
            callee.cancelled()

    def _hand_back(self, data: Any) -> None:
        if self._caller is not None:
            self._caller.took(data)

    def _room(self) -> None:
        if self._caller is not None:
            self._caller.room()

    def _end(self, status: Status) -> None:
        caller, self._caller = self._caller, None
        self._forget()
        if caller is not None:
            caller.ended(status)

    def _forget(self) -> None:
        if self._caller is None and self._callee is None:
            self.route.wires.pop(self, None)
