"""What the processes of a session hold over time, and whether that is flat."""

from __future__ import annotations

import csv
import math
import statistics
import time
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import psutil

from tests.chaos.program import Program
from tests.support.proxier import Proxier

MEBI = 2**20
# What may be gained over the last half of a run: the greater of a part of the whole, and this.
_MOST_GAINED = 0.03
_LEAST_BYTES = 3 * MEBI
# In standard deviations.
_ONE_SIDED_95 = 1.645

# (seconds since the beginning, bytes)
Sample = Tuple[float, int]


class Memory:
    """Samples of a session's client, proxier and server: memory that is theirs alone.

    Attributes:
        samples: by the process's part. A server's go on with those of the one that replaces it.
    """

    def __init__(self) -> None:
        self.samples: Dict[str, List[Sample]] = {"client": [], "proxier": [], "server": []}
        self._begun = time.time()

    def observe(self, proxier: Proxier, programs: Sequence[Program]) -> None:
        """Takes one sample of each; of the server only if there is one."""
        (program,) = programs
        self._take("client", psutil.Process(program.process.pid))
        self._take("proxier", psutil.Process(proxier.process.pid))
        server = program.client_id and proxier.server_of(program.client_id)
        if server:
            self._take("server", server.process)

    def seconds(self, at: float) -> float:
        """Since the beginning, of a time as of ``time.time()``."""
        return at - self._begun

    def save(self, path: Path) -> None:
        """Writes the samples as CSV: part, seconds, bytes."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["part", "seconds", "bytes"])
            for part, samples in self.samples.items():
                writer.writerows([part, f"{at:.1f}", held] for at, held in samples)

    def _take(self, part: str, process: psutil.Process) -> None:
        try:
            held = process.memory_full_info().uss
        except psutil.NoSuchProcess:
            return
        self.samples[part].append((self.seconds(time.time()), held))


@dataclass(frozen=True)
class Trend:
    """How memory went over the last half of a run.

    Attributes:
        median: of what was held, in bytes.
        gained: how much more is held at the end of it than at its beginning, in bytes.
        surely_gained: the least that this may be, at 95 %.
    """

    median: float
    gained: float
    surely_gained: float

    @property
    def is_flat(self) -> bool:
        return self.surely_gained <= max(_LEAST_BYTES, _MOST_GAINED * self.median)


def medians(samples: Sequence[Sample], span_s: float) -> List[Tuple[float, float]]:
    """The median of each span of time, with the middle of the span."""
    spans = groupby(samples, key=lambda sample: sample[0] // span_s)
    return [
        ((number + 0.5) * span_s, statistics.median(held for _, held in within))
        for number, within in spans
    ]


def trend(samples: Sequence[Sample], span_s: float) -> Trend:
    """The trend of the last half: the median of the slopes between any two of its spans (Theil),
    which a few spans with large objects in them do not move, and its bound (Sen).

    Args:
        samples: in their order.
        span_s: the spans that are compared. One should hold a server's whole life, so that all
            hold the same.
    """
    end = samples[-1][0]
    points = medians([sample for sample in samples if sample[0] >= end / 2], span_s)
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    if not slopes:
        raise ValueError(f"half of {end:.0f} s holds no two spans of {span_s:g} s to compare")
    n = len(points)
    width = _ONE_SIDED_95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    least = slopes[max(0, math.floor((len(slopes) - width) / 2))]
    held = statistics.median(held for _, held in points)
    return Trend(held, statistics.median(slopes) * end / 2, least * end / 2)
