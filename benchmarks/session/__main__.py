"""``python -m benchmarks.session``: sessions of the fork, of stock, and native, in one run.

FORK_PYTHON and STOCK_PYTHON name the interpreters of the two installations. Run it from the
repository's root, on a machine that does nothing else. Exits with 1 if the fork failed at
something; slowness is printed and no failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.session import connects, crowd, flood, gap, rates, replay
from benchmarks.session.report import Section, describe_machine, format_section, write_json
from benchmarks.session.sides import FORK, STOCK, Side, start_sides

_CPUS = 4


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    fork_connects: int = 200
    stock_connects: int = 51
    connect_rounds: int = 4
    gaps: int = 15
    replays: int = 7
    sessions: int = 50
    floods: int = 5
    rate_rounds: int = 5
    rate_s: float = 1.0


_QUICK = Sizes(
    fork_connects=4,
    stock_connects=2,
    connect_rounds=1,
    gaps=2,
    replays=1,
    sessions=4,
    floods=1,
    rate_rounds=1,
    rate_s=0.2,
)

_BENCHMARKS: dict[str, Callable[[Side, Side, Sizes], Section]] = {
    "rates": lambda fork, stock, n: rates.measure(fork, stock, n.rate_rounds, n.rate_s),
    "gap": lambda fork, stock, n: gap.measure(fork, stock, n.gaps),
    "replay": lambda fork, stock, n: replay.measure(fork, stock, n.replays),
    "connects": lambda fork, stock, n: connects.measure(
        fork, stock, {FORK: n.fork_connects, STOCK: n.stock_connects}, n.connect_rounds
    ),
    "flood": lambda fork, stock, n: flood.measure(fork, stock, n.floods),
    "crowd": lambda fork, stock, n: crowd.measure(fork, stock, n.sessions),
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.session")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    parser.add_argument("--only", nargs="+", choices=_BENCHMARKS, default=list(_BENCHMARKS))
    parser.add_argument("--json", type=Path, default=Path("build/bench/session.json"))
    return parser.parse_args()


def _python(variable: str, default: str) -> str:
    path = os.path.abspath(os.environ.get(variable, default))
    if not os.path.exists(path):
        sys.exit(f"no {path}: run `make venv stock-venv`, or set {variable}")
    return path


def main() -> int:
    arguments = _parse()
    # Ends as by Ctrl-C, so that the heads are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sizes = _QUICK if arguments.quick else Sizes()
    pythons = (
        _python("FORK_PYTHON", ".venv/bin/python"),
        _python("STOCK_PYTHON", ".venv-stock/bin/python"),
    )
    machine = describe_machine()
    print(", ".join(f"{what}: {value}" for what, value in machine.items()), "\n", flush=True)
    sections = []
    with start_sides(*pythons, cpus=_CPUS) as (fork, stock):
        for name in arguments.only:
            sections.append(_BENCHMARKS[name](fork, stock, sizes))
            print(format_section(sections[-1]), flush=True)
            write_json(arguments.json, machine, sections)
    problems = [problem for section in sections for problem in section.problems]
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
