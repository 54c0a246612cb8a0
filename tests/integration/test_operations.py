"""What an operator sees: health, processes that end, heads that go down."""

from __future__ import annotations

from tests.conftest import MakeClient, MakeSession
from tests.support.cluster import Cluster
from tests.support.processes import descendants, kill, open_sockets, wait_gone
from tests.support.session import Session, connect


def _health(cluster: Cluster) -> int:
    arguments = ("health-check", "--address", cluster.gcs_address)
    done = cluster.ray(*arguments, "--component", "ray_client_server", check=False)
    return done.returncode


def test_the_health_check_is_passed_before_and_after_a_death(session: Session) -> None:
    assert _health(session.cluster) == 0
    session.lose_server()
    assert session.client.run("ray.get(ray.put(1))") == 1
    assert _health(session.cluster) == 0


def test_servers_share_the_fate_of_the_proxier(
    own_cluster: Cluster, make_client: MakeClient
) -> None:
    client = make_client(environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"})
    session = connect(client, own_cluster, own_cluster.address)
    kill(own_cluster.proxier)
    wait_gone(session.server)
    assert "ConnectionError" in client.fails("ray.get(ray.put(1))").bases
    assert client.run("ray.is_initialized()") is False


def test_servers_end_with_the_head(own_cluster: Cluster, make_client: MakeClient) -> None:
    client = make_client(environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"})
    session = connect(client, own_cluster, own_cluster.address)
    own_cluster.terminate()
    wait_gone(session.server)
    assert "ConnectionError" in client.fails("ray.get(ray.put(1))").bases


def test_a_server_ends_at_once_when_its_client_shuts_down(make_session: MakeSession) -> None:
    session = make_session(environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3600"})
    session.client.run("ray.shutdown()")
    wait_gone(session.server)


def test_a_server_ends_at_once_when_its_client_exits(make_session: MakeSession) -> None:
    session = make_session(environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3600"})
    session.client.close()
    wait_gone(session.server)


def test_a_terminated_server_exits_by_itself_and_is_replaced(session: Session) -> None:
    session.server.terminate()
    wait_gone(session.server)
    assert session.client.run("ray.get(ray.put(1))") == 1


def test_ctrl_c_at_the_head_does_not_reach_servers(session: Session) -> None:
    session.client.run("ref = ray.put('kept')")
    session.server.send_signal(2)
    assert session.client.run("ray.get(ref)") == "kept"
    assert session.cluster.servers() == [session.server]


def test_a_head_of_the_tests_talks_to_loopback_alone(session: Session) -> None:
    processes = [session.cluster.proxier, session.server, *descendants(session.cluster.head_pid)]
    peers = {
        entry.raddr.ip.removeprefix("::ffff:")
        for process in processes
        for entry in open_sockets(process)
        if entry.raddr
    }
    assert peers and all(ip == "::1" or ip.startswith("127.") for ip in peers)
