"""Errors for what a session's dead server held. Stock clients have these classes too."""

from __future__ import annotations

from ray.exceptions import ActorDiedError, OwnerDiedError

_WHAT_HAPPENED = (
    "the session's server died: the process on the cluster that served this Ray Client session is "
    "gone, and a new one, which does not know what it held, has taken its place"
)


def lost_object(object_id: bytes) -> OwnerDiedError:
    """The error for an object (or function, or class) whose owner was the session's dead server.

    Args:
        object_id: the id under which the client knows it.
    """
    # Ray's text puts this behind "The ObjectRef was created at: ".
    created_at = f"an earlier server of this session, but {_WHAT_HAPPENED}."
    return OwnerDiedError(object_id.hex(), b"", created_at)


def lost_actor(actor_id: bytes) -> ActorDiedError:
    """The error for an actor handle that the session's dead server held.

    Args:
        actor_id: the id under which the client knows the actor.
    """
    error = ActorDiedError()
    error.actor_id = actor_id.hex()
    error.error_msg = (
        f"The handle of actor {error.actor_id} is lost: {_WHAT_HAPPENED}. "
        "A detached actor is still running: ray.get_actor() with its name gives a new handle."
    )
    return error


def vanished_actor(name: str) -> ActorDiedError:
    """The error for an actor that was there, and is not found by its name any more."""
    error = ActorDiedError()
    error.error_msg = f"The actor died: there is no actor of the name {name!r} any more."
    return error
