"""After kill -9 of a session's specific server the session goes on."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.client import Client
from tests.support.session import Session
from tests.support.waiting import eventually

COUNTER = """
    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count
"""
ADD_ONE = """
    @ray.remote
    def add_one(x):
        return x + 1
"""


def test_a_function_registered_before_the_death_still_runs(session: Session) -> None:
    session.client.run(ADD_ONE)
    assert session.client.run("ray.get(add_one.remote(1))") == 2
    session.lose_server()
    assert session.client.run("ray.get(add_one.remote(2))") == 3


def test_new_functions_and_objects_work_after_the_death(session: Session) -> None:
    session.lose_server()
    session.client.run(ADD_ONE)
    assert session.client.run("ray.get(add_one.remote(ray.put(5)))") == 6
    assert session.client.run("ray.get(ray.put([1, 'two']))") == [1, "two"]
    assert session.client.run("len(ray.get(ray.put(bytes(12 * 2**20))))") == 12 * 2**20


def test_actor_classes_from_before_and_after_the_death_make_actors(session: Session) -> None:
    session.client.run(COUNTER)
    session.client.run("counter = Counter.remote()")
    assert session.client.run("ray.get(counter.add.remote())") == 1
    session.lose_server()
    session.client.run("fresh = Counter.remote()")
    assert session.client.run("ray.get([fresh.add.remote(), fresh.add.remote()])") == [1, 2]
    session.client.run(COUNTER.replace("Counter", "Later"))
    assert session.client.run("ray.get(Later.remote().add.remote())") == 1


@pytest.fixture
def detached(session: Session) -> Session:
    """A session in which a detached actor named ``kept`` counts, and has counted to 2."""
    session.client.run(COUNTER)
    session.client.run("kept = Counter.options(name='kept', lifetime='detached').remote()")
    assert session.client.run("ray.get([kept.add.remote(), kept.add.remote()])") == [1, 2]
    yield session
    session.client.run("ray.kill(ray.get_actor('kept'))")


def test_a_detached_actor_keeps_its_state(detached: Session) -> None:
    detached.lose_server()
    assert detached.client.run("ray.get(ray.get_actor('kept').add.remote())") == 3


@pytest.mark.parametrize("options", [{}, {"namespace": "a-name"}], ids=["anonymous", "named"])
def test_the_namespace_stays_the_same(make_session: MakeSession, options: dict) -> None:
    session = make_session(**options)
    before = session.client.run("ray.get_runtime_context().namespace")
    session.lose_server()
    assert session.client.run("ray.get_runtime_context().namespace") == before
    assert before == options.get("namespace", before) != ""


def test_the_working_dir_is_still_there(make_session: MakeSession, tmp_path) -> None:
    (tmp_path / "brought_along.py").write_text("ANSWER = 42\n")
    session = make_session(runtime_env={"working_dir": str(tmp_path)})
    session.client.run(
        """
        @ray.remote
        def look():
            import brought_along
            return brought_along.ANSWER
        """
    )
    assert session.client.run("ray.get(look.remote())") == 42
    session.lose_server()
    assert session.client.run("ray.get(look.remote())") == 42


def test_env_vars_are_still_set(make_session: MakeSession) -> None:
    session = make_session(runtime_env={"env_vars": {"TOLD_BY_TEST": "yes"}})
    session.lose_server()
    session.client.run(
        """
        @ray.remote
        def look():
            import os
            return os.environ.get("TOLD_BY_TEST")
        """
    )
    assert session.client.run("ray.get(look.remote())") == "yes"


def test_five_deaths_in_a_row(session: Session) -> None:
    session.client.run(ADD_ONE)
    for number in range(5):
        session.lose_server()
        assert session.client.run("ray.get(add_one.remote(number))", number=number) == number + 1
        session.await_server()


def test_a_death_while_the_client_is_idle_is_repaired_without_a_call(session: Session) -> None:
    session.lose_server()
    session.await_server()
    assert session.client.run("ray.is_initialized()") is True
    assert session.client.run("ray.get(ray.put(1))") == 1


def test_a_server_that_dies_while_starting_is_replaced_too(session: Session) -> None:
    session.lose_server()
    session.await_server()
    session.lose_server()
    assert session.client.run("ray.get(ray.put(1))") == 1


def test_cluster_information_is_served_after_the_death(session: Session) -> None:
    nodes = session.client.run("[node['NodeID'] for node in ray.nodes()]")
    session.lose_server()
    assert session.client.run("[node['NodeID'] for node in ray.nodes()]") == nodes
    assert session.client.run("ray.cluster_resources()['CPU']") == session.cluster.options.cpus


def test_asyncio_awaits_work_after_the_death(session: Session) -> None:
    session.client.run(ADD_ONE)
    session.client.run("import asyncio\nasync def ask(x): return await add_one.remote(x)")
    assert session.client.run("asyncio.run(ask(1))") == 2
    session.lose_server()
    assert session.client.run("asyncio.run(ask(2))") == 3


def test_a_dead_server_leaves_no_session_behind_after_shutdown(session: Session) -> None:
    session.lose_server()
    client: Client = session.client
    client.run("ray.get(ray.put(1)); ray.shutdown()")
    assert client.run("ray.is_initialized()") is False
    session.cluster.wait_no_servers()


@pytest.mark.slow
def test_packages_outlive_the_pin_of_their_upload(make_session: MakeSession, tmp_path) -> None:
    pin_s = 6  # longer than it takes to connect
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "brought_along.py").write_text("ANSWER = 43\n")
    (tmp_path / "brought_module").mkdir()
    (tmp_path / "brought_module" / "__init__.py").write_text("ANSWER = 44\n")
    session = make_session(
        environment={"RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S": str(pin_s)},
        runtime_env={
            "working_dir": str(tmp_path / "work"),
            "py_modules": [str(tmp_path / "brought_module")],
        },
    )
    session.client.run(
        """
        from ray.experimental import internal_kv as kv

        @ray.remote
        def look():
            import brought_along, brought_module
            return brought_along.ANSWER, brought_module.ANSWER

        environment = ray.get_runtime_context().runtime_env
        uris = [environment["working_dir"], *environment["py_modules"]]
        # Another package, which no session keeps, is gone once its pin has run out.
        other = "gcs://_ray_pkg_of_nobody.zip"
        kv._internal_kv_put(other.encode(), b"package")
        kv._pin_runtime_env_uri(other, expiration_s=pin_s)
        """,
        pin_s=pin_s,
    )
    kept = "[kv._internal_kv_exists(uri.encode()) for uri in uris]"
    assert session.client.run(kept) == [True, True]
    gone = "not kv._internal_kv_exists(other.encode())"
    eventually(lambda: session.client.run(gone), "a pin to run out")
    for _ in range(2):
        session.lose_server()
        assert session.client.run("ray.get(look.remote())") == [43, 44]
        assert session.client.run(kept) == [True, True]
        session.await_server()
