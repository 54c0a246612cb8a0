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
from ray.util.client.named import SeenValue
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Request
from ray.util.client.session.conversation import Conversation
from ray.util.client.session.journal import Journal, Kind, Submission
from ray.util.client.speech import WireSpeech

TASKS = 20_000
ROUNDS = 9
FUNCTION = b"\xcd" + bytes(27)
VALUE = SeenValue(b"x" * 100, False)


def _conversation() -> Conversation:
    talk = Conversation(30, WireSpeech(lambda pickled: None))
    talk.journal = Journal(2**40, 2**40, 2**40)
    _file(talk, _request(FUNCTION, Kind.PAYLOAD, ()))
    return talk


def _journal(talk: Conversation) -> Journal:
    assert talk.journal is not None
    return talk.journal


def _request(name: bytes, kind: Kind, needs: tuple[bytes, ...]) -> Request:
    task = protocol.ClientTask(return_tokens=[name], data=b"x" * 100, payload_id=FUNCTION)
    message = protocol.DataRequest(task=task)
    request = Request(1, RequestKind.JOURNALED, message, needs=needs)
    request.submission = Submission(kind, (name,), needs, 3)
    return request


def _file(talk: Conversation, request: Request) -> None:
    assert talk._is_complete(request, _journal(talk))


def _requests() -> list[Request]:
    names = (b"\xcd" + n.to_bytes(27, "big") for n in itertools.count(1))
    return [_request(name, Kind.TASK, (FUNCTION,)) for name in itertools.islice(names, TASKS)]


def _lives(talk: Conversation, requests: list[Request]) -> float:
    journal = _journal(talk)
    started = time.process_time()
    for request in requests:
        (name,) = request.submission.names
        _file(talk, request)
        journal.outcome(name)
        journal.seen(name, VALUE, 100)
        journal.drop(name)
    return (time.process_time() - started) / len(requests)


def test_time_of_a_task(capsys) -> None:
    talk, requests = _conversation(), _requests()
    gc.collect()
    samples = []
    for _ in range(ROUNDS):
        for request in requests:
            request.entry = None
        samples.append(_lives(talk, requests) * 1e6)
    with capsys.disabled():
        print(
            f"\njournal: {statistics.median(samples):.2f} µs a task "
            f"({min(samples):.2f}-{max(samples):.2f}, {ROUNDS} rounds): filed, seen, dropped"
        )
    assert _journal(talk).entries == 1, "all but the function was dropped"


def test_memory_of_a_held_task(capsys) -> None:
    talk, requests = _conversation(), _requests()
    gc.collect()
    tracemalloc.start()
    try:
        for request in requests:
            _file(talk, request)
            _journal(talk).finished(request.submission.names[0])
        held = tracemalloc.get_traced_memory()[0] / TASKS
    finally:
        tracemalloc.stop()
    with capsys.disabled():
        print(f"\njournal: {held:.0f} bytes a held task, beyond its message")
    assert _journal(talk).entries == TASKS + 1
