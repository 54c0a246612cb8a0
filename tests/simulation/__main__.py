"""``python -m tests.simulation --count N --seed S``: runs N schedules from seed S on."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.campaign import Broken, described, report
from tests.simulation.parallel import Campaign, processors
from tests.simulation.plan import plan_of

# Enough to see what they have in common.
_MOST_BROKEN = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many schedules")
    parser.add_argument("--seed", type=int, default=1, help="the first one's seed")
    parser.add_argument("--jobs", type=int, default=processors(), help="how many processes")
    parser.add_argument("--as-it-is", action="store_true", help="don't shrink what breaks")
    return parser.parse_args()


def main() -> int:
    """Returns 1 if a promise was broken."""
    args = _arguments()
    if args.count == 1:
        print(described(plan_of(args.seed)))
    campaign = Campaign(range(args.seed, args.seed + args.count), args.jobs)
    for news in campaign.run(_MOST_BROKEN):
        print(report(news, not args.as_it_is) if isinstance(news, Broken) else news, flush=True)
    print(campaign.summary())
    return 1 if campaign.found else 0


if __name__ == "__main__":
    sys.exit(main())
