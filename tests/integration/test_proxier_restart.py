"""The proxier is killed and started again: sessions are begun anew and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.processes import descendants, kill
from tests.support.proxier import Proxier
from tests.support.waiting import eventually


@pytest.fixture
def proxier(cluster: Cluster, tmp_path: Path) -> Iterator[Proxier]:
    with Proxier(cluster, tmp_path / "proxier.log") as running:
        yield running


def lose(proxier: Proxier, client: Client) -> None:
    """Kills the proxier and waits until the client knows: what must not be run again is lost if it
    is given to a stream that nobody reads any more."""
    proxier.kill()
    suspended = "ray.util.client.session.info().state.name == 'SUSPENDED'"
    eventually(lambda: client.run(suspended), "the client to notice")


@pytest.fixture
def client(make_client: MakeClient, proxier: Proxier) -> Client:
    client = make_client()
    client.connect(proxier.address)
    client.run(
        """
        @ray.remote(num_cpus=0)
        def add_one(x):
            return x + 1

        @ray.remote(num_cpus=0, max_restarts=-1)
        class Counter:
            count = 0
            def add(self):
                self.count += 1
                return self.count

        put, seen, unseen = ray.put("put"), add_one.remote(1), add_one.remote(2)
        actor = Counter.remote()
        assert ray.get([seen, actor.add.remote()]) == [2, 1] and ray.wait([unseen])[0]
        namespace = ray.get_runtime_context().namespace
        """
    )
    return client


def test_the_session_is_begun_anew_and_restored(client: Client, proxier: Proxier) -> None:
    step = client.start("import threading; threading.Event().wait(0); ray.get(put)")
    assert step.value() == "put"
    lose(proxier, client)
    waiting = client.start("ray.get([put, seen, unseen, actor.add.remote(), add_one.remote(9)])")
    proxier.start()
    assert waiting.value() == ["put", 2, 3, 1, 10]
    assert client.run("ray.get_runtime_context().namespace == namespace") is True
    assert client.run("ray.util.client.session.info().incarnation") == 2


def test_again_and_again(client: Client, proxier: Proxier) -> None:
    for incarnation in (2, 3):
        lose(proxier, client)
        proxier.start()
        assert client.run("ray.get([put, unseen, actor.add.remote()])") == ["put", 3, 1]
        assert client.run("ray.util.client.session.info().incarnation") == incarnation


def test_a_server_s_death_after_it_counts_on(client: Client, proxier: Proxier) -> None:
    proxier.kill()
    proxier.start()
    assert client.run("ray.get(put)") == "put"
    # The one that stands warm is not the session's; both may go.
    for server in descendants(proxier.process.pid):
        kill(server)
    assert client.run("ray.get([put, unseen])") == ["put", 3]
    assert client.run("ray.util.client.session.info().incarnation") == 3


def test_what_workers_print_after_it_comes(client: Client, proxier: Proxier) -> None:
    client.run(
        """
        @ray.remote(lifetime="detached", num_cpus=0, name="speaker")
        class Speaker:
            def say(self, text):
                print(text)

        @ray.remote(num_cpus=0)
        def say(text):
            print(text)

        speaker = Speaker.remote()
        ray.get(speaker.say.remote("said before"))
        """
    )
    client.wait_output("said before")
    for text in ("said after it", "said after both"):
        lose(proxier, client)
        proxier.start()
        # An actor of the first job, and a worker of the newest.
        client.run("ray.get([put, speaker.say.remote(text)])", text=text)
        client.wait_output(text)
        client.run("ray.get(say.remote(text + ', too'))", text=text)
        client.wait_output(text + ", too")
    client.run("ray.kill(speaker)")
    assert client.output().count("said before") == 1
