"""Mints the names by which a client calls what it makes, before the cluster has an id for it."""

from __future__ import annotations

import itertools
import secrets

from ray.util.client.session.wire import TOKEN_PREFIX

_SESSION_BYTES = 7
_OBJECT_ID_SIZE = 28
_ACTOR_ID_SIZE = 16


class Minter:
    """Makes tokens, each once. Thread-safe.

    They are as long as Ray's own ids of objects and actors, and never equal to one: the chance part
    differs from session to session, the number within one.
    """

    def __init__(self) -> None:
        self._prefix = TOKEN_PREFIX + secrets.token_bytes(_SESSION_BYTES)
        # A step of the counter is one step of the interpreter, so it needs no lock.
        self._numbers = itertools.count(1)

    def object(self) -> bytes:
        """A token for an object, a function or a class: 28 bytes."""
        return self._mint(_OBJECT_ID_SIZE)

    def actor(self) -> bytes:
        """A token for an actor: 16 bytes."""
        return self._mint(_ACTOR_ID_SIZE)

    def _mint(self, size: int) -> bytes:
        number = next(self._numbers)
        return self._prefix + number.to_bytes(size - len(self._prefix), "big")
