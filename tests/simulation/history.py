"""What users saw: every call with its beginning and its end."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from tests.simulation.plan import Step


class Ok(NamedTuple):
    """The call returned."""

    value: Any = None


class Failed(NamedTuple):
    """The call raised."""

    error: BaseException


class Unknown(NamedTuple):
    """The caller died before it heard."""


Outcome = Union[Ok, Failed, Unknown, None]


class Operation:
    """One call of a user's. ``outcome`` None: it has not ended."""

    def __init__(self, client: int, thread: int, step: Step | str, at: float) -> None:
        self.client = client
        self.thread = thread
        self.step = step
        self.invoked_at = at
        self.ended_at: float | None = None
        self.outcome: Outcome = None
        # What the step's variables stood for, where it used any.
        self.names: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        ended = "never" if self.ended_at is None else f"{self.ended_at:.3f}"
        return (
            f"client {self.client} thread {self.thread}: {self.step} from {self.invoked_at:.3f} "
            f"to {ended}: {self.outcome}"
        )


class Thing(NamedTuple):
    """Something that a user's step has made.

    Attributes:
        client: whose.
        step: the step.
        names: of what it makes.
        needs: names of what it uses; of a call, the actor's first.
        at: when it was submitted.
        order: counts the client's submissions.
    """

    client: int
    step: Any
    names: tuple[bytes, ...]
    needs: tuple[bytes, ...]
    at: float
    order: int


class History:
    """All operations, what was made, and what became known of it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.things: dict[int, Thing] = {}
        self.thing_of: dict[bytes, Thing] = {}
        # Of objects that came in the values of others: in whose, where, and when.
        self.inner: dict[bytes, tuple[bytes, int, float]] = {}
        # Of actors that were looked up: by which name of the cluster's.
        self.found: dict[bytes, str] = {}
        # When the user let go of a name, or ended what it stands for.
        self.dropped: dict[bytes, float] = {}
        self.ended: dict[bytes, float] = {}
        # When a name was first known to be finished.
        self.finished: dict[bytes, float] = {}

    def begin(self, client: int, thread: int, step: Step | str, at: float) -> Operation:
        operation = Operation(client, thread, step, at)
        self.operations.append(operation)
        return operation

    def made(self, number: int, thing: Thing) -> None:
        self.things[number] = thing
        for name in thing.names:
            self.thing_of[name] = thing
