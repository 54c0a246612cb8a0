"""``python -m tests.simulation --count N --seed S``: runs N schedules from seed S on."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.campaign import Progress, broken, described, report
from tests.simulation.plan import plan_of

# Enough to see what they have in common.
_MOST_BROKEN = 5


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many schedules")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument("--as-it-is", action="store_true", help="don't shrink what breaks")
    args = parser.parse_args()
    if args.count == 1:
        _say(described(plan_of(args.seed)))
    progress = Progress(_say, each=10_000)
    seeds = range(args.seed, args.seed + args.count)
    found = 0
    for each in broken(progress.over(seeds)):
        _say(report(each, not args.as_it_is))
        found += 1
        if found == _MOST_BROKEN:
            break
    _say(f"{progress.summary()}; {found} broke a promise.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
