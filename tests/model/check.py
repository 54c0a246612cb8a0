"""Checks the model of the session protocol with spin.

``python -m tests.model.check`` checks all configurations and that every fault is caught where all
is well without it (``make model``); with names, only those. Needs spin and gcc. Exits with 1 if a
promise is broken, or a fault is not caught; with 2 if it can't tell.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.configurations import CONFIGURATIONS, FAULTS, Configuration, Fault

MODEL = Path(__file__).with_name("session.pml")

# Far beyond what any configuration needs: 120 steps, 3 GB, a few minutes.
_MAX_DEPTH = 100_000
_MAX_MEGABYTES = 8_000
_MAX_SECONDS = 1_800


class CannotTell(Exception):
    """A check did not come to an end."""


@dataclass(frozen=True)
class Broken:
    """A promise that does not hold.

    Attributes:
        promise: as it stands above the assertion in the model.
        steps: how it came about, as ``party: step`` of the model.
    """

    promise: str
    steps: list[str]


@dataclass(frozen=True)
class Result:
    """What a check came to.

    Attributes:
        states: how many were stored.
        depth: steps of the longest path.
        seconds, megabytes: what the search took.
        broken: the first promise that was found broken; None if all hold in all states.
    """

    states: int
    depth: int
    seconds: float
    megabytes: float
    broken: Broken | None = None


@dataclass
class Check:
    """One run of the checker, in a folder of its own.

    Attributes:
        bounds: the model's macros.
        fair: whether to look for calls that never end though every party gets its turns, in place
            of broken assertions.
        optimise: for searches that take longer than the compiler.
    """

    bounds: dict[str, object]
    fair: bool = False
    optimise: bool = False
    _folder: Path = field(init=False)

    def run(self) -> Result:
        """Searches all states.

        Raises:
            CannotTell: something is missing, or the search was cut short.
        """
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            self._folder = Path(folder)
            self._call("spin", "-a", *self._macros(), str(MODEL))
            self._call("gcc", *self._flags(), "-o", "pan", "pan.c")
            return self._read(self._call("./pan", *self._options()))

    def _macros(self) -> list[str]:
        macros = [f"-D{name}={value}" for name, value in self.bounds.items()]
        return [*macros, "-DFAIR"] if self.fair else macros

    def _flags(self) -> list[str]:
        level = "-O2" if self.optimise else "-O0"
        flags = ["-w", level, "-DCOLLAPSE", f"-DMEMLIM={_MAX_MEGABYTES}"]
        return [*flags, "-DNFAIR=4"] if self.fair else [*flags, "-DSAFETY"]

    def _options(self) -> list[str]:
        return ["-n", f"-m{_MAX_DEPTH}", *(["-a", "-f"] if self.fair else [])]

    def _call(self, *command: str) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self._folder,
                timeout=_MAX_SECONDS,
                capture_output=True,
                text=True,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise CannotTell(str(e)) from e
        if done.returncode and command[0] != "./pan":
            raise CannotTell(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _read(self, told: str) -> Result:
        def number(pattern: str) -> float:
            found = re.search(pattern, told)
            if found is None:
                raise CannotTell(f"The checker did not come to an end:\n{told}")
            return float(found.group(1))

        errors = number(r"errors: (\d+)")
        if not errors and re.search("not completed|too small|memory bound", told):
            raise CannotTell(f"Not all states were looked at:\n{told}")
        return Result(
            int(number(r"([\d.e+]+) states, stored")),
            int(number(r"depth reached (\d+)")),
            number(r"elapsed time ([\d.e+-]+)"),
            number(r"([\d.]+)\s+total actual memory"),
            self._broken() if errors else None,
        )

    def _broken(self) -> Broken:
        replay = ("spin", "-t", "-p", "-k", "session.pml.trail")
        trail = self._call(*replay, *self._macros(), str(MODEL))
        failed = re.search(r"spin: (\S+):(\d+), Error: assertion violated", trail)
        promise = _promise(Path(failed[1]).name, int(failed[2])) if failed else "Every call ends."
        return Broken(promise, list(_steps(trail)))


def _promise(file: str, line: int) -> str:
    above = MODEL.with_name(file).read_text().split("\n")[: line - 1]
    comment = next(text for text in reversed(above) if "/*" in text)
    return comment.strip(" /*")


def _steps(trail: str) -> Iterator[str]:
    source = MODEL.read_text().split("\n")
    last = None
    pattern = rf"^\s*(\d+):\s+proc\s+\d+ \((\w+):\d+\) \S*{MODEL.name}:(\d+) \(state"
    for number, party, line in re.findall(pattern, trail, re.MULTILINE):
        if number != last and party != "judge":
            yield f"{party}: {source[int(line) - 1].strip()}"
        last = number


def missing() -> str | None:
    """What must be installed before anything can be checked; None if it is all there."""
    spin = shutil.which("spin")
    if spin is None or "Spin Version" not in _version(spin):
        return "spin, the model checker, is missing; on Debian and Ubuntu: apt-get install spin"
    if shutil.which("gcc") is None:
        return "gcc is missing; on Debian and Ubuntu: apt-get install gcc"
    return None


def _version(program: str) -> str:
    # Another program goes by this name, too.
    return subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stdout


def check(configuration: Configuration) -> Result:
    """Checks a configuration as it is."""
    return Check(configuration.bounds, configuration.fair, optimise=not configuration.small).run()


def check_fault(fault: Fault) -> Result:
    """Checks the configuration that is to show a fault."""
    return Check({**fault.bounds, "FAULT": fault.name}).run()


def sound_without(fault: Fault) -> bool:
    """Whether the configuration that is to show a fault is in order without it."""
    return Check(fault.bounds).run().broken is None


def _report(configuration: Configuration, result: Result) -> bool:
    print(
        f"{configuration.name:<12} {result.states:>12,} {result.depth:>6} {result.seconds:>8.1f} "
        f"{result.megabytes:>7,.0f}  {configuration.about}",
        flush=True,
    )
    if result.broken is None:
        return True
    print(f"\nBroken: {result.broken.promise}", *result.broken.steps, sep="\n  ")
    return False


def _try_fault(fault: Fault) -> tuple[Result, bool]:
    return check_fault(fault), sound_without(fault)


def _report_fault(fault: Fault, result: Result, sound: bool) -> bool:
    found = "not caught" if result.broken is None else result.broken.promise
    print(f"{fault.name:<17} {found}{'' if sound else '; BROKEN WITHOUT IT, TOO'}", flush=True)
    return found == fault.breaks and sound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="configurations and faults; all if there are none")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    lacking = missing()
    if lacking is not None:
        print(lacking, file=sys.stderr)
        return 2
    known = {one.name for one in (*CONFIGURATIONS, *FAULTS)}
    names = set(options.names) or known
    if not names <= known:
        parser.error(f"unknown: {', '.join(sorted(names - known))}")
    fine = True
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            configurations = [one for one in CONFIGURATIONS if one.name in names]
            print(f"{'configuration':<12} {'states':>11} {'depth':>6} {'seconds':>8} {'MB':>7}")
            for one, result in zip(configurations, pool.map(check, configurations)):
                fine &= _report(one, result)
            faults = [one for one in FAULTS if one.name in names]
            print(f"\n{'fault':<17} caught by")
            for fault, (result, sound) in zip(faults, pool.map(_try_fault, faults)):
                fine &= _report_fault(fault, result, sound)
    except CannotTell as e:
        print(e, file=sys.stderr)
        return 2
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
