"""What workers print reaches the client once, whatever breaks meanwhile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import MakeSession
from tests.support.heard import assert_each_once, await_heard, await_line, heard, numbers
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.session import Session
from tests.support.waiting import eventually

SPEAK = """
    import pathlib, sys, time

    def say(text):
        sys.stdout.write(text + "\\n")

    @ray.remote(max_retries=0)
    def speak(text):
        say(text)

    @ray.remote(max_retries=0)
    def count(end, seconds=0.0):
        for n in range(end):
            say(f"line {n};")
            time.sleep(seconds)

    def wait_for(path):
        while not pathlib.Path(path).exists():
            time.sleep(0.01)

    @ray.remote(max_retries=0)
    def count_between(first, end, begin, printed, go_on):
        for n in range(first):
            say(f"line {n};")
        wait_for(begin)
        for n in range(first, end):
            say(f"line {n};")
        pathlib.Path(printed).touch()
        wait_for(go_on)
        say(f"line {end};")

    @ray.remote(lifetime="detached", num_cpus=0)
    class Speaker:
        def begin(self, stop):
            import threading
            threading.Thread(target=self.count, args=(stop,), daemon=True).start()

        def count(self, stop):
            n = 0
            while not pathlib.Path(stop).exists():
                say(f"line {n};")
                n += 1
                time.sleep(0.005)
            say(f"counted to {n}.")
"""


@pytest.fixture
def linked(link: Link, make_session: MakeSession) -> Session:
    """A session over ``link`` that can speak and count."""
    session = make_session(address=f"ray://{LOOPBACK}:{link.port}")
    session.client.run(SPEAK)
    return session


# -- the link breaks


def test_lines_printed_while_the_link_is_down_come_after_it(
    link: Link, linked: Session, tmp_path: Path
) -> None:
    begin, printed, end = (tmp_path / name for name in ("begin", "printed", "end"))
    linked.client.run(
        "counting = count_between.remote(500, 1000, begin, printed, end)",
        begin=str(begin),
        printed=str(printed),
        end=str(end),
    )
    await_line(linked.client, 499)
    link.refuse()
    begin.touch()
    eventually(printed.exists, "lines printed without a link")
    link.accept()
    end.touch()
    linked.client.run("ray.get(counting)")
    assert_each_once(linked.client, 1001)


def test_lines_come_once_and_in_order_over_many_cuts(link: Link, linked: Session) -> None:
    linked.client.run("counting = count.remote(3000, 0.001)")
    for n in (100, 500, 501, 1200, 2000, 2900):
        await_line(linked.client, n)
        link.cut()
    linked.client.run("ray.get(counting)")
    assert_each_once(linked.client, 3000)


def test_a_flood_over_cuts_loses_nothing(link: Link, linked: Session) -> None:
    linked.client.run("counting = count.remote(50000)")
    for n in (0, 10000, 20000, 40000):
        await_line(linked.client, n)
        link.cut()
    assert_each_once(linked.client, 50000)


@pytest.mark.slow
def test_lines_sent_into_a_black_hole_are_sent_again(link: Link, linked: Session) -> None:
    linked.client.run("counting = count.remote(4000, 0.001)")
    await_line(linked.client, 500)
    link.black_hole()
    linked.client.run("before = time.monotonic()")
    step = linked.client.start("ray.get(counting)")
    link.heal()
    step.value()
    assert_each_once(linked.client, 4000)


# -- the server dies


def test_worker_output_is_streamed_after_the_death(session: Session) -> None:
    session.client.run(SPEAK)
    session.client.run("ray.get(speak.remote('said before'))")
    await_heard(session.client, "said before")
    session.lose_server()
    session.client.run("ray.get(speak.remote('said after'))")
    await_heard(session.client, "said after")


def test_a_detached_actor_is_heard_through_several_deaths(
    session: Session, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    session.client.run(SPEAK)
    session.client.run("speaker = Speaker.options(name=name).remote()", name=tmp_path.name)
    session.client.run("ray.get(speaker.begin.remote(stop))", stop=str(stop))
    for n in (50, 300, 600):
        await_line(session.client, n)
        session.lose_server()
        session.client.run("ray.get(ray.put(1))")
        session.await_server()
    await_line(session.client, numbers(session.client)[-1] + 100)
    stop.touch()
    await_heard(session.client, "counted to ")
    session.client.run("ray.kill(speaker)")
    (end,) = re.findall(r"counted to (\d+)\.", heard(session.client))
    assert_each_once(session.client, int(end))


def test_a_tasks_last_lines_before_its_servers_death_come(
    session: Session, tmp_path: Path
) -> None:
    printed, never = tmp_path / "printed", tmp_path / "never"
    session.client.run(SPEAK)
    session.client.run(
        "ref = count_between.remote(0, 2000, folder, printed, never)",
        folder=str(tmp_path),
        printed=str(printed),
        never=str(never),
    )
    eventually(printed.exists, "the task to have printed")
    session.lose_server()
    session.client.run("ray.get(speak.remote('said after'))")
    await_heard(session.client, "said after")
    assert_each_once(session.client, 2000)


def test_lines_come_once_when_the_link_is_cut_and_the_server_dies(
    link: Link, linked: Session, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    linked.client.run("speaker = Speaker.options(name=name).remote()", name=tmp_path.name)
    linked.client.run("ray.get(speaker.begin.remote(stop))", stop=str(stop))
    await_line(linked.client, 50)
    link.refuse()
    linked.lose_server()
    link.accept()
    linked.client.run("ray.get(ray.put(1))")
    await_line(linked.client, numbers(linked.client)[-1] + 100)
    stop.touch()
    await_heard(linked.client, "counted to ")
    linked.client.run("ray.kill(speaker)")
    (end,) = re.findall(r"counted to (\d+)\.", heard(linked.client))
    assert_each_once(linked.client, int(end))


# -- who sees what


def test_each_session_gets_its_own_workers_output(make_session: MakeSession) -> None:
    first, second = make_session(), make_session()
    for session, text in ((first, "to the first"), (second, "to the second")):
        session.client.run(SPEAK)
        session.client.run("ray.get(speak.remote(text))", text=text)
        session.client.wait_output(text)
    assert "to the second" not in first.client.output()
    assert "to the first" not in second.client.output()


def test_a_session_does_not_get_the_output_of_one_that_lost_its_server(
    make_session: MakeSession,
) -> None:
    first, second = make_session(), make_session()
    for session in (first, second):
        session.client.run(SPEAK)
    first.lose_server()
    for session, text in ((first, "to the first"), (second, "to the second")):
        session.client.run("ray.get(speak.remote(text))", text=text)
        session.client.wait_output(text)
    assert "to the second" not in first.client.output()
    assert "to the first" not in second.client.output()


def test_without_log_to_driver_nothing_comes(make_session: MakeSession) -> None:
    silent, loud = make_session(log_to_driver=False), make_session()
    for session in (silent, loud):
        session.client.run(SPEAK)
    silent.client.run("ray.get(speak.remote('into the void'))")
    silent.lose_server()
    silent.client.run("ray.get(speak.remote('into the void'))")
    # The log monitor goes through all files before it comes to one again.
    for text in ("said once", "said twice"):
        loud.client.run("ray.get(speak.remote(text))", text=text)
        loud.client.wait_output(text)
    assert "into the void" not in silent.client.output() + loud.client.output()


def test_lines_look_as_in_a_driver(session: Session) -> None:
    session.client.run(SPEAK)
    session.client.run("ray.get(speak.remote('said'))")
    await_heard(session.client, "said")
    line = next(line for line in session.client.output().splitlines() if "said" in line)
    assert re.fullmatch(r"\x1b\[36m\(speak pid=\d+\)\x1b\[0m said", line)


# -- what the logs tell


def test_the_client_log_tells_of_the_death_and_of_the_recovery(session: Session) -> None:
    session.lose_server()
    session.client.run("ray.get(ray.put(1))")
    session.client.wait_output("SIGKILL")


def test_the_head_log_tells_of_the_death(session: Session) -> None:
    session.lose_server()
    session.client.run("ray.get(ray.put(1))")
    logs = [path.read_text(errors="replace") for path in session.cluster.logs.glob("ray_client*")]
    assert any("SIGKILL" in text and str(session.server.pid) in text for text in logs)


def test_no_log_holds_a_session_secret(session: Session) -> None:
    secret = session.client.run(
        """
        from ray.util.client import ray as client
        from ray.util.client.session.wire import SECRET_KEY
        dict(client.get_context().client_worker.metadata).get(SECRET_KEY)
        """
    )
    session.lose_server()
    session.client.run("ray.get(ray.put(1))")
    assert secret
    for path in session.cluster.logs.glob("*"):
        assert path.is_dir() or secret not in path.read_text(errors="replace"), path
    assert secret not in session.client.output()
