"""What a client program has shown of its workers' output."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import DefaultDict, List

from tests.support.client import Client
from tests.support.waiting import eventually

_LINE = re.compile(r"^(?:\x1b\[\d+m)?(\(.*?pid=\d+.*?\))(?:\x1b\[0m)? (.*)$", re.MULTILINE)


def heard(client: Client) -> str:
    """Returns all that workers printed, one worker's after the other's, without ends of lines.

    Ray's log monitor may read a line while it is being written, and makes two of it then.
    """
    workers: DefaultDict[str, List[str]] = defaultdict(list)
    for worker, text in _LINE.findall(client.output()):
        workers[worker].append(text)
    return "".join(text for texts in workers.values() for text in texts)


def numbers(client: Client) -> List[int]:
    """Returns n of each ``line n;`` that workers printed, in the order of their coming."""
    return [int(n) for n in re.findall(r"line (\d+);", heard(client))]


def await_heard(client: Client, text: str) -> None:
    """Waits until the client has shown that a worker printed ``text``."""
    eventually(lambda: text in heard(client), f"{text!r} in {client.folder}/output.log")


def await_line(client: Client, n: int) -> None:
    """Waits for ``line n;``."""
    await_heard(client, f"line {n};")


def assert_each_once(client: Client, end: int) -> None:
    """Waits for the last of ``end`` lines; they must have come once each and in order."""
    await_line(client, end - 1)
    assert numbers(client) == list(range(end))
