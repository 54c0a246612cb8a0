"""The demo, as a user runs it: what it says, how it exits, and that it leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Optional, Set

import psutil
import pytest

from tests.support.cluster import Cluster, ray_environment
from tests.support.processes import descendants, kill, wait_gone
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120.0


class Demo:
    """A running demo."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self._log = log
        self._seen: Set[psutil.Process] = set()

    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match:
        """Returns where the output has ``pattern``, once it does."""

        def told() -> Optional[re.Match]:
            self._seen.update(descendants(self.process.pid))
            assert self.process.poll() is None, self.output()
            return re.search(pattern, self.output())

        found = eventually(told, repr(pattern), PATIENCE_S)
        assert found is not None
        return found

    def exit_code(self) -> int:
        """Returns it once the demo has ended, and what it had started with it."""
        eventually(self._ended, "the demo's end", PATIENCE_S)
        for process in self._seen:
            wait_gone(process)
        return self.process.returncode

    def _ended(self) -> bool:
        self._seen.update(descendants(self.process.pid))
        return self.process.poll() is not None


@pytest.fixture
def start(fork_python: str, tmp_path: Path) -> Iterator:
    """Starts a demo: ``with start(*arguments, **variables) as demo``."""

    @contextmanager
    def start(*arguments: str, **variables: str) -> Iterator[Demo]:
        log = tmp_path / "output"
        with log.open("w") as output, _running(fork_python, arguments, variables, output) as demo:
            yield Demo(demo, log)

    yield start


@contextmanager
def _running(
    python: str, arguments: tuple, variables: Dict[str, str], output: object
) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [python, "-m", "demo.demo", *arguments],
        cwd=REPOSITORY,
        env=ray_environment(variables),
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for left in descendants(process.pid):
            kill(left)
        process.kill()
        process.wait()


def test_it_shows_a_session_that_goes_on(start) -> None:
    with start() as demo:
        assert demo.exit_code() == 0, demo.output()
        told = demo.output()
    assert re.search(r"killed the session's server, process \d+, with SIGKILL", told)
    assert re.search(r"the gap was \d+\.\d\d s", told)
    assert told.rstrip().endswith("the session survived the death of its server")


def test_it_fails_if_the_session_does_not_go_on(start) -> None:
    with start(RAY_CLIENT_RECOVERY="off") as demo:
        assert demo.exit_code() == 1
        assert "FAILED: " in demo.output()


@pytest.mark.parametrize(
    "at, number",
    [
        ("starting a local head", signal.SIGINT),
        ("connecting to", signal.SIGINT),
        ("counted", signal.SIGINT),
        ("counted", signal.SIGTERM),
    ],
)
def test_it_stops_what_it_has_started_when_it_is_ended(start, at: str, number: int) -> None:
    with start() as demo:
        demo.wait_for(at)
        demo.process.send_signal(number)
        assert demo.exit_code() != 0, demo.output()


def test_the_clients_part_waits_for_the_user_s_kill(start, cluster: Cluster) -> None:
    with start("--address", cluster.address) as demo:
        pid = int(demo.wait_for(r"kill -9 (\d+)")[1])
        next(server for server in cluster.servers() if server.pid == pid).kill()
        assert demo.exit_code() == 0, demo.output()


def test_an_address_where_nothing_listens(start) -> None:
    with start("--address", "ray://127.0.0.1:1") as demo:
        assert demo.exit_code() == 1
        assert "FAILED: " in demo.output()
        assert "ray start --head --ray-client-server-port" in demo.output()
