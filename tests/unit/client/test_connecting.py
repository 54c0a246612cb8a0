"""What a look at an address finds, and what a user is told."""

import socket
import ssl
import threading
from concurrent import futures

import grpc
import pytest

from ray.util.client import connecting, protocol
from ray.util.client.connecting import Finding, close_channel, look, timeouts, wait_for_server
from ray.util.client.session.errors import (
    ConnectFailed,
    NothingListening,
    TlsMismatch,
    TokenRefused,
    WrongPort,
)
from tests.support.waiting import eventually


@pytest.fixture
def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield server, f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture
def answering():
    """Serves one canned answer to everybody who connects."""
    stop = []

    def serve(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        stop.append(listener)

        def run():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    answer(peer)

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in stop:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture(scope="module")
def tls_context(tmp_path_factory):
    from ray._common.tls_utils import generate_self_signed_tls_certs

    certificate, key = generate_self_signed_tls_certs()
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    return context


def shake_hands(context):
    def answer(peer):
        try:
            context.wrap_socket(peer, server_side=True).close()
        except OSError:
            pass

    return answer


def unused():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return f"127.0.0.1:{s.getsockname()[1]}"


def test_grpc(grpc_server):
    assert look(grpc_server[1])[0] is Finding.PLAIN_GRPC


def test_http(answering):
    address = answering(lambda peer: (peer.recv(64), peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")))
    assert look(address)[0] is Finding.HTTP1


def test_tls(answering, tls_context):
    assert look(answering(shake_hands(tls_context)))[0] is Finding.TLS


def test_something_else(answering):
    address = answering(lambda peer: (peer.recv(64), peer.sendall(b"-ERR unknown command\r\n")))
    assert look(address)[0] is Finding.OTHER


def test_nothing():
    finding, detail = look(unused())
    assert finding is Finding.NOTHING and "refused" in detail


def test_no_address():
    assert look("nonsense")[0] is Finding.NO_PORT


def test_attempts_grow_up_to_the_longest(monkeypatch):
    monkeypatch.setattr(connecting, "INITIAL_TIMEOUT_SEC", 5)
    assert timeouts(3) == [5, 10, 15]
    assert timeouts(0) == [5]
    assert timeouts(8)[-1] == connecting.MAX_TIMEOUT_SEC


@pytest.fixture
def connect(monkeypatch):
    monkeypatch.setattr(connecting, "INITIAL_TIMEOUT_SEC", 2)
    channels = []

    def attempt(address, secure=False):
        channel = connecting.make_channel(address, secure, None)
        channels.append(channel)
        stub = protocol.Stub(channel, protocol.DRIVER)
        ping = connecting.ping_request()
        wait_for_server(channel, address, secure, 1, lambda t: stub.ClusterInfo(ping, timeout=t))

    yield attempt
    for channel in channels:
        channel.close()


def test_nothing_listening(connect):
    with pytest.raises(NothingListening, match="nothing accepts connections"):
        connect(unused())


def test_an_address_without_a_port(connect, monkeypatch):
    monkeypatch.setattr(connecting, "_ready", lambda channel, timeout: False)
    monkeypatch.setattr(connecting, "INITIAL_TIMEOUT_SEC", 0)
    with pytest.raises(ConnectFailed, match="names no port"):
        connect("127.0.0.1")


def test_another_grpc_server(connect, grpc_server):
    with pytest.raises(WrongPort, match="GCS"):
        connect(grpc_server[1])


def test_a_web_server(connect, answering):
    http = answering(lambda peer: (peer.recv(64), peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")))
    with pytest.raises(WrongPort, match="dashboard"):
        connect(http)


def test_tls_wanted(connect, answering, tls_context):
    with pytest.raises(TlsMismatch, match="wants TLS"):
        connect(answering(shake_hands(tls_context)))


def test_tls_not_spoken(connect, grpc_server):
    with pytest.raises(TlsMismatch, match="does not"):
        connect(grpc_server[1], secure=True)


def test_certificates_do_not_fit(connect, answering, tls_context):
    with pytest.raises(TlsMismatch, match="certificates"):
        connect(answering(shake_hands(tls_context)), secure=True)


class Refusing:
    def ClusterInfo(self, request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid or missing authentication token")


def test_token_refused(connect, grpc_server):
    server, address = grpc_server
    server.add_generic_rpc_handlers((protocol.handler(protocol.DRIVER, Refusing()),))
    with pytest.raises(TokenRefused, match="RAY_AUTH_TOKEN"):
        connect(address)


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_thread_of_grpc_complains_of_a_channel_that_is_closed(grpc_server, monkeypatch, wrapped):
    _, address = grpc_server
    complaints = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    before = threading.active_count()
    for _ in range(5):
        channel = grpc.insecure_channel(address)
        if wrapped:
            channel = grpc.intercept_channel(channel, Interceptor())
        for _ in range(2):
            ready = grpc.channel_ready_future(channel)
            ready.result(20)
            ready.cancel()
        close_channel(channel)
    # Those that watched have ended, whether or not they complained.
    eventually(lambda: threading.active_count() <= before, "the threads to end")
    assert not complaints


class Interceptor(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation, details, request):
        return continuation(details, request)
