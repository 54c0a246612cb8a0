"""The connection breaks but the server lives: nothing is lost."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.processes import wait_gone
from tests.support.session import Session
from tests.support.waiting import eventually

SETUP = """
    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self):
            import asyncio
            self.event = asyncio.Event()

        async def open(self):
            self.event.set()

        async def wait(self):
            await self.event.wait()
            return "open"

    @ray.remote
    def double(x):
        return 2 * x

    gate, number = Gate.remote(), ray.put(21)
    doubled = double.remote(number)
    ray.get(doubled)
"""


@pytest.fixture
def linked(link: Link, make_session: MakeSession) -> Session:
    """A session over ``link`` with refs ``number`` and ``doubled`` and an actor ``gate``."""
    session = make_session(address=f"ray://{LOOPBACK}:{link.port}")
    session.client.run(SETUP)
    return session


def test_refs_and_actors_outlive_a_cut_connection(link: Link, linked: Session) -> None:
    for _ in range(3):
        link.cut()
        assert linked.client.run("ray.get([number, doubled])") == [21, 42]
        linked.client.run("ray.get(gate.open.remote())")
    assert linked.cluster.servers() == [linked.server]


def test_a_get_under_way_goes_on_after_a_cut(link: Link, linked: Session) -> None:
    step = linked.client.start("mark('begun'); ray.get(gate.wait.remote())")
    linked.client.wait_mark("begun")
    link.cut()
    linked.client.start("ray.get(gate.open.remote())", thread=True).value()
    assert step.value() == "open"


def test_a_large_object_survives_cuts_on_its_way(link: Link, linked: Session) -> None:
    link.delay_s = 0.001
    step = linked.client.start("ray.get(ray.put(bytes(40 * 2**20))) == bytes(40 * 2**20)")
    for _ in range(3):
        linked.client.start("ray.is_initialized()", thread=True).value()
        link.cut()
    assert step.value() is True


def test_tasks_are_not_run_twice_over_a_cut(link: Link, linked: Session) -> None:
    linked.client.run(
        """
        @ray.remote(num_cpus=0)
        class Tally:
            def __init__(self):
                self.seen = []

            def note(self, n):
                self.seen.append(n)

            def all(self):
                return self.seen

        tally = Tally.remote()
        """
    )
    step = linked.client.start("for n in range(300): tally.note.remote(n)")
    for _ in range(5):
        link.cut()
    step.value()
    assert linked.client.run("ray.get(tally.all.remote())") == list(range(300))


def test_a_refused_connection_is_tried_again(link: Link, linked: Session) -> None:
    link.refuse()
    step = linked.client.start("ray.get(number)")
    linked.client.start("1", thread=True).value()
    link.accept()
    assert step.value() == 21


@pytest.mark.slow
def test_a_black_hole_is_noticed_and_left(link: Link, linked: Session) -> None:
    link.black_hole()
    step = linked.client.start("ray.get(doubled)")
    linked.client.start("1", thread=True).value()
    link.heal()
    # The old connection stays dead, so an answer means that the client gave it up by itself. The
    # guard against hanging in Step is far below the ten minutes of stock's keepalive.
    assert step.value() == 42
    assert linked.cluster.servers() == [linked.server]


def test_log_streaming_resumes_after_a_cut(link: Link, linked: Session) -> None:
    link.cut()
    linked.client.run("speak = ray.remote(lambda: print('said after the cut'))")

    def is_heard() -> bool:
        linked.client.run("ray.get(speak.remote())")
        return "said after the cut" in linked.client.output()

    # What is printed while the stream is down is not sent again, hence repeatedly.
    eventually(is_heard, "output from after the cut")


def test_shutdown_after_a_cut_ends_the_server_at_once(
    link: Link, make_session: MakeSession
) -> None:
    # With a grace period this long, only the goodbye itself can end the server in time.
    hour = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3600"}
    session = make_session(address=f"ray://{LOOPBACK}:{link.port}", environment=hour)
    session.client.run("ref = ray.put('kept')")
    link.cut()
    assert session.client.run("ray.get(ref)") == "kept"
    session.client.run("ray.shutdown()")
    wait_gone(session.server)
