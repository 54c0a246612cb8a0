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


def test_what_is_dropped_as_soon_as_it_was_asked_for(gated: Session) -> None:
    """Ray ends a process that looks up an object whose last reference has just gone."""
    gated.client.run(USES_THE_SESSION)
    gated.client.run(
        """
        from ray.util.client import session

        came = threading.Semaphore(0)
        for number in range(300):
            ref = double.remote(number) if number % 2 else ray.put(number)
            ref._on_completed(lambda value: came.release())
            del ref
        all_came = all(came.acquire(timeout=60) for _ in range(300))
        """
    )
    assert gated.client.run("(all_came, session.info().incarnation)") == [True, 1]


def test_a_callback_that_exits_harms_no_other(gated: Session) -> None:
    gated.client.run(USES_THE_SESSION)
    gated.client.run("double.remote(1)._on_completed(lambda value: exit('stop'))")
    gated.client.run(
        """
        async def awaited():
            return await asyncio.wait_for(double.remote(2), 60)
        """
    )
    assert gated.client.run("asyncio.run(awaited())") == 4
    assert "SystemExit: stop" in gated.client.output()


def test_shutdown_waits_for_a_callback(gated: Session) -> None:
    gated.client.run(
        """
        import threading
        import time

        begun, ended = threading.Event(), []

        def slowly(value):
            begun.set()
            time.sleep(0.5)
            ended.append(value)

        ray.put("value")._on_completed(slowly)
        begun.wait(60)
        ray.shutdown()
        """
    )
    assert gated.client.run("ended") == ["value"]


def test_callbacks_belong_to_their_session(gated: Session) -> None:
    """Also to one that is not the program's default: what its values refer to is its own."""
    gated.client.run(
        f"""
        import queue

        called = queue.SimpleQueue()
        other = ray.init({gated.cluster.address!r}, allow_multiple=True)
        with other:

            @ray.remote
            def outer():
                return [ray.put("inner")]

            async def awaited():
                (inner,) = await outer.remote()
                return await inner

            outer.remote()._on_completed(lambda value: called.put(ray.get(value)))
            results = [called.get(timeout=60), asyncio.run(awaited())]
        other.disconnect()
        """
    )
    assert gated.client.run("results") == [["inner"], "inner"]


def test_an_awaited_stop_iteration(gated: Session) -> None:
    gated.client.run(
        """
        from ray.exceptions import RayTaskError

        @ray.remote
        def stop():
            raise StopIteration("stop")

        async def awaited():
            try:
                await stop.remote()
            except RayTaskError as e:
                return (isinstance(e, StopIteration), isinstance(e.cause, StopIteration), str(e))
        """
    )
    dual, cause, text = gated.client.run("asyncio.run(awaited())")
    assert (dual, cause) == (False, True)
    assert "StopIteration: stop" in text


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
        core = ray.util.client.ray.get_context().client_worker.data_client._core
        settle, kept = core.settle, []

        def collecting(req_id):
            Doomed(lambda: ray.get(value))
            Doomed(lambda: kept.append(ray.put("put")))
            Doomed(lambda: ray.wait([value]) and "waited")
            Doomed(lambda: ray.kill(gate))
            core.settle = settle
            gc.collect()
            return settle(req_id)

        core.settle = collecting
        ray.get(ray.put("alive"))
        """
    )
    outcomes = gated.client.run("[outcome for name, outcome in outcomes if 'streaming' in name]")
    assert sorted(outcomes, key=str) == [None, None, "RuntimeError", "RuntimeError"]
    assert gated.client.run("(ray.get(value), ray.get(kept))") == ["value", ["put"]]
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
