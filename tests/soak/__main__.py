"""``python -m tests.soak``: an hour's mixed work in one session with a death a minute.

Fails if the memory of client, proxier or server grows. Writes ``memory.csv`` and ``memory.svg``.
"""

from __future__ import annotations

import argparse
import sys
from typing import List

from tests.chaos.plan import deaths
from tests.chaos.run import Options, Outcome, default_folder, run, tell
from tests.soak.memory import MEBI, Memory, medians, trend
from tests.soak.plot import svg

_THREADS = (8,)
_PLOTTED_SPAN_S = 10.0
# Ray has its processes allocate by jemalloc, which keeps what was freed for a while: as much again
# as what is held, and by chance. With this it gives it back at once, and what is seen is held.
_ALLOCATOR = {"MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="decides the work")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two deaths")
    asked = parser.parse_args()
    memory = Memory()
    options = Options(
        sys.executable,
        default_folder("soak", asked.seed),
        deaths(asked.every),
        asked.seed,
        asked.minutes,
        _THREADS,
        memory.observe,
        _ALLOCATOR,
    )
    outcome = run(options, print)
    _draw(memory, outcome, options)
    tell(outcome, options)
    grown = _tell_trends(memory, asked.every)
    return 1 if outcome.violations or grown else 0


def _draw(memory: Memory, outcome: Outcome, options: Options) -> None:
    memory.save(options.folder / "memory.csv")
    lines = {part: medians(samples, _PLOTTED_SPAN_S) for part, samples in memory.samples.items()}
    marks = [memory.seconds(death.at) for death in outcome.deaths]
    title = f"Memory of a session of 8 threads, {len(marks)} deaths of its server (upright lines)"
    (options.folder / "memory.svg").write_text(svg(lines, marks, title))


def _tell_trends(memory: Memory, every_s: float) -> List[str]:
    """Prints them; returns the parts whose memory has grown."""
    grown = []
    for part, samples in memory.samples.items():
        found = trend(samples, every_s)
        verdict = "flat" if found.is_flat else "GROWS"
        print(
            f"{part}: median {found.median / MEBI:.1f} MiB, {found.gained / MEBI:+.2f} MiB "
            f"over the last half, surely {found.surely_gained / MEBI:+.2f}: {verdict}"
        )
        if not found.is_flat:
            grown.append(part)
    return grown


if __name__ == "__main__":
    sys.exit(main())
