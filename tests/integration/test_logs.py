"""What workers print reaches the client, before and after its server's death."""

from __future__ import annotations

from tests.conftest import MakeSession
from tests.support.session import Session
from tests.support.waiting import eventually

SPEAK = """
    @ray.remote
    def speak(text):
        print(text)
"""


def _is_heard(session: Session, text: str) -> bool:
    session.client.run("ray.get(speak.remote(text))", text=text)
    return text in session.client.output()


def test_worker_output_is_streamed_again_after_the_death(session: Session) -> None:
    session.client.run(SPEAK)
    session.client.run("ray.get(speak.remote('said before'))")
    session.client.wait_output("said before")
    session.lose_server()
    # What is printed while the stream is down is not sent again, hence repeatedly.
    eventually(lambda: _is_heard(session, "said after"), "output from after the death")


def test_each_session_gets_its_own_workers_output(make_session: MakeSession) -> None:
    first, second = make_session(), make_session()
    for session, text in ((first, "to the first"), (second, "to the second")):
        session.client.run(SPEAK)
        session.client.run("ray.get(speak.remote(text))", text=text)
        session.client.wait_output(text)
    assert "to the second" not in first.client.output()
    assert "to the first" not in second.client.output()


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
