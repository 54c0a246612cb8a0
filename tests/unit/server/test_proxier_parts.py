"""The proxier's small parts, each by itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import string
import sys
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray import cloudpickle
from ray.job_config import JobConfig
from ray.runtime_env import RuntimeEnv
from ray.util.client.server.proxier import serve_proxier
from ray.util.client.server.proxy import health, launcher
from ray.util.client.server.proxy.gcs import Gcs
from ray.util.client.server.proxy.health import keep_reporting
from ray.util.client.server.proxy.job_config import BadJobConfig, RuntimeEnvSpec, runtime_env_of
from ray.util.client.server.proxy.launcher import Launcher
from ray.util.client.server.proxy.packages import Packages
from ray.util.client.server.proxy.ports import NoFreePort, Ports
from ray.util.client.server.proxy.process import ServerProcess
from ray.util.client.server.proxy.rpc import onward, trimmed
from ray.util.client.server.proxy.runtime_env import RuntimeEnvAgent, RuntimeEnvFailed
from ray.util.client.session import wire


async def spawn(program, *, stderr=None):
    return await ServerProcess.spawn(
        [sys.executable, "-c", program], dict(os.environ), None, stderr
    )


# -- processes


async def test_an_exit_is_seen_and_told_with_the_end_of_the_log(tmp_path):
    with open(tmp_path / "ray_client_server_1.err", "w") as log:
        process = await spawn(
            "import sys; sys.stderr.write('x' * 9000 + 'at last'); sys.exit(3)", stderr=log
        )
        assert log.closed
    assert await process.wait(30)
    text = process.obituary()
    assert "it exited with code 3" in text
    assert "ray_client_server_1.err" in text
    assert text.endswith("at last")
    assert len(text) < 5000


def watched_processes():
    descriptors = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(
        os.path.lexists(path) and "pidfd" in os.readlink(path) for path in descriptors
    )


async def test_a_process_that_is_gone_holds_no_descriptor():
    gc.disable()
    try:
        before = watched_processes()
        process = await spawn("pass")
        assert await process.wait(30)
        assert process.exited()
        assert watched_processes() == before
    finally:
        gc.enable()


async def test_a_sigkill_may_be_for_lack_of_memory():
    process = await spawn("import time; time.sleep(600)")
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait(30)
    assert "signal 9 (SIGKILL), maybe because memory ran out" in process.obituary()


async def test_other_signals_are_named():
    process = await spawn("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert await process.wait(30)
    assert "signal 11 (SIGSEGV)" in process.obituary()
    assert "memory" not in process.obituary()


async def test_a_process_that_leaves_when_asked_is_not_killed(tmp_path):
    with open(tmp_path / "log", "w") as log:
        process = await spawn(
            "import signal, sys\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
            "sys.stderr.write('ready'); sys.stderr.flush()\n"
            "signal.pause()",
            stderr=log,
        )
    while (tmp_path / "log").read_text() != "ready":
        await asyncio.sleep(0.01)
    await process.end(gently=True)
    assert "code 7" in process.obituary()


async def test_a_process_that_does_not_leave_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr("ray.util.client.server.proxy.process.TERM_S", 0.1)
    with open(tmp_path / "log", "w") as log:
        process = await spawn(
            "import signal, sys\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "sys.stderr.write('ready'); sys.stderr.flush()\n"
            "while True: signal.pause()",
            stderr=log,
        )
    while (tmp_path / "log").read_text() != "ready":
        await asyncio.sleep(0.01)
    await process.end(gently=True)
    assert "SIGKILL" in process.obituary()


async def test_ending_reaps_and_may_be_repeated():
    process = await spawn("import time; time.sleep(600)")
    await process.end(gently=False)
    await process.end(gently=False)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_a_process_that_can_not_be_started_leaves_no_file_open(tmp_path):
    log = open(tmp_path / "log", "w")
    with pytest.raises(FileNotFoundError):
        await ServerProcess.spawn(["/no/such/program"], {}, None, log)
    assert log.closed


async def test_children_are_not_forked(monkeypatch):
    """A fork would run the handlers that are registered for it; vfork and posix_spawn don't."""
    forks = []
    os.register_at_fork(before=lambda: forks.append(1))
    process = await spawn("pass")
    await process.wait(30)
    assert forks == []


# -- ports


def test_ports_are_handed_out_in_turn():
    ports = Ports("127.0.0.1", _free(3))
    taken = [ports.take() for _ in range(3)]
    with pytest.raises(NoFreePort):
        ports.take()
    ports.give_back(taken[1])
    ports.give_back(taken[0])
    assert [ports.take(), ports.take()] == [taken[1], taken[0]]


def test_a_port_in_use_is_passed_over():
    free = _free(2)
    ports = Ports("127.0.0.1", free)
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", free[0]))
        other.listen()
        assert ports.take() == free[1]
        with pytest.raises(NoFreePort):
            ports.take()
    assert ports.take() == free[0]


def _free(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


# -- the job config


def test_no_job_config_has_no_runtime_env():
    assert runtime_env_of(b"").empty
    assert runtime_env_of(cloudpickle.dumps(JobConfig())).empty


@pytest.mark.parametrize("make", [dict, RuntimeEnv])
def test_the_runtime_env_of_a_job_config(make):
    env = make(env_vars={"A": "1"}, working_dir="gcs://_ray_pkg_a.zip")
    spec = runtime_env_of(cloudpickle.dumps(JobConfig(runtime_env=env)))
    assert '"A": "1"' in spec.serialized
    assert not spec.empty
    assert spec.packages == {"gcs://_ray_pkg_a.zip"}


def test_a_job_config_with_all_that_users_set():
    import ray

    config = JobConfig(metadata={"a": "b"}, ray_namespace="ns", default_actor_lifetime="detached")
    config.set_runtime_env({"pip": ["x"], "config": {"setup_timeout_seconds": 5}}, validate=True)
    config.set_py_logging_config(ray.LoggingConfig(encoding="JSON"))
    spec = runtime_env_of(cloudpickle.dumps(config))
    assert spec.config.setup_timeout_seconds == 5


class Payload:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    "pickled",
    [
        cloudpickle.dumps(Payload()),
        cloudpickle.dumps(JobConfig(metadata={"a": Payload()})),
        cloudpickle.dumps({"runtime_env": {}}),
        cloudpickle.dumps(lambda: 1),
        b"garbage",
        b"\x80\x05.",
    ],
    ids=["call", "call inside", "no job config", "function", "garbage", "empty stack"],
)
def test_anything_else_is_not_loaded(pickled, monkeypatch):
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("the payload ran"))
    with pytest.raises(BadJobConfig):
        runtime_env_of(pickled)


def test_only_packages_in_the_cluster_are_kept():
    spec = RuntimeEnvSpec('{"working_dir": "https://a/b.zip", "py_modules": ["gcs://m.zip", 1]}')
    assert spec.packages == {"gcs://m.zip"}


# -- the runtime env agent


async def test_without_an_agent_runtime_envs_are_refused():
    agent = RuntimeEnvAgent(None, "127.0.0.1:1", None)
    with pytest.raises(RuntimeEnvFailed, match="runtime-env-agent-address"):
        await agent.set_up(RuntimeEnvSpec('{"env_vars": {}}'), "test")
    agent.close()


async def test_an_agent_that_does_not_answer_is_asked_again(monkeypatch):
    monkeypatch.setattr("ray.util.client.server.proxy.runtime_env._PAUSES_S", (0, 0))
    (port,) = _free(1)
    agent = RuntimeEnvAgent(f"http://127.0.0.1:{port}", "127.0.0.1:1", None)
    with pytest.raises(RuntimeEnvFailed, match="does not answer"):
        await agent.set_up(RuntimeEnvSpec('{"env_vars": {}}'), "test")
    agent.close()


# -- packages and health


class FlakyGcs(Gcs):
    """A store that fails at first."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = []
        self.enough = asyncio.Event()

    async def _called(self, *call):
        self.calls.append(call)
        if len(self.calls) > self.failures + 2:
            self.enough.set()
        if len(self.calls) <= self.failures:
            raise RuntimeError("the GCS is away")

    async def pin(self, uri, seconds):
        await self._called(uri, seconds)

    async def put(self, key, value, namespace):
        await self._called(key, value, namespace)


async def test_packages_stay_pinned_over_an_outage(monkeypatch):
    monkeypatch.setattr("ray.util.client.server.proxy.packages._RENEW_S", 0)
    gcs = FlakyGcs(failures=2)
    keeping = asyncio.ensure_future(Packages(gcs).keep({"gcs://a.zip"}))
    await asyncio.wait_for(gcs.enough.wait(), 30)
    keeping.cancel()
    assert {uri for uri, _ in gcs.calls} == {"gcs://a.zip"}


async def test_without_packages_there_is_nothing_to_keep():
    gcs = FlakyGcs(failures=0)
    await asyncio.wait_for(Packages(gcs).keep(frozenset()), 30)
    assert gcs.calls == []


async def test_health_is_reported_over_an_outage_and_an_outage_is_logged_once(monkeypatch):
    monkeypatch.setattr("ray.util.client.server.proxy.health._EVERY_S", 0)
    said = []
    monkeypatch.setattr(health.logger, "error", lambda *text: said.append(text))
    gcs = FlakyGcs(failures=3)
    reporting = asyncio.ensure_future(keep_reporting(gcs))
    await asyncio.wait_for(gcs.enough.wait(), 30)
    reporting.cancel()
    assert len(said) == 1 and "could not be reported" in said[0][0]
    key, value, namespace = gcs.calls[-1]
    assert (key, namespace) == (b"ray_client_server", b"healthcheck")
    assert b'"time"' in value


# -- the command


def test_without_a_runtime_env_the_server_is_run_directly():
    command = Launcher("gcs:1", "127.0.0.1", redis_username="u")._command(23000, None)
    assert command[:3] == [sys.executable, "-m", "ray.util.client.server"]
    assert "--mode=specific-server" in command
    assert "--redis-username=u" in command


def test_with_a_runtime_env_the_server_is_run_by_the_set_up_script():
    command = Launcher("gcs:1", "127.0.0.1")._command(23000, '{"env_vars": {}}')
    assert os.path.basename(command[1]) == "setup_worker.py"
    assert os.path.exists(command[1])
    assert '--serialized-runtime-env-context={"env_vars": {}}' in command


def test_the_password_is_not_in_the_command():
    launcher = Launcher("gcs:1", "127.0.0.1", redis_password="sesame")
    assert "sesame" not in " ".join(launcher._command(23000, None))
    assert launcher._env()["RAY_REDIS_PASSWORD"] == "sesame"
    assert launcher._env()["RAY_CLIENT_SERVER_PARENT_PID"] == str(os.getpid())


async def test_a_store_that_does_not_answer_is_asked_again_at_the_next_start(monkeypatch):
    asked = []

    def silent(params, **_):
        asked.append(params.gcs_address)
        raise RuntimeError("Failed to connect to GCS")

    monkeypatch.setattr(launcher, "Node", silent)
    starting = Launcher("gcs:1", "127.0.0.1")
    for _ in range(2):
        with pytest.raises(OSError, match="store at gcs:1 does not answer: Failed to connect"):
            await starting.launch(23000, None)
    assert asked == ["gcs:1"] * 2


# -- texts and metadata


@given(st.text(min_size=1, max_size=30), st.integers(1, 400))
def test_texts_fit_into_a_header_however_they_are_encoded(filler, times):
    kept = trimmed("cause " + filler * times + " the end")
    assert len(urllib.parse.quote(kept, safe=string.punctuation.replace("%", "") + " ")) < 4200
    assert kept.startswith("cause ")
    assert kept.endswith(" the end")


def test_short_texts_stay():
    assert trimmed("short\ntext") == "short\ntext"


def test_what_goes_onward():
    users = (("user", "x"), ("bin-bin", b"\x00"))
    metadata = onward("c", 3, "key", users, reconnecting=True)
    assert dict(metadata) == {
        "client_id": "c",
        wire.SERVER_KEY: "key",
        wire.INCARNATION_KEY: "3",
        "reconnecting": "True",
        "user": "x",
        "bin-bin": b"\x00",
    }


# -- the program


def test_a_port_in_use_is_a_clear_error():
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            serve_proxier("127.0.0.1", port, "127.0.0.1:1")


def test_the_clusters_token_goes_onward(monkeypatch):
    monkeypatch.setattr(
        "ray.util.client.server.proxy.channel.get_auth_headers_if_auth_enabled",
        lambda _: {"Authorization": "Bearer t"},
    )
    assert ("authorization", "Bearer t") in onward("c", 1, "key", ())
