"""The proxier's log streams: what servers log, and what workers print before, in and after gaps."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from ray.util.client import protocol
from ray.util.client.server.proxy import host, logstream, output, subscription
from ray.util.client.session import wire
from ray.util.client.session.loglines import LogLines
from tests.unit.server.proxier_support import (
    Client,
    a_world,
    broken,
    cleanup_request,
    init_request,
    unused_ports,
    within,
)


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(subscription, "_PAUSE_S", 0.01)
    async with a_world(unused_ports(12)) as made:
        made.script.tells_jobs = True
        yield made


@pytest.fixture
async def stream(world):
    """A log stream of a session whose output is listened to, its client telling what it shows."""
    await world.client().begin()
    return await listening(world, await world.client().logs_from(shown=0))


async def logged(stream):
    """The next thing that a server logs."""
    while (data := await within(stream.read())).level < 0 or data.seq:
        pass
    return data.msg


async def printed(stream):
    """The next message of lines that workers printed, or of lines that were dropped."""
    while not (data := await within(stream.read())).seq:
        pass
    return data


async def listening(world, stream):
    await logged(stream)  # its server is up then
    await world.until(lambda: world.printed.subscribed)
    return stream


async def texts(stream, count):
    """The next ``count`` lines of workers, without their prefix."""
    got = []
    while len(got) < count:
        data = await printed(stream)
        if data.level < 0:
            got += [line.rpartition(" ")[2] for line in data.msg.splitlines()]
    return got


def reason(error):
    return wire.reason_of(error.trailing_metadata())


def output_threads():
    return [t for t in threading.enumerate() if t.name == "ray_client_worker_output"]


# -- what servers log


async def test_logs_are_passed_on_and_asked_for_early(world):
    client = world.client()
    logs = client.logs()
    await logs.write(protocol.LogSettingsRequest(enabled=True, loglevel=20))
    await client.begin()
    assert (await within(logs.read())).msg == "level 20"
    await logs.done_writing()
    assert await within(logs.read()) is grpc.aio.EOF
    assert await logs.code() is grpc.StatusCode.OK


async def test_a_log_stream_outlives_its_server_and_asks_the_next_one_for_the_same(world):
    client = world.client()
    await client.begin()
    logs = client.logs()
    await logs.write(protocol.LogSettingsRequest(loglevel=20))
    await within(logs.read())
    await world.script.servers[0].die()
    assert (await within(logs.read())).msg == "level 20"
    assert world.script.servers[1].metadata[-1][wire.INCARNATION_KEY] == "2"
    await logs.write(protocol.LogSettingsRequest(loglevel=10))
    assert (await within(logs.read())).msg == "level 10"


async def test_what_was_shown_is_not_told_to_the_server(world, stream):
    await stream.write(protocol.LogSettingsRequest(enabled=True, shown=17))
    await stream.write(protocol.LogSettingsRequest(enabled=True, loglevel=10, shown=17))
    assert await logged(stream) == "level 10"


async def test_log_streams_end_well_with_a_session_that_ends_well(world):
    client = world.client()
    data = await client.begin()
    logs = client.logs()
    await logs.write(protocol.LogSettingsRequest(loglevel=20))
    await within(logs.read())
    await data.write(cleanup_request())
    await data.done_writing()
    assert await within(logs.read()) is grpc.aio.EOF
    assert await logs.code() is grpc.StatusCode.OK


async def test_a_log_stream_ends_well_while_its_first_record_is_on_its_way(world, monkeypatch):
    writing = asyncio.Event()
    write = logstream._Stream._write

    async def noting(self, data):
        writing.set()
        await write(self, data)

    monkeypatch.setattr(logstream._Stream, "_write", noting)
    data = await world.client().begin()
    # More than the connection takes while the client does not read.
    world.script.long_record = "x" * 2**21
    narrow = grpc.aio.insecure_channel(world.address, options=[("grpc.http2.bdp_probe", 0)])
    logs = Client(narrow, "c1", None).logs()
    await logs.write(protocol.LogSettingsRequest(loglevel=20))
    await within(writing.wait())
    await data.write(cleanup_request())
    assert (await within(data.read())).WhichOneof("type") == "connection_cleanup"
    await data.done_writing()
    assert await within(data.read()) is grpc.aio.EOF
    assert (await within(logs.read())).msg == world.script.long_record
    assert await within(logs.read()) is grpc.aio.EOF
    assert await logs.code() is grpc.StatusCode.OK
    await narrow.close()


async def test_a_log_stream_that_its_server_cancels_is_broken(world, monkeypatch):
    monkeypatch.setattr(logstream, "EXIT_SEEN_S", 0.0)
    client = world.client()
    await client.begin()
    world.script.cancels = {"Logstream"}
    logs = client.logs()
    await logs.write(protocol.LogSettingsRequest(loglevel=20))
    assert (await within(logs.read())).msg == "level 20"
    error = await broken(logs)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details().startswith("The log stream broke")


async def test_a_newer_log_stream_takes_over(world, stream):
    newer = await world.client().logs_from(shown=0)
    error = await broken(stream)
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, wire.REASON_SUPERSEDED)
    world.printed.publish("job1", "said")
    assert await texts(newer, 1) == ["said"]


async def test_a_log_stream_that_comes_too_early_may_come_again(world, monkeypatch):
    monkeypatch.setattr(host, "APPEAR_S", 0.0)
    error = await broken(world.client().logs())
    assert (error.code(), reason(error)) == (
        grpc.StatusCode.NOT_FOUND,
        wire.REASON_SESSION_UNKNOWN,
    )


async def test_settings_that_are_no_message(world):
    client = world.client()
    await client.begin()
    method = protocol.LOG_STREAMER["Logstream"]
    raw = world.channel.stream_stream(method.path)(metadata=client.metadata)
    await raw.write(b"\xff\xff\xff")
    assert (await broken(raw)).code() is grpc.StatusCode.INVALID_ARGUMENT


# -- who streams what workers print


async def test_a_server_whose_job_is_known_is_told_to_leave_it_to_the_proxier(world, stream):
    assert wire.OUTPUT_KEY in world.script.servers[0].metadata[-1]


async def test_a_server_that_tells_no_job_streams_it_itself(world):
    world.script.tells_jobs = False
    client = world.client()
    await client.begin()
    logs = await listening(world, await client.logs_from(shown=0))
    assert wire.OUTPUT_KEY not in world.script.servers[0].metadata[-1]
    world.printed.publish("", "for everybody", pid="raylet")
    world.printed.publish("job1", "of a job")
    await logs.done_writing()
    assert await within(logs.read()) is grpc.aio.EOF


async def test_a_client_can_not_silence_a_server_by_metadata(world):
    client = world.client()
    world.script.tells_jobs = False
    client.metadata += ((wire.OUTPUT_KEY, "proxier"),)
    await client.begin()
    await logged(await client.logs_from(shown=0))
    assert wire.OUTPUT_KEY not in world.script.servers[0].metadata[-1]


async def test_each_session_gets_the_output_of_its_own_jobs_and_of_no_job(world, stream):
    other = world.client("c2")
    await other.begin()
    others = await listening(world, await other.logs_from(shown=0))
    world.printed.publish("job2", "second")
    world.printed.publish("job1", "first")
    world.printed.publish("job3", "nobody's")
    world.printed.publish("", "raylet's", pid="raylet")
    assert await texts(stream, 2) == ["first", "raylet's"]
    assert await texts(others, 2) == ["second", "raylet's"]
    assert world.printed.made == 1


async def test_what_the_autoscaler_says_is_left_to_the_server(world, stream):
    world.printed.publish("", "scaled", pid="autoscaler")
    world.printed.publish("job1", "said")
    assert await texts(stream, 1) == ["said"]


async def test_standard_error_is_told_from_standard_output(world, stream):
    world.printed.publish("job1", "out")
    world.printed.publish("job1", "err", is_err=True)
    out, err = await printed(stream), await printed(stream)
    assert (out.level, out.name, err.level, err.name) == (-1, "stdout", -2, "stderr")
    assert out.seq and err.seq == out.seq + 1


# -- gaps


async def test_a_stream_gets_what_its_client_has_not_shown(world, stream):
    world.printed.publish("job1", "a")
    world.printed.publish("job1", "b", "c")
    shown = (await printed(stream)).seq
    await printed(stream)
    stream.cancel()
    world.printed.publish("job1", "d")
    again = await world.client().logs_from(shown)
    assert await texts(again, 3) == ["b", "c", "d"]


async def test_what_was_shown_is_not_kept(world, stream):
    world.printed.publish("job1", "a")
    world.printed.publish("job1", "b")
    await printed(stream)
    last = (await printed(stream)).seq
    await stream.write(protocol.LogSettingsRequest(enabled=True, shown=last))
    (session,) = world.hosts._hosts.values()
    await world.until(lambda: len(session.output._lines) == 0)


async def test_a_client_that_does_not_tell_gets_nothing_twice(world):
    client = world.client()
    await client.begin()
    logs = await listening(world, await client.logs_from(shown=None))
    world.printed.publish("job1", "a")
    assert await texts(logs, 1) == ["a"]
    logs.cancel()
    await world.until(lambda: not next(iter(world.hosts._hosts.values()))._logs)
    world.printed.publish("job1", "b")
    again = await client.logs_from(shown=None)
    assert await texts(again, 1) == ["b"]


async def test_the_jobs_of_dead_servers_go_on(world, stream):
    world.script.gate.clear()
    await world.script.servers[0].die()
    world.printed.publish("job1", "a", "moment", "before")
    assert await texts(stream, 3) == ["a", "moment", "before"]
    world.script.gate.set()
    await logged(stream)
    world.printed.publish("job1", "detached")
    world.printed.publish("job2", "new")
    assert await texts(stream, 2) == ["detached", "new"]


async def test_a_session_that_was_begun_anew_numbers_from_further_on(world, stream):
    for _ in range(3):
        world.printed.publish("job1", "old")
    await texts(stream, 2)
    shown = (await printed(stream)).seq
    anew = world.client("c2")
    request = init_request()
    request.init.after = 5
    data = anew.stream()
    await data.write(request)
    await within(data.read())
    logs = await listening(world, await anew.logs_from(shown))
    world.printed.publish("job2", "new")
    assert await texts(logs, 1) == ["new"]


async def test_a_client_is_told_the_jobs_of_its_session(world, stream):
    again = await world.client().logs_from(shown=0)
    while not (data := await within(again.read())).outputs:
        pass
    assert [output.job for output in data.outputs] == ["job1"]
    await world.script.servers[0].die()
    while not (data := await within(again.read())).outputs:
        pass
    assert [output.job for output in data.outputs] == ["job1", "job2"]


async def test_a_proxier_that_was_started_anew_is_told_of_earlier_jobs(world):
    client = world.client()
    logs = client.logs()
    await logs.write(protocol.LogSettingsRequest(enabled=True, shown=7, outputs=[OLD_JOB]))
    await client.begin()
    await listening(world, logs)
    world.printed.publish("old", "detached")
    world.printed.publish("job1", "new")
    assert await texts(logs, 2) == ["detached", "new"]


OLD_JOB = protocol.WorkerOutput(job="old")


async def test_more_than_can_be_kept_is_dropped_and_told_once(world, stream, monkeypatch):
    monkeypatch.setattr(output, "LogLines", lambda first: LogLines(first, max_lines=3))
    other = world.client("c2")
    await other.begin()
    logs = await listening(world, await other.logs_from(shown=0))
    logs.cancel()
    for n in range(10):
        world.printed.publish("job2", str(n))
    # The channel is in order: all has arrived when this has.
    world.printed.publish("job1", "end")
    await texts(stream, 1)
    again = await other.logs_from(shown=0)
    notice = await printed(again)
    assert notice.msg.startswith("7 lines that workers printed were dropped")
    assert await texts(again, 3) == ["7", "8", "9"]
    third = await other.logs_from(shown=notice.seq)
    assert await texts(third, 3) == ["7", "8", "9"]


async def test_what_is_printed_while_logs_are_off_is_not_shown(world, stream):
    await stream.write(protocol.LogSettingsRequest(enabled=False, shown=0))
    await world.until(lambda: not world.printed.open)
    await stream.write(protocol.LogSettingsRequest(enabled=True, shown=0))
    await world.until(lambda: world.printed.open and world.printed.subscribed > 1)
    world.printed.publish("job1", "on")
    assert await texts(stream, 1) == ["on"]


async def test_what_is_there_when_the_client_half_closes_still_comes(world, stream):
    world.printed.publish("job1", "a")
    await texts(stream, 1)
    world.printed.publish("job1", "last")
    (host,) = world.hosts._hosts.values()
    await world.until(lambda: len(host.output._lines) == 2)
    await stream.done_writing()
    assert await texts(stream, 1) == ["last"]
    assert await within(stream.read()) is grpc.aio.EOF


# -- the subscription


async def test_nobody_listens_without_a_session_that_wants_it(world):
    data = await world.client().begin()
    assert not world.printed.made
    logs = await world.client().logs_from(shown=0)
    await world.until(lambda: world.printed.subscribed)
    await data.write(cleanup_request())
    await data.done_writing()
    await broken_or_ended(logs)
    await world.until(lambda: not world.printed.open and not output_threads())


async def broken_or_ended(stream):
    while await within(stream.read()) is not grpc.aio.EOF:
        pass


async def test_a_store_that_fails_is_asked_again(world):
    world.printed.fails = 2
    await world.client().begin()
    logs = await listening(world, await world.client().logs_from(shown=0))
    world.printed.publish("job1", "said")
    assert await texts(logs, 1) == ["said"]


async def test_a_store_that_was_restarted_is_subscribed_to_again(world, stream):
    world.printed.go_away()
    await world.until(lambda: world.printed.subscribed == 2)
    world.printed.publish("job1", "said")
    assert await texts(stream, 1) == ["said"]


async def test_a_loop_that_is_busy_holds_the_thread_up_and_loses_nothing(world, stream):
    for n in range(50):
        world.printed.publish("job1", str(n))
    assert await texts(stream, 50) == [str(n) for n in range(50)]


async def test_the_thread_ends_while_it_waits_for_the_loop():
    delivered = []
    listener = subscription.Subscription(Flood, lambda to, printed: delivered.append(to))
    listener.routes = subscription.Routes({"j": (subscription.Route("me", STYLE),)}, ())
    while listener._on_their_way._value:  # this loop takes nothing meanwhile
        pass
    await within(listener.end())
    assert not output_threads()
    assert delivered == []


async def test_a_store_that_does_not_answer_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(output, "LEAVE_S", 0.01)
    channel = Hung()
    outputs = output.Outputs(lambda: channel)
    outputs.open().want(True)
    await within(outputs.close())
    assert output_threads()
    channel.answers.set()
    while output_threads():
        await asyncio.sleep(0.005)


class Hung:
    def __init__(self):
        self.answers = threading.Event()

    def subscribe(self):
        self.answers.wait()

    def close(self):
        self.answers.wait()


STYLE = subscription.Style("")


class Flood:
    def subscribe(self):
        pass

    def poll(self, timeout):
        return {"job": "j", "pid": "1", "ip": "", "is_err": False, "lines": ["x"]}

    def close(self):
        pass
