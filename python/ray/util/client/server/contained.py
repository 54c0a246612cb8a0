"""Keeps what clients' code raises within the request that ran it."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

T = TypeVar("T")


def described(error: BaseException) -> str:
    """The error as text, whatever its own code does."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__


def exception_of(error: BaseException) -> Exception:
    """The error itself if it is an Exception, else one that tells of it."""
    if isinstance(error, Exception):
        return error
    made = RuntimeError(f"The client's code has raised {described(error)}")
    made.__cause__ = error
    return made


def contained(call: Callable[..., T]) -> Callable[..., T]:
    """Has a function raise nothing but Exceptions.

    What a client pickles may run any code where it is unpickled. A module that ends by ``sys.exit``
    where it is imported, say, fails the request; else it would end the thread that serves the
    session, and nobody would be told.
    """

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        try:
            return call(*args, **kwargs)
        except Exception:
            raise
        except BaseException as e:
            raise exception_of(e) from e

    return wrapper
