"""Runs tests that know nothing of it on heads whose servers die at every N-th request.

    python -m pytest -p tests.crash.plugin --always-crash before:3 tests/integration

Tests whose assertions can't hold then (:mod:`tests.crash.exempt`) are left out. What the others
assert of a session's server, they assert of the one that it has at the moment. Tasks whose retries
are not told may be retried without limit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, List

import psutil
import pytest

from tests.crash.exempt import reason_to_leave_out
from tests.crash.support import crash_environment
from tests.support import client, cluster, session
from tests.support.processes import kill
from tests.support.waiting import eventually

_CLIENT_ID = "ray.util.client.ray.get_context().client_worker._client_id"
# Each death costs the start of a server.
_TIMEOUT_S = 600
_PATIENCE_S = 300.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--always-crash", metavar="PLAN", help="before:N or after:N")


def pytest_configure(config: pytest.Config) -> None:
    plan = config.getoption("--always-crash")
    if plan:
        folder = Path(tempfile.mkdtemp(prefix="crash-", dir="/tmp"))
        cluster.EXTRA.update(crash_environment(folder, plan))
        client.EXTRA["RAY_TASK_MAX_RETRIES"] = "-1"
        client.PATIENCE_S = _PATIENCE_S
        session.Session = _Session  # type: ignore[misc]


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    if not config.getoption("--always-crash"):
        return
    left_out = [item for item in items if reason_to_leave_out(item.nodeid)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


class _Session(session.Session):
    """Its server is the one that the session has now."""

    def __init__(self, client: Any, cluster: Any, server: psutil.Process) -> None:
        self._client_id = client.start(_CLIENT_ID, thread=True).value()
        super().__init__(client, cluster, server)

    @property
    def server(self) -> psutil.Process:
        return eventually(lambda: self.cluster.server_of(self._client_id), "the session's server")

    @server.setter
    def server(self, _: psutil.Process) -> None:
        pass

    def lose_server(self) -> None:
        # It may have died by itself this moment, and a proxier that is stopped starts no other.
        server = self.cluster.server_of(self._client_id)
        if server is not None:
            kill(server)

    def await_server(self) -> None:
        assert self.server
