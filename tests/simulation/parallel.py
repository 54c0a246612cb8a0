"""Runs the schedules of many seeds in several processes, each of which takes share after share."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from tests.simulation.campaign import Broken, broken

# Large enough that a share's beginning doesn't count, small enough that none waits for others.
_SHARE = 1000


class Share(NamedTuple):
    """What came of a share of the seeds.

    Attributes:
        count: of the schedules.
        processor_s: what they took, in seconds of one processor.
        found: those that broke a promise.
    """

    count: int
    processor_s: float
    found: list[Broken]


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _run(seeds: range) -> Share:
    began = time.process_time()
    found = list(broken(seeds))
    return Share(len(seeds), time.process_time() - began, found)


def _end_with_parent() -> None:
    """A process of the pool would else do its shares though nobody is left to take them."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def shares(seeds: range, jobs: int) -> Iterator[Share]:
    """Runs the schedules of the seeds; yields what came of each share, as it ends.

    Args:
        seeds: of the schedules.
        jobs: how many processes do it; with 1, this one does.
    """
    parts = [seeds[at : at + _SHARE] for at in range(0, len(seeds), _SHARE)]
    if jobs == 1 or len(parts) == 1:
        yield from map(_run, parts)
        return
    # Spawned: a process that has loaded gRPC is not to be forked.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(parts)), spawn, initializer=_end_with_parent)
    try:
        for share in as_completed([pool.submit(_run, part) for part in parts]):
            yield share.result()
    finally:
        pool.shutdown(cancel_futures=True)


class Campaign:
    """Counts schedules, and says now and then how many there were.

    Args:
        seeds: of the schedules.
        jobs: how many processes run them.

    Attributes:
        found: the schedules that broke a promise, so far.
    """

    # How many are run between two lines about it.
    _EACH = 20_000

    def __init__(self, seeds: range, jobs: int) -> None:
        self._seeds = seeds
        self._jobs = jobs
        self._began = time.monotonic()
        self._processor_s = 0.0
        self.count = 0
        self.found = 0

    def run(self, most: int) -> Iterator[Broken | str]:
        """Yields schedules that broke a promise, ``most`` of them, and lines about how it goes."""
        for share in shares(self._seeds, self._jobs):
            before = self.count
            self.count += share.count
            self._processor_s += share.processor_s
            for each in share.found:
                self.found += 1
                yield each
                if self.found == most:
                    return
            if self.count // self._EACH > before // self._EACH:
                yield self.summary()

    def summary(self) -> str:
        """How many there were, how many broke a promise, and how fast it went."""
        took = time.monotonic() - self._began
        rate = self.count / self._processor_s if self._processor_s else 0.0
        return (
            f"{self.count} schedules from seed {self._seeds.start} on, {self.found} broke a "
            f"promise; {took:.0f} s, {rate:.0f} in a second of one processor's time"
        )
