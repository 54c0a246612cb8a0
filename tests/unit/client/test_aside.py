"""gRPC calls of the main thread run on other threads."""

from __future__ import annotations

import signal
import threading

import pytest

from ray.util.client.aside import Abandoned, Aside


@pytest.fixture
def aside():
    aside = Aside()
    yield aside
    aside.close()


def test_the_main_thread_s_calls_run_elsewhere(aside):
    assert aside.run(lambda errand: threading.current_thread()) is not threading.current_thread()


def test_other_threads_make_their_calls_themselves(aside):
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(aside.run(lambda errand: threading.current_thread()))
    )
    thread.start()
    thread.join()
    assert seen == [thread]


def test_errors_reach_the_caller(aside):
    with pytest.raises(KeyError, match="gone"):
        aside.run(lambda errand: {}["gone"])


def test_an_interrupted_call_hears_of_it_and_keeps_no_other_waiting(aside):
    heard, go_on = threading.Event(), threading.Event()

    def call(errand):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        go_on.wait(30)
        with pytest.raises(Abandoned):
            errand.check()
        heard.set()

    with pytest.raises(KeyboardInterrupt):
        aside.run(call)
    assert aside.run(lambda errand: 1) == 1
    go_on.set()
    assert heard.wait(30)


def test_after_the_end_calls_are_made_on_the_spot():
    aside = Aside()
    aside.close()
    aside.close()
    assert aside.run(lambda errand: threading.current_thread()) is threading.current_thread()


def test_a_call_that_the_end_overtakes_is_made(monkeypatch):
    aside = Aside()
    threads = [one for one in threading.enumerate() if one.name == "ray_client_caller"]
    put = aside._errands.put

    class Line:
        """Where the end comes right before an errand is put."""

        def __getattr__(self, name):
            return getattr(queue, name)

        def put(self, errand):
            if errand is not None:
                aside.close()
                for thread in threads:
                    thread.join(30)
            put(errand)

    queue = aside._errands
    monkeypatch.setattr(aside, "_errands", Line())
    assert aside.run(lambda errand: 1) == 1


def test_calls_are_made_though_there_can_be_no_more_threads(aside, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert [aside.run(lambda errand: 1) for _ in range(3)] == [1, 1, 1]


def test_threads_end_with_it():
    before = set(threading.enumerate())
    aside = Aside()
    aside.run(lambda errand: 1)
    threads = set(threading.enumerate()) - before
    assert threads
    aside.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
