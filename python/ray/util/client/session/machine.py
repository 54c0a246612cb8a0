"""State machines whose legal transitions stand in one table."""

from __future__ import annotations

import enum
from typing import Generic, Mapping, Tuple, TypeVar

from ray.util.client.session.errors import IllegalTransition

S = TypeVar("S", bound=enum.Enum)
I = TypeVar("I", bound=enum.Enum)  # noqa: E741  (states and inputs, as in the tables)

Table = Mapping[Tuple[S, I], S]


class Machine(Generic[S, I]):
    """Holds a state and moves it along a table.

    What the table lacks is an error: :meth:`feed` raises :class:`IllegalTransition` and leaves the
    state as it was. Not thread-safe; the shell that owns the machine serialises the calls.

    Args:
        name: what the machine stands for, used in error texts.
        table: ``{(state, input): next state}``.
        start: the first state.
    """

    __slots__ = ("_name", "_state", "_table")

    def __init__(self, name: str, table: Table[S, I], start: S) -> None:
        self._name = name
        self._table = table
        self._state = start

    @property
    def state(self) -> S:
        return self._state

    def can(self, fed: I) -> bool:
        """Tells whether ``fed`` is legal in the present state."""
        return (self._state, fed) in self._table

    def feed(self, fed: I) -> S:
        """Moves along the table and returns the new state.

        Raises:
            IllegalTransition: the table has no row for the present state and ``fed``.
        """
        following = self._table.get((self._state, fed))
        if following is None:
            raise IllegalTransition(self._name, self._state.name, fed.name)
        self._state = following
        return following
