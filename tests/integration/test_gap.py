"""What a client meets between its server's death and the next server: every wait ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeSession
from tests.support.session import Session

SLOW = """
    @ray.remote(num_cpus=0)
    def never():
        import threading
        threading.Event().wait()

    @ray.remote
    def add_one(x):
        return x + 1
"""


@pytest.fixture
def waiting(session: Session) -> Session:
    """A session that holds ``pending``, a ref to a task that never ends, and knows ``add_one``."""
    session.client.run(SLOW)
    session.client.run("pending = never.remote()")
    assert session.client.run("ray.get(add_one.remote(1))") == 2
    return session


@pytest.mark.parametrize(
    "code, result",
    [
        ("ray.get(add_one.remote(2))", 3),
        ("ray.get(ray.put('x'))", "x"),
        ("len(ray.nodes())", 1),
        ("len(ray.wait([ray.put(1)])[0])", 1),
    ],
)
def test_calls_made_in_the_gap_wait_and_go_on(waiting: Session, code: str, result: object) -> None:
    with waiting.gap():
        step = waiting.client.start(code)
        # A second answer proves that the first call was not answered out of thin air meanwhile.
        assert waiting.client.start("'alive'", thread=True).value() == "alive"
        assert not step.is_done
    assert step.value() == result


def test_the_timeout_of_get_holds_in_the_gap(waiting: Session) -> None:
    with waiting.gap():
        failure = waiting.client.fails("ray.get(pending, timeout=1)")
    assert "GetTimeoutError" in failure.bases
    assert waiting.client.run("ray.get(add_one.remote(1))") == 2


def test_the_timeout_of_wait_holds_in_the_gap(waiting: Session) -> None:
    with waiting.gap():
        counts = waiting.client.run("[len(refs) for refs in ray.wait([pending], timeout=1)]")
    assert counts == [0, 1]
    assert waiting.client.run("ray.get(add_one.remote(1))") == 2


@pytest.mark.parametrize("code", ["ray.get(pending)", "ray.wait([pending])", "ray.put(1)"])
def test_ctrl_c_ends_a_call_in_the_gap(waiting: Session, code: str) -> None:
    with waiting.gap():
        step = waiting.client.start(f"mark('begun'); {code}")
        waiting.client.wait_mark("begun")
        waiting.client.interrupt()
        assert step.failure().type == "KeyboardInterrupt"
    assert waiting.client.run("ray.get(add_one.remote(1))") == 2


@pytest.mark.parametrize("code", ["ray.get(pending)", "ray.wait([pending])"])
def test_ctrl_c_ends_a_call_of_a_healthy_session(waiting: Session, code: str) -> None:
    step = waiting.client.start(f"mark('begun'); {code}")
    waiting.client.wait_mark("begun")
    waiting.client.interrupt()
    assert step.failure().type == "KeyboardInterrupt"
    assert waiting.client.run("ray.get(add_one.remote(1))") == 2


# Interrupts the main thread again and again, each time after another while, wherever it then is.
INTERRUPTIONS = """
    import random, signal, threading, time

    def interrupt(seed):
        chance = random.Random(seed)
        for _ in range(150):
            ready.wait()
            ready.clear()
            time.sleep(chance.random() * 0.004)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    ready = threading.Event()
    threading.Thread(target=interrupt, args=(7,), daemon=True).start()
    interrupted = 0
    while interrupted < 150:
        try:
            ready.set()
            while True:
                {call}
        except KeyboardInterrupt:
            interrupted += 1
"""


@pytest.mark.parametrize(
    "call", ["ray.get(ray.put(1))", "ray.get(add_one.remote(1))", "ray.wait([ray.put(1)])"]
)
def test_a_session_survives_ctrl_c_at_any_point(waiting: Session, call: str) -> None:
    waiting.client.run(INTERRUPTIONS.format(call=call))
    assert waiting.client.run("ray.get(add_one.remote(1))") == 2


def test_shutdown_ends_in_the_gap(make_session: MakeSession) -> None:
    # The goodbye does not get through, so the new server lives for the length of the grace period.
    session = make_session(environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"})
    with session.gap():
        session.client.run("ray.shutdown()")
        assert session.client.run("ray.is_initialized()") is False


def test_ctrl_c_in_a_shutdown_leaves_no_other_thread_waiting(waiting: Session) -> None:
    step = waiting.client.start("mark('begun'); ray.get(pending)", thread=True)
    waiting.client.wait_mark("begun")
    waiting.client.run(
        """
        import os, signal
        data = ray.util.client.ray.get_context().client_worker.data_client
        close = data.close

        def interrupted_close():
            os.kill(os.getpid(), signal.SIGINT)
            close()

        data.close = interrupted_close
        """
    )
    assert waiting.client.fails("ray.shutdown()").type == "KeyboardInterrupt"
    assert "ConnectionError" in step.failure().bases


def test_shutdown_ends_a_get_of_another_thread(waiting: Session) -> None:
    step = waiting.client.start("mark('begun'); ray.get(pending)", thread=True)
    waiting.client.wait_mark("begun")
    waiting.client.run("ray.shutdown()")
    assert "ConnectionError" in step.failure().bases


def test_threads_that_call_in_the_gap_all_go_on_with_one_new_server(waiting: Session) -> None:
    before = waiting.cluster.servers()
    with waiting.gap():
        codes = [f"ray.get(add_one.remote({number}))" for number in range(8)]
        steps = [waiting.client.start(code, thread=True) for code in codes]
    assert [step.value() for step in steps] == list(range(1, 9))
    # Servers of earlier sessions may be ending meanwhile, so only the new ones are counted.
    assert len([s for s in waiting.cluster.servers() if s not in before]) == 1


def test_no_call_is_left_for_the_interpreters_exit(session: Session, tmp_path: Path) -> None:
    # There, a lock that gRPC's call needs to be collected may be held by a thread that was stopped.
    late = tmp_path / "late"
    session.client.run(
        """
        import pathlib, sys
        from grpc import _channel

        collected, is_finalizing = _channel._MultiThreadedRendezvous.__del__, sys.is_finalizing

        def note(call):
            if is_finalizing():
                path.touch()
            collected(call)

        _channel._MultiThreadedRendezvous.__del__ = note
        path = pathlib.Path(late)
        """,
        late=str(late),
    )
    session.lose_server()
    assert session.client.run("ray.get(ray.put(1))") == 1
    session.client.close()
    assert not late.exists()
