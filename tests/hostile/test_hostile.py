"""A few hundred hostile connections; ``make hostile`` makes ten thousand."""

from __future__ import annotations

import pytest

from tests.conftest import FORK_PYTHON, MakeClient
from tests.hostile import calls, raw
from tests.hostile.campaign import Campaign
from tests.support.cluster import Cluster
from tests.support.session import connect

CONNECTIONS = 300
AT_ONCE = 24
SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_session_does_not_notice(own_cluster: Cluster, make_client: MakeClient) -> None:
    session = connect(make_client(FORK_PYTHON), own_cluster, own_cluster.address)
    report = Campaign(session, AT_ONCE, SEED).run(CONNECTIONS)
    assert not report.faults, "\n".join(report.lines())
    assert report.connections == CONNECTIONS
    assert set(report.outcomes) == {*raw.ATTACKS, *calls.ATTACKS, *calls.COSTLY}
    assert report.rounds > 1
    assert session.server in own_cluster.servers()
