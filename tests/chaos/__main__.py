"""``python -m tests.chaos``: chaos for some minutes, and a report. ``--help`` tells the options."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.chaos.run import Options, default_folder, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="decides faults and work")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two faults")
    asked = parser.parse_args()
    folder = default_folder("chaos", asked.seed)
    options = Options(sys.executable, folder, asked.seed, asked.minutes, asked.pause)
    outcome = run(options, print)
    print(f"seed {asked.seed}, {asked.minutes:g} minutes, commit {_commit()}")
    print("\n".join(outcome.lines))
    if outcome.violations:
        print(f"{len(outcome.violations)} violations; histories and logs are in {folder}")
        print("\n".join(outcome.violations[:50]))
        return 1
    print("no violations: 0 hangs, 0 wrong values, 0 forbidden runs, 0 leaks")
    return 0


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
