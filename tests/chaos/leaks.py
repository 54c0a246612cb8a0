"""What must be as before once all programs of a run have ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Sequence

import psutil

from tests.chaos.program import Program
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.ports import is_open
from tests.support.processes import command_of, descendants
from tests.support.proxier import Proxier
from tests.support.waiting import eventually

# What a pool may add whenever it is used first: asyncio's of a proxier has up to cores + 4 threads.
_POOL_THREADS = 4 + (os.cpu_count() or 1)
# gRPC keeps a few descriptors and threads for the life of the process, made when first needed.
_SLACK = 8
_PATIENCE_S = 90.0


class Baseline:
    """What a head has before there is chaos.

    Args:
        cluster: the head.
        folder: for files.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._before = set(descendants(cluster.head_pid))

    def leaks(self, proxier: Proxier, programs: Sequence[Program], report: List[str]) -> List[str]:
        """A line for everything that is left; adds what was measured to ``report``."""
        found: List[str] = []
        checks = (
            ("sessions", lambda: sorted(proxier.sessions())),
            ("servers", lambda: _servers(proxier)),
            ("zombies", lambda: _zombies(proxier)),
            ("open ports", lambda: _open_ports(proxier)),
            ("workers", lambda: self._workers()),
        )
        for name, left in checks:
            try:
                eventually(lambda left=left: not left(), name, _PATIENCE_S)
            except AssertionError:
                found.append(f"left over: {name}: {left()}")
        fresh = self._held_by_a_fresh_proxier(proxier)
        used = _held(proxier)
        report.append(f"the proxier holds {used}, one that served one calm session {fresh}")
        more = _more("the proxier", fresh, used, _POOL_THREADS)
        if more:
            report.append(f"the proxier's descriptors: {_descriptors(proxier)}")
        found += more
        for program in programs:
            begun, *_, ended = program.held() or [{}, {}]
            report.append(f"{program.name} held {begun} when it was up, {ended} at its end")
            found += _more(program.name, begun, ended, 0)
        return found

    def _workers(self) -> List[str]:
        """Workers that run something; idle ones are Ray's to keep."""
        return [
            command_of(process).strip()
            for process in descendants(self._cluster.head_pid)
            if process not in self._before and _is_busy(command_of(process))
        ]

    def _held_by_a_fresh_proxier(self, used: Proxier) -> Dict[str, int]:
        with Proxier(self._cluster, self._folder / "fresh-proxier.log") as fresh:
            folder = self._folder / "calm"
            folder.mkdir()
            client = Client(used.process.args[0], folder)  # type: ignore[index]
            client.connect(fresh.address)
            client.run("ray.get(ray.put(1)); ray.shutdown()")
            client.close()
            eventually(lambda: not _servers(fresh), "the calm session's end")
            return _held(fresh)


def _is_busy(command: str) -> bool:
    return command.startswith("ray::") and not command.startswith("ray::IDLE")


def _servers(proxier: Proxier) -> List[str]:
    """The servers of sessions; the one that waits warm is called otherwise."""
    return [
        command_of(process)
        for process in descendants(proxier.process.pid)
        if "--mode=specific-server" in command_of(process)
    ]


def _zombies(proxier: Proxier) -> List[int]:
    return [
        process.pid
        for process in descendants(proxier.process.pid)
        if process.status() == psutil.STATUS_ZOMBIE
    ]


def _open_ports(proxier: Proxier) -> List[int]:
    warm = {
        int(word.split("=")[1])
        for process in descendants(proxier.process.pid)
        for word in process.cmdline()
        if word.startswith("--port=")
    }
    return [port for port in proxier.ports() - warm if is_open(port)]


def _held(proxier: Proxier) -> Dict[str, int]:
    process = psutil.Process(proxier.process.pid)
    return {"threads": process.num_threads(), "fds": process.num_fds()}


def _descriptors(proxier: Proxier) -> List[str]:
    """What the descriptors stand for; of sockets, also where they lead to."""
    pid = proxier.process.pid
    paths = sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda path: int(path.name))
    listed = [f"{path.name} {os.readlink(path)}" for path in paths]
    sockets = [
        f"{entry.fd} {entry.laddr} {entry.raddr} {entry.status}"
        for entry in psutil.Process(pid).net_connections()
    ]
    return listed + sockets


def _more(name: str, before: Dict[str, int], after: Dict[str, int], pool: int) -> List[str]:
    limits = {"threads": _SLACK + pool, "fds": _SLACK}
    return [
        f"{name} holds {after[what]} {what}, {before[what]} before"
        for what in after
        if after[what] > before[what] + limits[what]
    ]
