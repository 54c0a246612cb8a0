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


USES_THE_SESSION = """
    import threading

    seen, done = [], threading.Event()

    @ray.remote
    def double(x):
        return 2 * x

    def use(value):
        seen.append(value)
        seen.append(ray.get(double.remote(21), timeout=60))
        seen.append(ray.get(ray.put("put")))
        ready, _ = ray.wait([double.remote(1)], timeout=60)
        seen.append(len(ready))
        ray.kill(gate)
        done.set()
"""


@pytest.mark.parametrize(
    "register",
    [
        "ref._on_completed(use)",
        "ref.future().add_done_callback(lambda future: use(future.result()))",
    ],
)
def test_a_callback_may_use_the_session(gated: Session, register: str) -> None:
    gated.client.run(USES_THE_SESSION)
    gated.client.run(register)
    assert gated.client.run(PASSES) == ["passed", "alive"]
    assert gated.client.run("(done.wait(60), seen)") == [True, ["passed", 42, "put", 1]]


def test_a_callback_may_use_the_session_over_a_death(gated: Session) -> None:
    gated.client.run(USES_THE_SESSION)
    # The actor is lost with its server; the callback gets the error.
    gated.client.run("ref._on_completed(lambda error: use(type(error).__name__))")
    gated.lose_server()
    assert gated.client.run("(done.wait(60), seen)") == [True, ["ActorDiedError", 42, "put", 1]]


DESTRUCTORS = """
    import gc
    import threading

    outcomes = []

    class Doomed:
        def __init__(self, act):
            self.act = act
            self.itself = self

        def __del__(self):
            try:
                outcomes.append((threading.current_thread().name, self.act()))
            except BaseException as e:
                outcomes.append((threading.current_thread().name, type(e).__name__))
"""


def test_destructors_on_the_data_thread_don_t_hang_the_session(gated: Session) -> None:
    """They can't wait there; what needs no waiting works."""
    gated.client.run(DESTRUCTORS)
    gated.client.run(
        """
        value = ray.put("value")
        data = ray.util.client.ray.get_context().client_worker.data_client
        settle = data._settle

        def collecting(req_id):
            Doomed(lambda: ray.get(value))
            Doomed(lambda: ray.put(1) and "put")
            Doomed(lambda: ray.wait([value]) and "waited")
            Doomed(lambda: ray.kill(gate))
            data._settle = settle
            gc.collect()
            return settle(req_id)

        data._settle = collecting
        ray.get(ray.put("alive"))
        """
    )
    outcomes = gated.client.run("[outcome for name, outcome in outcomes if 'streaming' in name]")
    assert sorted(outcomes, key=str) == [None, *3 * ["RuntimeError"]]
    assert gated.client.run("ray.get(value)") == "value"
    # The wish to kill was carried out.
    failed = "try_get(lambda: ray.get(gate.opening.remote(), timeout=60))"
    gated.client.run(
        """
        def try_get(get):
            try:
                return get()
            except Exception as e:
                return type(e).__name__
        """
    )
    assert gated.client.run(failed) == "ActorDiedError"
