"""References and handles are equal where they mean the same thing, and have the cluster's ids."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.session import Session

SETUP = """
    @ray.remote(max_restarts=-1)
    class Actor:
        def ping(self):
            return "pong"

    @ray.remote(num_cpus=0)
    class Holder:
        def __init__(self, held):
            self.held = held

        def get(self):
            return self.held

    made = Actor.options(name="actor").remote()
    (ray.get(made.ping.remote()),)
"""

LOOK_UP = """
    found, again = ray.get_actor("actor"), ray.get_actor("actor")
    got = Actor.options(name="actor", get_if_exists=True).remote()
    back = ray.get(ray.get(ray.put([Holder.remote([made, found])]))[0].get.remote())
    handles = [made, found, again, got, *back]
    other = Actor.remote()
"""


@pytest.fixture
def session(make_session: MakeSession) -> Session:
    session = make_session()
    session.client.run(SETUP)
    return session


def look_up(session: Session) -> None:
    session.client.run(LOOK_UP)
    assert session.client.run("all(a == b for a in handles for b in handles)") is True
    sets = session.client.run("len({*handles}), {made: 1}[found], other in handles")
    assert sets == [1, 1, False]
    assert session.client.run("len({handle._actor_id for handle in handles})") == 1
    assert session.client.run("len({handle._actor_id.hex() for handle in handles})") == 1
    assert session.client.run("len({repr(handle) for handle in handles})") == 1
    assert session.client.run("made != other, made == None, made._actor_id == made") == [
        True,
        False,
        False,
    ]


def test_handles_of_one_actor(session: Session) -> None:
    look_up(session)
    # As the cluster calls it.
    session.client.run(
        """
        def own_id(actor):
            return ray.get_runtime_context().get_actor_id()

        theirs = ray.get(made.__ray_call__.remote(own_id))
        """
    )
    assert session.client.run("made._actor_id.hex() == theirs") is True


def test_handles_of_one_actor_over_a_death(session: Session) -> None:
    look_up(session)
    session.client.run("before, id_before = {*handles}, made._actor_id.hex()")
    session.lose_server()
    assert session.client.run("ray.get(made.ping.remote())") == "pong"
    assert session.client.run("made in before, made._actor_id.hex() == id_before") == [True, True]
    look_up(session)
    assert session.client.run("before == {*handles}") is True


@pytest.mark.parametrize("asked_before", [True, False])
def test_references_that_come_back(session: Session, asked_before: bool) -> None:
    session.client.run(
        """
        @ray.remote
        def task():
            return 1

        @ray.remote
        def id_of(refs):
            return refs[0].hex()

        refs = [ray.put(1), task.remote()]
        """
    )
    if asked_before:
        session.client.run("[ref.hex() for ref in refs]")
    session.client.run("back = ray.get(ray.put([refs]))[0]")
    assert session.client.run("back == refs, {*back} == {*refs}") == [True, True]
    assert session.client.run("[ref.hex() for ref in back] == [ref.hex() for ref in refs]") is True
    theirs = "[ray.get(id_of.remote([ref])) for ref in refs]"
    assert session.client.run(f"[ref.hex() for ref in back] == {theirs}") is True
