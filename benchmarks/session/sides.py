"""The sides that are compared, each with a head and client programs of its own installation."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.client import Client, StepFailed
from tests.support.cluster import Cluster, ClusterOptions

T = TypeVar("T")

FORK, STOCK, NATIVE = "fork", "stock", "native"
_WORKLOADS = Path(__file__).with_name("workloads.py")
# Stock's proxier fails to start some servers. The benchmark of connects counts that; in the others
# it would only be in the way.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Side:
    """An installation of Ray with a running head.

    Attributes:
        name: what the tables call it.
        python: the interpreter of the installation.
        cluster: its head.
        address: what its client programs connect to.
    """

    name: str
    python: str
    cluster: Cluster
    address: str

    @contextmanager
    def program(self, environment: dict[str, str] | None = None) -> Iterator[Client]:
        """Starts a client program that knows the workloads but is not connected; ends it."""
        with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as folder:
            client = Client(self.python, Path(folder), environment)
            try:
                client.run(_WORKLOADS.read_text())
                yield client
            finally:
                client.close()

    @contextmanager
    def connected(self, environment: dict[str, str] | None = None) -> Iterator[Client]:
        """Starts a client program, connects it, and ends it."""
        with self.program(environment) as client:
            keep_trying(lambda: client.connect(self.address))
            yield client
            client.run("ray.shutdown()")


def keep_trying(connect: Callable[[], T]) -> T:
    """Calls ``connect`` until it succeeds and returns its value; says so if it fails.

    Raises:
        StepFailed: it has failed too often.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return connect()
        except StepFailed as error:
            reason = " ".join(str(error.failure).split())[:160]
            print(f"  (connect {attempt} failed: {reason})", file=sys.stderr)
    return connect()


@contextmanager
def start_sides(fork_python: str, stock_python: str, cpus: int) -> Iterator[tuple[Side, Side]]:
    """Starts the heads of the fork and of stock, and ends them."""
    with (
        Cluster(ClusterOptions(fork_python, cpus=cpus)) as fork,
        Cluster(ClusterOptions(stock_python, cpus=cpus)) as stock,
    ):
        yield (
            Side(FORK, fork_python, fork, fork.address),
            Side(STOCK, stock_python, stock, stock.address),
        )


def native_of(side: Side) -> Side:
    """Returns the same head as seen by a driver on its own machine."""
    return Side(NATIVE, side.python, side.cluster, side.cluster.gcs_address)
