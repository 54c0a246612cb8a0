"""``python -m tests.chaos``: chaos for some minutes, and a report. ``--help`` tells the options."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.plan import faults
from tests.chaos.run import Options, default_folder, run, tell

# 8 threads over 3 sessions.
_THREADS = (3, 3, 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="decides faults and work")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two faults")
    asked = parser.parse_args()
    options = Options(
        sys.executable,
        default_folder("chaos", asked.seed),
        faults(asked.seed, len(_THREADS), asked.pause),
        asked.seed,
        asked.minutes,
        _THREADS,
    )
    outcome = run(options, print)
    tell(outcome, options)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
