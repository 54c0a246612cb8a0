"""Every module here is checked for what it leaves behind."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.client import Client
from tests.support.cluster import Cluster


@pytest.fixture(autouse=True)
def _no_leaks(no_leaks: None) -> None:
    """Applies the leak check to all modules of this folder."""


@pytest.fixture
def program(make_client: MakeClient, cluster: Cluster) -> Iterator[Client]:
    """A program that knows ``address`` (ray://…) and ``target`` (without the scheme)."""
    client = make_client()
    client.run("pass", address=cluster.address, target=cluster.address.removeprefix("ray://"))
    yield client
    client.run("import ray; ray.shutdown()")
