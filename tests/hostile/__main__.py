"""``python -m tests.hostile --connections N --seed S``: a campaign on a cluster of its own.

Prints what came of it. Exits with 1 if anything was not as it must be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.hostile.campaign import Campaign
from tests.support.client import Client
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.session import connect

# The first ones make gRPC and Python take what they keep for the next: buffers, threads, modules.
_WARM_UP = 500
# Looked at in between, so that a leak shows as a slope.
_PARTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with (
        Cluster(ClusterOptions(sys.executable)) as cluster,
        tempfile.TemporaryDirectory() as folder,
    ):
        client = Client(sys.executable, Path(folder))
        session = connect(client, cluster, cluster.address)
        campaign = Campaign(session, arguments.at_once, arguments.seed)
        campaign.run(min(_WARM_UP, arguments.connections))
        report = campaign.run(arguments.connections, _PARTS)
        client.close()
    print("\n".join(report.lines()))
    left = cluster.leftovers()
    print(f"processes left: {left or 'none'}")
    sys.exit(bool(report.faults or left))


if __name__ == "__main__":
    main()
