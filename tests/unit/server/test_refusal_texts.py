"""Texts of refusals, which may hold anything, in the headers that carry them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.util.client.server.proxy.rpc import trimmed

HEADER = 4100
TEXTS = st.text(st.characters(codec=None), max_size=200).flatmap(
    lambda text: st.integers(1, 100).map(lambda times: text * times)
)


def on_the_wire(text: str) -> int:
    """What the text takes, percent-encoded as gRPC does it."""
    return sum(1 if 32 <= byte <= 126 and byte != 37 else 3 for byte in text.encode())


@given(TEXTS)
@settings(deadline=None)
def test_any_text_fits_into_a_header(text: str) -> None:
    cut = trimmed(text)
    assert on_the_wire(cut) <= HEADER
    if on_the_wire(text.encode("utf-8", "replace").decode()) <= 4000:
        assert cut == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("filling", ["x", "%", "\u00e9", "\U0001f600", "\n"])
def test_head_and_end_are_kept(filling: str) -> None:
    cut = trimmed("the cause: " + filling * 20_000 + " the end of the log")
    assert cut.startswith("the cause: ")
    assert cut.endswith(" the end of the log")
    assert on_the_wire(cut) <= HEADER
