"""What a get is answered with."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import ray.cloudpickle as cloudpickle
from ray.util.client.limits import OBJECT_TRANSFER_CHUNK_SIZE
from ray.util.client.server.payloads import parts_responses

NUMBER = 7
LARGE = bytes(OBJECT_TRANSFER_CHUNK_SIZE + 1)


def answer(*values: Any, first_chunk: int = 0) -> Tuple[List[Any], List[List[bytes]]]:
    """The responses that carry the values, of which lists refer to what they list; and what was
    noted as handed out."""
    noted: List[List[bytes]] = []

    def pickled(value: Any, source: bytes, names: Dict[bytes, None]) -> bytes:
        if isinstance(value, Exception):
            raise value
        if isinstance(value, list):
            names.update(dict.fromkeys(value))
            return b"a list"
        return value

    def hand(names: Any) -> int:
        noted.append(list(names))
        return NUMBER

    objects = [b"object"] * len(values)
    return list(parts_responses(objects, values, pickled, hand, first_chunk)), noted


def test_values_without_references_hand_out_nothing() -> None:
    (response,), noted = answer(b"a", b"bc")
    assert (response.data, list(response.sizes)) == (b"abc", [1, 2])
    assert not response.handed and not response.handing and not noted


def test_the_first_piece_tells_what_the_values_refer_to_each_once() -> None:
    (first, second), noted = answer([b"x", b"y"], LARGE, [b"y", b"z"])
    assert noted == [[b"x", b"y", b"z"]] == [list(first.handed)]
    assert first.handing == NUMBER and len(first.sizes) == 3
    assert not second.handed and not second.handing and not second.sizes


def test_so_does_a_later_piece_that_is_the_first_of_its_stream() -> None:
    (response,), noted = answer([b"x"], LARGE, first_chunk=1)
    assert response.chunk_id == 1 and list(response.handed) == [b"x"] == noted[0]


def test_so_does_an_answer_that_there_is_no_value() -> None:
    (response,), noted = answer([b"x"], KeyError("no"), [b"y"])
    assert isinstance(cloudpickle.loads(response.error), KeyError) and not response.valid
    assert list(response.handed) == [b"x"] == noted[0] and response.handing == NUMBER
