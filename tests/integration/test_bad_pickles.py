"""What can't be pickled or unpickled fails its own call and nothing else."""

from __future__ import annotations

import textwrap

import pytest

from tests.conftest import MakeSession
from tests.support.session import Session

# `Bomb` loads nowhere, `Exit` ends whatever loads it; `Mine` loads everywhere but in a process that
# has EXPLODE set: the client.
SETUP = """
    import sys

    class Exit:
        def __reduce__(self):
            return sys.exit, (3,)

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
        "ray.get(identity.remote(Exit()))",
        "ray.get(ray.put(Exit()))",
        "ray.get(actor.identity.remote(Exit()))",
        "ray.get(Actor.remote(Exit()).identity.remote(1))",
        "exit = Exit(); ray.get(ray.remote(lambda: exit).remote())",
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


# Whoever unpickles an error of this module imports the module, which waits for its own first task.
USES_ITSELF = """
    import os, sys
    import ray
    from ray import cloudpickle

    def make():
        return __import__("itself").Error("made") if "EXPLODE" in os.environ else Error("made")

    class Error(Exception):
        def __reduce__(self):
            return make, ()

    @ray.remote
    def fail():
        raise ValueError(Error("here"))

    @ray.remote
    class Failing:
        def __init__(self):
            raise ValueError(Error("here"))

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    told = []
    for ask in (lambda: fail.remote(), lambda: ray.put(Error("put"))):
        try:
            told.append(repr(ray.get(ask())))
        except Exception as e:
            told.append(type(e).__name__)
"""


def test_a_module_that_uses_the_session_may_get_errors_of_its_own(mined: Session) -> None:
    (mined.client.folder / "itself.py").write_text(textwrap.dedent(USES_ITSELF))
    told = mined.client.run(
        "sys.path.insert(0, folder); import itself; itself.told", folder=str(mined.client.folder)
    )
    assert told == ["RayTaskError(ValueError)", "Error('made')"]
    assert mined.client.run("ray.get(kept)") == "kept"


def test_an_error_that_exits_where_it_is_read_does_not_cost_the_session(mined: Session) -> None:
    mined.client.run(
        """
        class Leaves(Exception):
            def __reduce__(self):
                return leave, ()

        def leave():
            import os, sys
            return sys.exit(4) if "EXPLODE" in os.environ else Leaves()

        @ray.remote
        def raise_leaving():
            raise Leaves()

        def told():
            heard, event = [], threading.Event()
            ref = raise_leaving.remote()
            ref._on_completed(lambda value: (heard.append(value), event.set()))
            event.wait(60)
            return str(heard[0])
        """
    )
    assert mined.client.fails("ray.get(raise_leaving.remote())").type == "SystemExit"
    assert "SystemExit(4)" in mined.client.run("told()")
    assert mined.client.run("ray.get(kept)") == "kept"
    assert mined.cluster.servers() == [mined.server]
