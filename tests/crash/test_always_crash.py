"""Programs under deaths of their server at every N-th request give the results of calm ones.

``CRASH_EVERY`` lists the N to be tried with all programs (``make always-crash``). Without it, a few
programs are tried with few N.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.crash.programs import PROGRAMS, Program
from tests.crash.support import crash_environment, deaths, metadata, new_requests
from tests.support.client import Client
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.waiting import eventually

# Each death costs the start of a server.
pytestmark = pytest.mark.timeout(900)
_PATIENCE_S = 600.0
# The goodbye alone has to end a session's server.
_HOUR = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3600"}

_A_FEW = [
    ("before:3", "several_returns"),
    ("after:3", "errors_keep_their_type"),
    ("before:3", "what_may_not_be_retried"),
    ("after:3", "actors"),
]


def _cases() -> List[object]:
    told = os.environ.get("CRASH_EVERY")
    if told is None:
        return [pytest.param(PROGRAMS[name], plan, id=f"{name}-{plan}") for plan, name in _A_FEW]
    return [
        pytest.param(program, f"{when}:{every}", id=f"{program.name}-{when}:{every}")
        for every in told.split()
        for program in PROGRAMS.values()
        for when in ("before", "after")
    ]


@pytest.fixture(scope="module")
def crash_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def crashing(fork_python: str, crash_folder: Path) -> Iterator[Cluster]:
    """A head whose servers die where a session's plan says so."""
    options = ClusterOptions(fork_python, crash_environment(crash_folder), cpus=2)
    with Cluster(options) as running:
        yield running
        eventually(lambda: not running.sessions(), "the end of every session")
    assert not running.leftovers()


@pytest.fixture
def client(fork_python: str, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "brought_along.py").write_text("ANSWER = 42\n")
    (tmp_path / "runs").touch()
    running = Client(fork_python, tmp_path, _HOUR, patience_s=_PATIENCE_S)
    yield running
    running.close()


def _run(client: Client, cluster: Cluster, program: Program, plan: str = "") -> str:
    """Runs a program in a session of its own, checks what came of it; returns the client id."""
    options = dict(program.options)
    if "runtime_env" in options:
        options["runtime_env"] = {**options["runtime_env"], "working_dir": str(client.folder)}
    if plan:
        options["_metadata"] = metadata(plan)
    client.connect(cluster.address, **options)
    client_id = client.run("ray.util.client.ray.get_context().client_worker._client_id")
    try:
        assert client.run(program.code, folder=str(client.folder)) == program.result
    finally:
        client.run("ray.shutdown()")
    eventually(lambda: client_id not in cluster.sessions(), "the session's end")
    runs = Counter((client.folder / "runs").read_text().splitlines())
    allowed = {name: runs[name] for name in runs if runs[name] <= program.runs[name]}
    assert runs == allowed
    return client_id


@pytest.mark.skipif("CRASH_EVERY" not in os.environ, reason="make always-crash runs all programs")
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_calm_program(client: Client, crashing: Cluster, program: Program) -> None:
    assert deaths(crashing, _run(client, crashing, program)) == 0


@pytest.mark.parametrize("program, plan", _cases())
def test_an_always_crashing_program(
    client: Client, crashing: Cluster, crash_folder: Path, program: Program, plan: str
) -> None:
    client_id = _run(client, crashing, program, plan)
    died, every = deaths(crashing, client_id), int(plan.partition(":")[2])
    # A server that dies of its session's goodbye, or before it has answered the init, is no loss.
    assert 0 < died <= new_requests(crash_folder, client_id) // every


def test_a_detached_actor_that_never_was_is_made(client: Client, crashing: Cluster) -> None:
    # The second request, the call, kills the server before the cluster has made the actor.
    client.connect(crashing.address, _metadata=metadata("before:1"))
    client.run("kept = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)")
    client.run("class Here:\n    def say(self): return 'here'")
    client.run("here = kept(Here).options(name='here', lifetime='detached').remote()")
    assert client.run("ray.get(here.say.remote())") == "here"
    client.run("ray.kill(here)")
