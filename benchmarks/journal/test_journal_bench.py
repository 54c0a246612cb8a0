"""What the journal costs a client: time for a small task's whole life, memory for a held one.

Printed and saved by pytest-benchmark's own rules; nothing is asserted about speed.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
import tracemalloc

from ray.util.client import protocol
from ray.util.client.lineage import Limits, Lineage, Submission
from ray.util.client.named import SeenValue
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Request
from ray.util.client.session.journal import Kind

TASKS = 20_000
ROUNDS = 9
FUNCTION = b"\xcd" + bytes(27)
VALUE = SeenValue(b"x" * 100, False)


def _lineage() -> Lineage:
    lineage = Lineage(Limits(2**40, 2**40, 2**40), replays=True)
    _file(lineage, _request(FUNCTION, Kind.PAYLOAD, ()))
    return lineage


def _request(name: bytes, kind: Kind, needs: tuple[bytes, ...]) -> Request:
    task = protocol.ClientTask(return_tokens=[name], data=b"x" * 100, payload_id=FUNCTION)
    message = protocol.DataRequest(task=task)
    request = Request(1, RequestKind.JOURNALED, message, needs=needs)
    request.submission = Submission(kind, (name,), needs, 3)
    return request


def _file(lineage: Lineage, request: Request) -> None:
    assert lineage.restores_for(request) == []


def _requests() -> list[Request]:
    names = (b"\xcd" + n.to_bytes(27, "big") for n in itertools.count(1))
    return [_request(name, Kind.TASK, (FUNCTION,)) for name in itertools.islice(names, TASKS)]


def _lives(lineage: Lineage, requests: list[Request]) -> float:
    journal = lineage.journal
    started = time.perf_counter()
    for request in requests:
        (name,) = request.submission.names
        _file(lineage, request)
        journal.outcome(name)
        journal.seen(name, VALUE, 100)
        journal.drop(name)
    return (time.perf_counter() - started) / len(requests)


def test_time_of_a_task(capsys) -> None:
    lineage, requests = _lineage(), _requests()
    gc.collect()
    samples = []
    for _ in range(ROUNDS):
        for request in requests:
            request.entry = None
        samples.append(_lives(lineage, requests) * 1e6)
    with capsys.disabled():
        print(
            f"\njournal: {statistics.median(samples):.2f} µs a task "
            f"({min(samples):.2f}-{max(samples):.2f}, {ROUNDS} rounds): filed, seen, dropped"
        )
    assert lineage.journal.entries == 1, "all but the function was dropped"


def test_memory_of_a_held_task(capsys) -> None:
    lineage, requests = _lineage(), _requests()
    gc.collect()
    tracemalloc.start()
    try:
        for request in requests:
            _file(lineage, request)
            lineage.journal.finished(request.submission.names[0])
        held = tracemalloc.get_traced_memory()[0] / TASKS
    finally:
        tracemalloc.stop()
    with capsys.disabled():
        print(f"\njournal: {held:.0f} bytes a held task, beyond its message")
    assert lineage.journal.entries == TASKS + 1
