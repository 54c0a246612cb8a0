"""Values and errors as they are sent to a client."""

from __future__ import annotations

import base64
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Sequence

import ray.cloudpickle as cloudpickle
from ray.util.client import protocol
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.server.contained import described
from ray.util.client.session.chunks import cut

# An exception in a call's details is sent as an HTTP/2 header, and peers refuse long headers.
_MAX_DETAILS_BYTES = 6000


def pickled_error(error: BaseException) -> bytes:
    """The exception for the client; as a RuntimeError of its text if it can't be pickled."""
    try:
        return cloudpickle.dumps(error)
    except BaseException:  # Pickling runs the exception's own code, which may raise anything.
        return cloudpickle.dumps(RuntimeError(described(error)))


def error_details(error: BaseException) -> str:
    """The exception as text for a call's details, short enough for a header."""
    pickled = pickled_error(error)
    if len(pickled) > _MAX_DETAILS_BYTES:
        pickled = pickled_error(RuntimeError(described(error)[: _MAX_DETAILS_BYTES // 4]))
    return base64.standard_b64encode(pickled).decode()


def failed_get(error: BaseException, of: bytes = b"") -> Any:
    """A GetResponse that says why there is no value. ``of``: the name of the object whose own
    outcome the error is, if it is one."""
    failed = {"failed": of} if of else {}  # Stock's message class lacks the field.
    return protocol.GetResponse(valid=False, error=pickled_error(error), **failed)


def value_responses(
    value: Any, pickled: Callable[[Any], bytes], first_chunk: int = 0
) -> Iterator[Any]:
    """Yields GetResponses that carry ``value``, each made when it is asked for.

    A value that can't be serialised gives one response with the error instead.

    Args:
        value: what the client asked for.
        pickled: pickles it for the client.
        first_chunk: index of the first chunk wanted.
    """
    try:
        data = memoryview(pickled(value))
    except Exception as e:  # Pickling runs the value's own code, which may raise anything.
        yield failed_get(e)
        return
    del value
    yield from _pieces(data, first_chunk)


def parts_responses(
    names: Sequence[bytes],
    values: Sequence[Any],
    pickled: Callable[[Any, bytes, Dict[bytes, None]], bytes],
    hand: Optional[Callable[[Iterable[bytes]], int]] = None,
    first_chunk: int = 0,
) -> Iterator[Any]:
    """Yields GetResponses that carry the values one behind the other, each pickled by itself.

    The first one tells what the values refer to, whichever piece it carries: each stream counts
    its own hand-outs.

    Args:
        names: of the objects that have the values.
        values: theirs.
        pickled: pickles one for the client: the value, its object's name, and what gets the names
            of what it refers to.
        hand: notes that the stream's answer refers to these; returns the hand-outs' number. None if
            the client does not count.
        first_chunk: index of the first chunk wanted.
    """
    inside: Dict[bytes, None] = {}
    try:
        parts = [pickled(value, name, inside) for name, value in zip(names, values)]
        sizes = [len(part) for part in parts]
        data = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
    except Exception as e:  # Pickling runs the value's own code, which may raise anything.
        yield _handing(failed_get(e), inside, hand)
        return
    del values, parts
    for piece in _pieces(data, first_chunk):
        piece.sizes.extend(sizes)
        yield _handing(piece, inside, hand)
        # The first piece told these; a client that asks for later ones knows the sizes.
        sizes, inside = [], {}


def _handing(
    response: Any, names: Dict[bytes, None], hand: Optional[Callable[[Iterable[bytes]], int]]
) -> Any:
    if names and hand is not None:
        response.handing = hand(names)
        response.handed.extend(names)
    return response


def _pieces(data: memoryview, first_chunk: int) -> Iterator[Any]:
    for chunk in cut(len(data), OBJECT_TRANSFER_CHUNK_SIZE, first_chunk):
        yield protocol.GetResponse(
            valid=True,
            data=bytes(data[chunk.start : chunk.end]),
            chunk_id=chunk.number,
            total_chunks=chunk.of,
            total_size=len(data),
        )
