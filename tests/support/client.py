"""A client program in a process of its own, told step by step what to do.

A process holds one default Ray Client connection, and tests kill, stop and interrupt programs;
hence the process. Steps are the text of Python code, so no step needs a sleep to be in time.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from tests.support.cluster import ray_environment
from tests.support.waiting import eventually

_HARNESS = Path(__file__).with_name("client_harness.py")
# A guard against hanging for ever, never a promise about speed.
PATIENCE_S = 120.0
# Variables that all client programs get. For plugins of pytest, which run before any is started.
EXTRA: Dict[str, str] = {}


@dataclass(frozen=True)
class Failure:
    """An exception that a step raised in the client program."""

    type: str
    bases: List[str]
    text: str
    cause: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"


class StepFailed(Exception):
    """A step raised that was expected to succeed. ``failure`` tells what."""

    def __init__(self, failure: Failure, output: str) -> None:
        super().__init__(f"{failure}\n--- the client's output ---\n{output[-4000:]}")
        self.failure = failure


class StepHangs(AssertionError):
    """A step did not end in time. Its program is dead now; the text says where it was."""


class Step:
    """A step under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._done = threading.Event()
        self._answer: Dict[str, Any] = {}

    def settle(self, answer: Dict[str, Any]) -> None:
        """Files the answer. Called by the thread that reads the answers."""
        self._answer = answer
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def value(self) -> Any:
        """Waits for the step and returns its value.

        Raises:
            StepFailed: it has raised.
            StepHangs: it does not end.
        """
        failure = self._outcome()
        if failure is not None:
            raise StepFailed(failure, self._client.output())
        return self._answer["value"]

    def failure(self) -> Failure:
        """Waits for the step and returns what it raised."""
        failure = self._outcome()
        assert failure is not None, f"should have raised, but gave {self._answer['value']!r}"
        return failure

    def _outcome(self) -> Optional[Failure]:
        if not self._done.wait(self._client.patience_s):
            raise StepHangs(f"a step hangs\n{self._client.abort()}")
        error = self._answer.get("error")
        return Failure(**error) if error else None


class Client:
    """A running client program. Thread-safe.

    Args:
        python: the interpreter that runs it.
        folder: an empty folder for its output; also its working directory.
        environment: extra environment variables.
        patience_s: seconds after which a step, or the program's end, is taken to hang; None is
            ``PATIENCE_S``.
    """

    def __init__(
        self,
        python: str,
        folder: Path,
        environment: Optional[Dict[str, str]] = None,
        patience_s: Optional[float] = None,
    ) -> None:
        self.python = python
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self.folder = folder
        self._numbers = itertools.count(1)
        self._steps: Dict[int, Step] = {}
        self._marks: queue.Queue[str] = queue.Queue()
        # A call without a session would start a cluster of its own in the program.
        own = {"RAY_ENABLE_AUTO_CONNECT": "0", "PYTHONFAULTHANDLER": "1"}
        variables = {**own, **EXTRA, **(environment or {})}
        commands, self._commands = os.pipe()
        answers, theirs = os.pipe()
        with (folder / "output.log").open("wb") as output:
            self.process = subprocess.Popen(
                [python, str(_HARNESS), str(commands), str(theirs)],
                env=ray_environment(variables),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(commands, theirs),
                start_new_session=True,
            )
        os.close(commands)
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._reader.start()

    def start(self, code: str, *, thread: bool = False, **values: Any) -> Step:
        """Sends a step and returns without waiting for it.

        Args:
            code: Python source; the value of its last expression is the step's value.
            thread: run it in a thread of its own instead of the main thread, one after another.
            **values: names that the code may use (what JSON can carry). They are the whole
                program's, hence not for threads, which would take each other's.
        """
        assert not (thread and values), "write what a thread needs into its code"
        number = next(self._numbers)
        step = self._steps[number] = Step(self)
        message = {"id": number, "code": textwrap.dedent(code), "values": values, "thread": thread}
        os.write(self._commands, (json.dumps(message) + "\n").encode())
        return step

    def run(self, code: str, **values: Any) -> Any:
        """Carries a step out in the main thread and returns its value."""
        return self.start(code, **values).value()

    def fails(self, code: str, **values: Any) -> Failure:
        """Carries a step out that must raise, and returns what it raised."""
        return self.start(code, **values).failure()

    def connect(self, address: str, **options: Any) -> None:
        """Connects with ``ray.init``; ``context`` is what it returned, in the program."""
        code = "import ray; context = ray.init(address, **options)"
        self.run(code, address=address, options=options)

    def wait_mark(self, name: str) -> None:
        """Waits until a step has called ``mark(name)``. Marks come in the order of their calls."""
        try:
            came = self._marks.get(timeout=self.patience_s)
        except queue.Empty:
            text = f"the mark {name!r} did not come\n{self.output()[-4000:]}"
            raise AssertionError(text) from None
        assert came == name, f"the mark {came!r} came before {name!r}"

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Ends the program with SIGKILL: it says goodbye to nobody."""
        self.process.kill()
        self.process.wait()

    def abort(self) -> str:
        """Ends the program where it hangs. Returns where that was, after what it printed last."""
        self.process.send_signal(signal.SIGABRT)
        self.process.wait()
        return f"--- the client's output ---\n{self.output()[-12000:]}"

    def output(self) -> str:
        """Returns all that the program has printed, standard output and standard error."""
        return (self.folder / "output.log").read_text(errors="replace")

    def wait_output(self, text: str) -> None:
        """Waits until the program has printed ``text``."""
        eventually(lambda: text in self.output(), f"{text!r} in {self.folder}/output.log")

    def dismiss(self) -> None:
        """Tells the program to end once it has done its steps, and returns at once."""
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def close(self) -> None:
        """Lets the program end by itself, or by force if it does not; frees everything."""
        self.dismiss()
        try:
            self.process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the client did not end\n{self.abort()}") from None
        finally:
            self._reader.join()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as answers:
            for line in answers:
                message = json.loads(line)
                if "mark" in message:
                    self._marks.put(message["mark"])
                else:
                    self._steps.pop(message["id"]).settle(message)
        gone = {"type": "ProcessEnded", "bases": [], "text": "the program ended", "cause": ""}
        for step in list(self._steps.values()):
            step.settle({"error": gone})
