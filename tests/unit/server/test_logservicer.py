"""Log streams: what they carry, how their settings work together, and that they leave nothing."""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, List, Tuple

import grpc
import pytest

from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray.util.client import protocol
from ray.util.client.server import logservicer
from ray.util.client.server.logservicer import LogQueue, LogstreamServicer, LogTap
from tests.support.waiting import eventually

TOO_LONG = 30.0

ray_logger = logging.getLogger("ray")
some_logger = logging.getLogger("ray.some.module")


@pytest.fixture(autouse=True)
def known_level() -> Iterator[None]:
    level = ray_logger.level
    ray_logger.setLevel(logging.WARNING)
    yield
    assert ray_logger.level == logging.WARNING
    ray_logger.setLevel(level)


def settings(level: int, enabled: bool = True) -> Any:
    return protocol.LogSettingsRequest(enabled=enabled, loglevel=level)


def drained(log_queue: LogQueue) -> List[Tuple[int, str]]:
    log_queue.close()
    return [(data.level, data.msg) for data in log_queue]


def worker_line(text: str, is_err: bool) -> dict:
    return {"pid": 1, "ip": "127.0.0.1", "lines": [text], "is_err": is_err, "job": "1"}


def test_records_at_the_level_and_above_are_carried() -> None:
    log_queue = LogQueue()
    tap = LogTap(log_queue)
    tap.apply(settings(logging.INFO))
    some_logger.debug("too fine")
    some_logger.info("hello %s", "you")
    some_logger.error("bad")
    tap.remove()
    some_logger.error("too late")
    assert drained(log_queue) == [(logging.INFO, "hello you"), (logging.ERROR, "bad")]


def test_a_record_that_can_not_be_formatted_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log_queue = LogQueue()
    tap = LogTap(log_queue)
    tap.apply(settings(logging.INFO))
    some_logger.info("%d", "no number")
    some_logger.info("fine")
    tap.remove()
    assert drained(log_queue) == [(logging.INFO, "fine")]


def test_workers_output_is_carried_with_its_stream() -> None:
    log_queue = LogQueue()
    tap = LogTap(log_queue)
    tap.apply(settings(logging.INFO))
    global_worker_stdstream_dispatcher.emit(worker_line("to out", False))
    global_worker_stdstream_dispatcher.emit(worker_line("to err", True))
    tap.remove()
    global_worker_stdstream_dispatcher.emit(worker_line("too late", False))
    (out_level, out), (err_level, err) = drained(log_queue)
    assert (out_level, err_level) == (-1, -2)
    assert "to out" in out and "to err" in err


def test_the_finest_wish_rules_and_goes_with_its_stream() -> None:
    fine, coarse = LogTap(LogQueue()), LogTap(LogQueue())
    coarse.apply(settings(logging.ERROR))
    assert ray_logger.level == logging.WARNING
    fine.apply(settings(logging.DEBUG))
    assert ray_logger.level == logging.DEBUG
    fine.apply(settings(logging.INFO))
    assert ray_logger.level == logging.INFO
    fine.apply(settings(0, enabled=False))
    assert ray_logger.level == logging.WARNING
    coarse.remove()


def test_asking_for_everything_gets_everything() -> None:
    log_queue = LogQueue()
    tap = LogTap(log_queue)
    tap.apply(settings(-1))
    some_logger.log(1, "finest")
    tap.remove()
    assert drained(log_queue) == [(1, "finest")]


def test_a_slow_client_loses_the_oldest_and_is_told() -> None:
    log_queue = LogQueue(limit=2)
    for n in range(5):
        log_queue.put(protocol.LogData(msg=str(n), level=20))
    texts = [text for _, text in drained(log_queue)]
    assert texts[0].startswith("3 log messages were dropped")
    assert texts[1:] == ["3", "4"]


# Behind gRPC


@pytest.fixture
def servicer() -> LogstreamServicer:
    return LogstreamServicer()


@pytest.fixture
def stub(servicer: LogstreamServicer) -> Iterator[Any]:
    server = grpc.server(ThreadPoolExecutor(10))
    server.add_generic_rpc_handlers((protocol.handler(protocol.LOG_STREAMER, servicer),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield protocol.Stub(channel, protocol.LOG_STREAMER)
    server.stop(0).wait(TOO_LONG)


def open_stream(stub: Any) -> Tuple[Any, queue.Queue[Any]]:
    requests: queue.Queue[Any] = queue.Queue()
    return stub.Logstream(iter(requests.get, None), timeout=TOO_LONG), requests


def await_feeds(count: int) -> None:
    """Returns when ``count`` streams are fed; a stream gives no sign of it by itself."""
    handlers = global_worker_stdstream_dispatcher
    eventually(lambda: len(handlers.handlers) == count, f"{count} feeds")


def settings_threads() -> List[str]:
    return [t.name for t in threading.enumerate() if t.name == "ray_client_log_settings"]


def test_several_streams_get_what_each_asked_for(stub: Any) -> None:
    first, first_requests = open_stream(stub)
    second, second_requests = open_stream(stub)
    first_requests.put(settings(logging.INFO))
    second_requests.put(settings(logging.ERROR))
    await_feeds(2)
    some_logger.info("fine")
    some_logger.error("coarse")
    assert [next(first).msg, next(first).msg] == ["fine", "coarse"]
    assert next(second).msg == "coarse"
    first_requests.put(None)
    second_requests.put(None)
    assert list(first) == [] and list(second) == []


@pytest.mark.parametrize("end", ["half-close", "cancel"])
def test_a_stream_leaves_nothing_behind(stub: Any, servicer: LogstreamServicer, end: str) -> None:
    handlers = list(ray_logger.handlers)
    call, requests = open_stream(stub)
    requests.put(settings(logging.DEBUG))
    await_feeds(1)
    assert servicer.num_clients == 1
    if end == "cancel":
        call.cancel()
    requests.put(None)
    await_feeds(0)
    eventually(lambda: not settings_threads(), "the end of the settings thread")
    eventually(lambda: servicer.num_clients == 0, "the end of the stream's handler")
    assert ray_logger.handlers == handlers


def test_what_was_logged_before_the_half_close_still_arrives(stub: Any) -> None:
    call, requests = open_stream(stub)
    requests.put(settings(logging.INFO))
    await_feeds(1)
    some_logger.info("last words")
    requests.put(None)
    assert [data.msg for data in call] == ["last words"]


def test_streams_beyond_the_limit_are_refused(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logservicer, "CLIENT_SERVER_MAX_THREADS", 2.0)
    call, requests = open_stream(stub)
    with pytest.raises(grpc.RpcError) as e:
        next(call)
    assert e.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    requests.put(None)
