"""A further node of a cluster: a raylet and workers apart from the head's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Optional

from tests.support.cluster import Cluster, ray_environment
from tests.support.ports import NODE_ADDRESS, free_ports
from tests.support.processes import descendants, end
from tests.support.waiting import eventually

_START_S = 120.0


class Node:
    """A running node. Use as a context manager, within the cluster's; it leaves no process behind.

    Args:
        cluster: the head that it joins.
        resources: what it offers besides CPUs.
        cpus: logical CPUs that it offers.
    """

    def __init__(self, cluster: Cluster, resources: Dict[str, float], cpus: int = 2) -> None:
        self._cluster = cluster
        self._resources = resources
        self._cpus = cpus
        self._log: Path = cluster.folder / f"node-{'-'.join(resources)}.log"
        self._process: Optional[subprocess.Popen] = None

    def __enter__(self) -> Node:
        try:
            self._start()
            eventually(self._is_up, "the node to start", _START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process is not None:
            end(self._process, descendants(self._process.pid))
            self._process = None

    def _start(self) -> None:
        agent, agent_grpc, env_agent, metrics, manager, objects = free_ports(6)
        arguments = {
            "address": self._cluster.gcs_address,
            "node-ip-address": NODE_ADDRESS,
            "num-cpus": self._cpus,
            "resources": json.dumps(self._resources),
            "object-store-memory": self._cluster.options.object_store_bytes,
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": agent_grpc,
            "runtime-env-agent-port": env_agent,
            "metrics-export-port": metrics,
            "node-manager-port": manager,
            "object-manager-port": objects,
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._cluster.command, "start", "--block", "--disable-usage-stats", *flags],
                env=ray_environment(self._cluster.options.environment),
                cwd=self._cluster.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_up(self) -> bool:
        assert self._process is not None
        printed = self._log.read_text(errors="replace")
        if self._process.poll() is not None:
            raise RuntimeError(f"the node did not start:\n{printed}")
        return "Ray runtime started" in printed
