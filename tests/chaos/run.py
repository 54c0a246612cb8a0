"""A run of chaos: a cluster, programs at work, faults, and what came of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, List, Mapping, Sequence

from tests.chaos import judge
from tests.chaos.injector import Death, Injector
from tests.chaos.leaks import Baseline
from tests.chaos.plan import Fault
from tests.chaos.program import Program
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.proxier import Proxier

# An operation that takes longer hangs. Far beyond the grace period, and beyond what a machine whose
# workers do not start within a minute makes of three deaths.
_HANG_S = 300.0
_LOGS_KEPT = 200


@dataclass(frozen=True)
class Options:
    """What a run is like.

    Attributes:
        python: the interpreter of cluster and programs.
        folder: for histories and logs; made anew.
        faults: what goes wrong, one after another.
        seed: decides what the programs do.
        minutes: for how long there are faults.
        threads: of each program; one session each.
        observe: called once a second meanwhile.
        environment: variables for the cluster's processes.
    """

    python: str
    folder: Path
    faults: Iterator[Fault]
    seed: int
    minutes: float
    threads: Sequence[int]
    observe: Callable[[Proxier, Sequence[Program]], None] = lambda proxier, programs: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        violations: a line for each broken promise, hang and leak.
        deaths: of servers, as they were killed.
        lines: the report.
    """

    deaths: List[Death] = field(default_factory=list)
    violations: List[str] = field(default_factory=list)
    lines: List[str] = field(default_factory=list)


def run(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs it. ``say`` is told what goes on. Logs stay in the folder if something was violated.

    Belongs on the main thread.
    """
    # A shell ignores it for what it starts in the background, and so would all of the cluster's
    # processes: Ray could not cancel a task.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    outcome = Outcome()
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster(ClusterOptions(options.python, dict(options.environment), cpus=8))
        )
        proxier = stack.enter_context(Proxier(cluster, options.folder / "proxier.log"))
        _Run(options, cluster, proxier, stack, say, outcome).go()
        if outcome.violations:
            _keep_logs(cluster, options.folder)
    outcome.violations += [f"a process outlived its head: {line}" for line in cluster.leftovers()]
    return outcome


def _keep_logs(cluster: Cluster, folder: Path) -> None:
    (folder / "logs").mkdir()
    newest = sorted(cluster.logs.glob("*"), key=lambda path: path.stat().st_mtime)[-_LOGS_KEPT:]
    for log in newest:
        if log.is_file():
            shutil.copy(log, folder / "logs")


class _Run:
    def __init__(
        self,
        options: Options,
        cluster: Cluster,
        proxier: Proxier,
        stack: ExitStack,
        say: Callable[[str], None],
        outcome: Outcome,
    ) -> None:
        self._options = options
        self._cluster = cluster
        self._proxier = proxier
        self._say = say
        self._outcome = outcome
        self._baseline = Baseline(cluster, options.folder)
        self._links = [stack.enter_context(Link(proxier.port)) for _ in options.threads]
        self._programs: List[Program] = []

    def go(self) -> None:
        try:
            for number, threads in enumerate(self._options.threads):
                self._programs.append(self._program(number, threads))
            for program in self._programs:
                program.await_up()
            self._under_faults()
            self._end()
        finally:
            for program in self._programs:
                if program.process.poll() is None:
                    program.kill()
        self._judge()

    def _program(self, number: int, threads: int) -> Program:
        options = self._options
        address = f"ray://{LOOPBACK}:{self._links[number].port}"
        return Program(options.python, address, options.folder, f"s{number}", options.seed, threads)

    def _under_faults(self) -> None:
        options = self._options
        begun = time.monotonic()

        def say(text: str) -> None:
            self._say(f"{time.monotonic() - begun:7.1f} s  {text}")

        injector = Injector(options.faults, self._proxier, self._programs, self._links, say)
        injector.start()
        while time.monotonic() < begun + 60 * options.minutes:
            time.sleep(1.0)
            options.observe(self._proxier, self._programs)
            if injector.failure is not None or self._hangs() or self._is_one_gone():
                break
        injector.stop()
        if injector.failure is not None:
            self._violated([f"a fault could not be carried out: {injector.failure}"])
        counts = ", ".join(f"{count} {kind.value}" for kind, count in injector.done.most_common())
        self._outcome.deaths = injector.deaths
        self._outcome.lines += [f"faults: {counts}", f"servers killed: {len(injector.deaths)}"]

    def _hangs(self) -> List[str]:
        for program in self._programs:
            program.read()
        begun = [event for program in self._programs for event in program.open_operations()]
        return judge.hangs(begun, time.time(), _HANG_S)

    def _is_one_gone(self) -> bool:
        return any(program.process.poll() is not None for program in self._programs)

    def _end(self) -> None:
        for program in self._programs:
            program.stop()
        if hangs := self._hangs():
            for program in self._programs:
                program.dump_stacks()
            self._violated(f"hang: {line}" for line in hangs)
        for program in self._programs:
            if not program.await_end():
                self._violated([f"{program.name} did not end well; see {program.name}.log"])
        self._violated(self._baseline.leaks(self._proxier, self._programs, self._outcome.lines))

    def _judge(self) -> None:
        runs = Counter((self._options.folder / "runs").read_text().split())
        ended: List[dict] = []
        took: List[float] = []
        for number, program in enumerate(self._programs):
            program.read()
            own = {op: count for op, count in runs.items() if op.startswith(program.name + "t")}
            self._violated(judge.violations(program.begun, program.ended, own))
            ended += program.ended.values()
            deaths = [(d.number, d.at) for d in self._outcome.deaths if d.session == number]
            took += judge.recoveries(program.events, deaths)
        self._outcome.lines += [
            f"operations: {len(ended)} ({judge.outcomes(ended)}); runs counted: {runs.total()}",
            f"from a server's death until the session goes on, {judge.distribution(took)}",
        ]

    def _violated(self, lines: object) -> None:
        for line in lines:  # type: ignore[attr-defined]
            self._outcome.violations.append(line)


def default_folder(name: str, seed: int) -> Path:
    """Where a run's files go."""
    return Path(os.path.abspath("build")) / name / str(seed)


def tell(outcome: Outcome, options: Options) -> None:
    """Prints what came of a run."""
    print(f"seed {options.seed}, {options.minutes:g} minutes, commit {_commit()}")
    print("\n".join(outcome.lines))
    if outcome.violations:
        print(f"{len(outcome.violations)} violations; histories and logs are in {options.folder}")
        print("\n".join(outcome.violations[:50]))
    else:
        print("no violations: 0 hangs, 0 wrong values, 0 forbidden runs, 0 leaks")


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"
