"""What can't be pickled or unpickled fails its own call and nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.session import Session

# `Bomb` loads nowhere; `Mine` loads everywhere but in a process that has EXPLODE set: the client.
SETUP = """
    class Bomb:
        def __reduce__(self):
            return int, ("not a number",)

    class Mine:
        def __reduce__(self):
            return make_mine, ()

    def make_mine():
        import os
        if "EXPLODE" in os.environ:
            raise ValueError("this one does not load here")
        return Mine()

    @ray.remote
    def identity(x):
        return x

    @ray.remote
    def lay_mine():
        return Mine()

    @ray.remote
    def raise_mine():
        raise ValueError(Mine())

    @ray.remote
    def lock():
        import threading
        return threading.Lock()

    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, x=None):
            pass

        def identity(self, x):
            return x

    import threading
    kept, actor = ray.put("kept"), Actor.remote()
"""


@pytest.fixture
def mined(make_session: MakeSession) -> Session:
    session = make_session(environment={"EXPLODE": "1"})
    session.client.run(SETUP)
    return session


@pytest.mark.parametrize(
    "code",
    [
        "ray.get(identity.remote(Bomb()))",
        "ray.get(ray.put(Bomb()))",
        "ray.get(actor.identity.remote(Bomb()))",
        "ray.get(Actor.remote(Bomb()).identity.remote(1))",
        "ray.get(lay_mine.remote())",
        "ray.get(raise_mine.remote())",
        "ray.get(lock.remote())",
        "ray.get(identity.remote(threading.Lock()))",
        "ray.put(threading.Lock())",
        "ray.get(ray.remote(lambda: threading.Lock() and Bomb()).remote())",
    ],
)
def test_a_bad_pickle_does_not_cost_the_session(mined: Session, code: str) -> None:
    failure = mined.client.fails(code)
    assert "ConnectionError" not in failure.bases, failure
    assert failure.text
    assert mined.client.run("ray.get([kept, identity.remote(1), actor.identity.remote(2)])") == [
        "kept",
        1,
        2,
    ]
    assert mined.cluster.servers() == [mined.server]
