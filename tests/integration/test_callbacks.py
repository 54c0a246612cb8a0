"""What a program does with futures and callbacks of its own is no danger to its session."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.session import Session

SETUP = """
    import asyncio

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self):
            self.open = asyncio.Event()

        async def opening(self):
            self.open.set()

        async def passing(self):
            await self.open.wait()
            return "passed"

    gate = Gate.remote()
    ref = gate.passing.remote()
"""

PASSES = """
    ray.get(gate.opening.remote())
    (ray.get(ref), ray.get(ray.put("alive")))
"""


@pytest.fixture
def gated(make_session: MakeSession) -> Session:
    session = make_session()
    session.client.run(SETUP)
    return session


def test_a_cancelled_future(gated: Session) -> None:
    assert gated.client.run("future = ref.future(); future.cancel()") is True
    assert gated.client.run(PASSES) == ["passed", "alive"]


def test_an_await_that_timed_out(gated: Session) -> None:
    gated.client.run(
        """
        async def impatient():
            try:
                await asyncio.wait_for(ref, 0.01)
            except asyncio.TimeoutError:
                return "timed out"

        asyncio.run(impatient())
        """
    )
    assert gated.client.run(PASSES) == ["passed", "alive"]


def test_shutting_down_under_a_cancelled_future(gated: Session) -> None:
    gated.client.run("future = ref.future(); future.cancel(); ray.shutdown()")
    assert gated.client.run("ray.is_initialized()") is False


def test_a_callback_that_raises(gated: Session) -> None:
    gated.client.run("ref._on_completed(lambda value: 1 / 0)")
    assert gated.client.run(PASSES) == ["passed", "alive"]
    assert "A program's callback for an object failed." in gated.client.output()
