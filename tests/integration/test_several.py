"""Several sessions on one head, and several clients in one process: one death concerns one."""

from __future__ import annotations

import pytest

from tests.conftest import MakeClient, MakeSession
from tests.support.cluster import Cluster
from tests.support.processes import kill, paused
from tests.support.session import Session
from tests.support.waiting import eventually


def test_other_sessions_are_undisturbed_by_a_death(make_session: MakeSession) -> None:
    sessions = [make_session() for _ in range(3)]
    for number, session in enumerate(sessions):
        session.client.run("ref = ray.put(number)", number=number)
    sessions[1].lose_server()
    for number in (0, 2):
        assert sessions[number].client.run("ray.get(ref)") == number
    assert sessions[1].client.run("ray.get(ray.put('new'))") == "new"
    running = sessions[0].cluster.servers()
    assert len(running) == 3
    assert sessions[0].server in running and sessions[2].server in running


def test_all_sessions_come_back_when_all_servers_die(make_session: MakeSession) -> None:
    sessions = [make_session() for _ in range(3)]
    for session in sessions:
        session.lose_server()
    steps = [session.client.start("ray.get(ray.put('back'))") for session in sessions]
    assert [step.value() for step in steps] == ["back"] * 3
    assert len(sessions[0].cluster.servers()) == 3


def test_a_get_of_another_session_goes_on_while_one_recovers(make_session: MakeSession) -> None:
    victim, other = make_session(), make_session()
    other.client.run(
        """
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

        gate = Gate.remote()
        """
    )
    step = other.client.start("mark('begun'); ray.get(gate.wait.remote())")
    other.client.wait_mark("begun")
    victim.lose_server()
    assert victim.client.run("ray.get(ray.put(1))") == 1
    other.client.start("ray.get(gate.open.remote())", thread=True).value()
    assert step.value() == "open"


TWO = """
    import ray

    @ray.remote(num_cpus=0)
    def double(x):
        return 2 * x

    @ray.remote(num_cpus=0, max_restarts=-1)
    class Counter:
        count = 0
        def add(self):
            self.count += 1
            return self.count

    class Mine:
        '''One of this process's sessions, and what it holds.'''
        def __init__(self, address, name):
            self.context = ray.init(address, allow_multiple=True)
            with self.context:
                self.put, self.unseen = ray.put(name), double.remote(name)
                self.actor = Counter.options(name="counter").remote()
                assert ray.get(self.actor.add.remote()) == 1 and ray.wait([self.unseen])[0]
        def look(self):
            with self.context:
                named = ray.get_actor("counter")
                info = ray.util.client.session.info()
                return *ray.get([self.put, self.unseen, named.add.remote()]), info.incarnation

    mine = []
"""


@pytest.mark.parametrize("number", [0, 1])
def test_one_of_two_clients_in_a_process_loses_its_server(
    make_client: MakeClient, cluster: Cluster, number: int
) -> None:
    client = make_client()
    client.run(TWO)
    servers: list = []
    for name in ("a", "b"):
        client.run("mine.append(Mine(address, name))", address=cluster.address, name=name)
        servers.append(cluster.next_server(*servers))
    kill(servers[number])
    looks = [client.start(f"mine[{n}].look()", thread=True) for n in (0, 1)]
    for n, name in enumerate("ab"):
        count, incarnation = (1, 2) if n == number else (2, 1)
        assert looks[n].value() == [name, 2 * name, count, incarnation]
    assert servers[1 - number] in cluster.servers()
    client.run("for one in mine: one.context.disconnect()")


def test_a_new_session_begins_while_another_recovers(
    make_session: MakeSession, make_client: MakeClient, cluster: Cluster
) -> None:
    victim = make_session()
    newcomer = make_client()
    newcomer.run("import ray")
    with paused(cluster.proxier):
        victim.lose_server()
        joining = newcomer.start("ray.init(address); ray.get(ray.put(2))", address=cluster.address)
        waiting = victim.client.start("ray.get(ray.put(1))")
    assert (waiting.value(), joining.value()) == (1, 2)
    assert len(cluster.servers()) == 2


def _count(session: Session) -> int:
    code = "from ray.util import client\nclient.ray.get_context().client_worker.connection_info()"
    return session.client.run(code)["num_clients"]


def test_the_client_count_follows_the_sessions(make_session: MakeSession) -> None:
    first = make_session()
    eventually(lambda: _count(first) == 1, "the sessions of earlier tests to end")
    others = [make_session() for _ in range(2)]
    assert _count(first) == 3
    others[0].lose_server()
    assert others[0].client.run("ray.get(ray.put(1))") == 1
    assert _count(first) == _count(others[0]) == 3
    for other in others:
        other.client.run("ray.shutdown()")
    eventually(lambda: _count(first) == 1, "the sessions that were shut down to be gone")


def test_anonymous_namespaces_differ_and_stay(make_session: MakeSession) -> None:
    sessions = [make_session() for _ in range(2)]
    namespace = "ray.get_runtime_context().namespace"
    before = [session.client.run(namespace) for session in sessions]
    assert len({*before, ""}) == 3
    for session in sessions:
        session.lose_server()
    assert [session.client.run(namespace) for session in sessions] == before
