"""The simulated world: one clock, one source of chance, processes that may be killed.

Nothing here waits or runs by itself. Events stand in one queue by their time; whatever happens is
the run of one event. So a seed decides everything, and a schedule can be run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Any


class Livelock(Exception):
    """The world does not come to rest: something repeats for ever."""


class World:
    """Runs events in the order of their times.

    Args:
        seed: decides all that is left to chance.
        traced: whether to keep lines about what happens, for people.

    Attributes:
        now: seconds since the beginning.
        chance: where all random numbers come from.
        events: how many have been run.
        faults: errors that no process may make, as text: exceptions that nobody has caught.
        trace: the lines that were kept.
    """

    def __init__(self, seed: str, traced: bool = False) -> None:
        self.chance = Random(seed)
        self.random = self.chance.random
        self.now = 0.0
        self.faults: list[str] = []
        self.traced = traced
        self.trace: list[str] = []
        self.events = 0
        self.loop = Loop(self)
        self._queue: list[tuple[float, int, Callable[..., Any], tuple]] = []
        self._ready: deque[_Handle] = deque()
        self._number = 0

    def note(self, text: str) -> None:
        """Keeps a line of the trace."""
        if self.traced:
            self.trace.append(f"{self.now:10.4f} {text}")

    def at(self, when: float, callback: Callable[..., Any], *args: Any) -> None:
        """Calls ``callback(*args)`` at a time."""
        self._number += 1
        heappush(self._queue, (when, self._number, callback, args))

    def after(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Calls ``callback(*args)`` in so many seconds."""
        self._number += 1
        heappush(self._queue, (self.now + seconds, self._number, callback, args))

    def soon(self, handle: _Handle) -> None:
        """Runs a handle at this very time, after what is due before."""
        self._ready.append(handle)

    def about(self, seconds: float) -> float:
        """A random delay: ``seconds`` on average, now and then much longer."""
        return -seconds * math.log(1.0 - self.random())

    def run(self, until: float, most: int) -> None:
        """Runs events until none is left, or the clock would pass ``until``.

        Raises:
            Livelock: ``most`` events have been run since the beginning.
        """
        ready, queue = self._ready, self._queue
        while self.events < most:
            self.events += 1
            if ready:
                ready.popleft().run()
            elif queue and queue[0][0] <= until:
                self.now, _, callback, args = heappop(queue)
                callback(*args)
            else:
                self.now = max(self.now, until)
                return
        raise Livelock(f"{most} events within {self.now:.1f} s")

    @property
    def pending(self) -> int:
        """How many events are still to come; cancelled timers don't count."""
        return sum(1 for entry in self._queue if not _is_void(entry)) + len(self._ready)

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Inside, asyncio takes this world's loop for the one that runs."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            self.loop.bury()
            asyncio._set_running_loop(before)


def _is_void(entry: tuple) -> bool:
    timer = getattr(entry[2], "__self__", None)
    return isinstance(timer, _Timer) and timer.cancelled


_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Process:
    """One simulated process. When it is killed, nothing of it runs any more, not even a
    ``finally``.

    What is to belong to it is to be begun by :meth:`run`; its tasks and timers then do, too.

    Args:
        world: the world.
        name: for people.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)

    def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Calls ``call(*args)`` as this process."""
        return self._context.copy().run(call, *args)

    def task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task:
        """Begins a task of this process."""
        return self.run(self.world.loop.create_task, work)

    def future(self) -> asyncio.Future:
        return asyncio.Future(loop=self.world.loop)


class _Handle:
    """A callback that is to be run at once, of the process in whose context it was asked for."""

    __slots__ = ("args", "callback", "cancelled", "context")

    def __init__(self, callback: Any, args: tuple, context: contextvars.Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        """Calls back unless it was cancelled, or its process is dead."""
        process = self.context.get(_PROCESS)
        if self.cancelled or (process is not None and not process.alive):
            return
        try:
            self.context.run(self.callback, *self.args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:
            message = f"an error in a callback of {process.name if process else 'nobody'}"
            asyncio._get_running_loop().call_exception_handler({"message": message, "exception": e})


class _Timer(_Handle):
    """A callback that is to be run at a time."""

    __slots__ = ("_when",)

    def __init__(
        self, when: float, callback: Any, args: tuple, context: contextvars.Context | None
    ) -> None:
        super().__init__(callback, args, context)
        self._when = when

    def when(self) -> float:
        return self._when


class Loop(asyncio.AbstractEventLoop):
    """asyncio's tasks and timers, of all processes, on the world's clock.

    Args:
        world: whose clock it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.over = False
        # Suspended tasks of a killed process must not be closed before the world is over.
        self.tasks: list[tuple[Process | None, asyncio.Task]] = []

    def unfinished(self, process: Process) -> list[asyncio.Task]:
        """Tasks of a process that have not ended."""
        return [task for owner, task in self.tasks if owner is process and not task.done()]

    def bury(self) -> None:
        """Lets go of all tasks."""
        self.over = True
        for _, task in self.tasks:
            if not task.done():
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    task.get_coro().close()  # type: ignore[union-attr]
        self.tasks.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._world.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> _Handle:
        handle = _Handle(callback, args, context)
        self._world.soon(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> _Timer:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> _Timer:
        timer = _Timer(when, callback, args, context)
        self._world.at(when, timer.run)
        return timer

    def create_future(self) -> asyncio.Future:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task:
        task: asyncio.Task = asyncio.Task(coro, loop=self)
        self.tasks.append((_PROCESS.get(None), task))
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:
            future.set_exception(e)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.over:
            error = context.get("exception")
            self._world.faults.append(f"{context.get('message')}: {error!r}")
