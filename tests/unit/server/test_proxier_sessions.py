"""The proxier's streams and calls over fake servers: what clients see, what servers see."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from ray.util.client import protocol
from ray.util.client.server.proxy import host, starter
from ray.util.client.server.proxy.starter import Starter, StartFailed
from ray.util.client.session import wire
from tests.unit.server.proxier_support import (
    a_world,
    broken,
    cleanup_request,
    info_request,
    init_request,
    put_request,
    unused_ports,
    within,
)

GONE = "Attempted to reconnect a session that has already been cleaned up"


@pytest.fixture
async def world():
    async with a_world(unused_ports(12)) as made:
        yield made


async def incarnation(stream):
    return wire.incarnation_of(await within(stream.initial_metadata()))


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(call)
    return caught.value


def reason(error):
    return wire.reason_of(error.trailing_metadata())


async def killed(world, stream):
    """Kills the session's server and waits until the client has noticed."""
    await world.script.servers[-1].die()
    return await broken(stream)


# -- a session's ordinary life


async def test_the_init_and_what_follows_reach_one_server(world):
    stream = await world.client().begin()
    await stream.write(put_request(2, b"x"))
    answer = await within(stream.read())
    assert (answer.req_id, answer.put.id) == (2, b"id of x")
    assert await incarnation(stream) == 1
    (server,) = world.script.servers
    assert [request.req_id for request in server.seen] == [1, 2]


async def test_the_init_passes_through_unchanged(world):
    sent = init_request(grace=7, req_id=42)
    sent.init.ray_init_kwargs = '{"log_to_driver": true}'
    stream = world.client().stream()
    await stream.write(sent)
    assert (await within(stream.read())).req_id == 42
    assert world.script.servers[0].seen == [sent]


async def test_servers_get_the_users_metadata_but_not_the_secret(world):
    client = world.client(secret="5ec7e7")
    stream = client.stream(False, ("user-key", "value"))
    await stream.write(init_request())
    await within(stream.read())
    (told,) = world.script.servers[0].metadata
    assert (told["client_id"], told["user-key"]) == ("c1", "value")
    assert (told["reconnecting"], told[wire.INCARNATION_KEY]) == ("False", "1")
    assert wire.SECRET_KEY not in told


async def test_the_number_of_clients_is_the_proxiers(world):
    first = await world.client("c1").begin()
    await world.client("c2").begin()
    request = protocol.DataRequest(req_id=2)
    request.connection_info.SetInParent()
    await first.write(request)
    info = (await within(first.read())).connection_info
    assert (info.num_clients, info.ray_version) == (2, "2.60.0")


async def test_a_client_that_takes_its_leave_ends_its_session(world):
    client = world.client()
    stream = await client.begin()
    await stream.write(cleanup_request())
    await stream.done_writing()
    assert (await within(stream.read())).WhichOneof("type") == "connection_cleanup"
    assert await within(stream.read()) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    await world.until(lambda: world.ports.out == 0)
    assert world.script.servers[0].ended is True
    assert len(world.hosts) == 0
    error = await broken(client.stream(True))
    assert (error.code(), reason(error)) == (grpc.StatusCode.NOT_FOUND, wire.REASON_SESSION_GONE)
    assert GONE in error.details()
    assert "its client has disconnected" in error.details()


async def test_a_goodbye_that_kills_the_server_ends_the_session(world):
    client = world.client()
    stream = await client.begin()
    world.script.dies_on_cleanup = True
    await stream.write(cleanup_request())
    assert await within(stream.read()) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    await world.until(lambda: world.ports.out == 0)
    assert len(world.hosts) == 0
    assert len(world.script.servers) == 1, "nobody needs another one"
    assert "its client has disconnected" in (await broken(client.stream(True))).details()


async def test_a_goodbye_to_a_dead_server_ends_the_session(world):
    client = world.client()
    stream = await client.begin()
    (server,) = world.script.servers
    asked = asyncio.Event()
    # The kernel tells of the exit before the loop does.
    server.kernel_says = lambda: asked.set() or True
    await stream.write(cleanup_request())
    await within(asked.wait())
    await server.die()
    assert await within(stream.read()) is grpc.aio.EOF
    await world.until(lambda: world.ports.out == 0)
    assert len(world.hosts) == 0


async def test_a_lost_connection_is_carried_on_with_the_same_server(world):
    client = world.client()
    (await client.begin()).cancel()
    again = client.stream(True)
    await again.write(put_request(2, b"x"))
    assert (await within(again.read())).put.id == b"id of x"
    assert await incarnation(again) == 1
    (server,) = world.script.servers
    assert server.metadata[-1]["reconnecting"] == "True"


async def test_a_client_that_stays_away_loses_its_session(world):
    client = world.client()
    (await client.begin(grace=1)).cancel()
    await world.until(lambda: world.ports.out == 0)
    assert world.script.servers[0].ended is True
    assert "grace period of 1 s" in (await broken(client.stream(True))).details()


async def test_without_a_grace_period_a_lost_connection_ends_the_session(world):
    (await world.client().begin(grace=0)).cancel()
    await world.until(lambda: world.ports.out == 0)
    assert len(world.hosts) == 0


async def test_a_newer_stream_takes_the_session_over(world):
    client = world.client()
    older = await client.begin()
    newer = client.stream(True)
    await newer.write(put_request(2, b"x"))
    error = await broken(older)
    assert (error.code(), reason(error)) == (grpc.StatusCode.ABORTED, wire.REASON_SUPERSEDED)
    assert (await within(newer.read())).put.id == b"id of x"
    assert len(world.script.servers) == 1


async def test_a_server_that_refuses_to_go_on_ends_the_session(world):
    client = world.client()
    stream = await client.begin()
    request = protocol.DataRequest(req_id=2)
    request.terminate.SetInParent()
    await stream.write(request)
    error = await broken(stream)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "no more of this"
    assert (await broken(client.stream(True))).code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_that_a_late_one_has_superseded_does_not_end_the_session(world):
    client = world.client()
    stream = await client.begin()
    request = protocol.DataRequest(req_id=2)
    request.list_named_actors.SetInParent()
    await stream.write(request)
    error = await broken(stream)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "a stream came late" in error.details()
    again = client.stream(True)
    await again.write(put_request(3, b"x"))
    assert (await within(again.read())).put.id == b"id of x"


async def test_a_data_stream_that_its_server_cancels_may_be_opened_again(world):
    client = world.client()
    stream = await client.begin()
    world.script.cancels = {"put"}
    await stream.write(put_request(2, b"x"))
    error = await broken(stream)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "The connection to the session's server broke: CANCELLED" in error.details()
    world.script.cancels = set()
    again = client.stream(True)
    await again.write(put_request(2, b"x"))
    assert (await within(again.read())).put.id == b"id of x"
    assert len(world.script.servers) == 1


async def test_a_server_that_cancels_its_stream_at_a_goodbye(world):
    client = world.client()
    stream = await client.begin()
    world.script.cancels = {"connection_cleanup"}
    await stream.write(cleanup_request())
    assert await within(stream.read()) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    await world.until(lambda: world.ports.out == 0)


async def test_a_get_that_its_server_cancels_ends(world):
    client = world.client()
    await client.begin()
    world.script.cancels = {"GetObject"}
    call = client.driver.GetObject(protocol.GetRequest(), metadata=client.metadata)
    assert (await within(call.read())).chunk_id == 0
    assert await within(call.code()) is grpc.StatusCode.CANCELLED


async def test_shutdown_kills_all_servers(world):
    for n in range(3):
        await world.client(str(n)).begin()
    await within(world.hosts.shutdown())
    assert [server.ended for server in world.script.servers] == [False] * 3
    assert (world.ports.out, len(world.hosts)) == (0, 0)


async def test_shutdown_kills_a_server_on_its_way_up(world):
    world.script.gate.clear()
    stream = world.client().stream()
    await stream.write(init_request())
    await within(world.script.launching.wait())
    await within(world.hosts.shutdown())
    assert world.ports.out == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_shutdown_in_the_moment_in_which_a_server_comes_up(world, monkeypatch, caplog, fails):
    start, come = Starter.start, asyncio.Event()

    async def uncancelled(starter, session, users):
        server = await start(starter, session, users)
        come.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                await starter.dispose(server, gently=False)
                raise StartFailed("it died") from None
        return server

    monkeypatch.setattr(Starter, "start", uncancelled)
    # Ray's loggers don't hand on to the root's.
    monkeypatch.setattr(host.logger, "handlers", [caplog.handler])
    await world.client().stream().write(init_request())
    await within(come.wait())
    await within(world.hosts.shutdown())
    assert world.script.servers[0].ended is False
    assert world.ports.out == 0
    assert "Fault" not in caplog.text


async def test_shutdown_while_it_is_looked_into_why_a_server_broke_its_init(world, monkeypatch):
    cause, looking = starter._cause, asyncio.Event()

    async def slowly(process, trouble):
        looking.set()
        return await cause(process, trouble)

    monkeypatch.setattr(starter, "_cause", slowly)
    monkeypatch.setattr(starter, "EXIT_SEEN_S", 60.0)
    world.script.cancels = {"init"}
    await world.client().stream().write(init_request())
    await within(looking.wait())
    await within(world.hosts.shutdown())
    assert world.script.servers[0].ended is False
    assert world.ports.out == 0


# -- a server's death


async def test_a_death_is_told_with_its_cause(world):
    stream = await world.client().begin()
    error = await killed(world, stream)
    assert (error.code(), reason(error)) == (
        grpc.StatusCode.UNAVAILABLE,
        wire.REASON_SERVER_DIED,
    )
    assert "signal 9" in error.details()
    assert "last words" in error.details()


async def test_the_session_goes_on_with_the_next_server(world):
    client = world.client()
    await killed(world, await client.begin())
    again = client.stream(True)
    await again.write(put_request(2, b"x"))
    answer = await within(again.read())
    # Nothing of the init that the proxier sent comes before it.
    assert (answer.req_id, answer.put.id) == (2, b"id of x")
    assert await incarnation(again) == 2


async def test_the_next_server_is_given_the_saved_init(world):
    client = world.client()
    await killed(world, await client.begin(grace=9))
    await within(client.stream(True).initial_metadata())
    init = world.script.servers[1].seen[0]
    assert (init.req_id, init.init.namespace) == (-1, "first namespace")
    assert init.init.reconnect_grace_period == 9
    told = world.script.servers[1].metadata[0]
    assert (told["reconnecting"], told[wire.INCARNATION_KEY]) == ("False", "2")


async def test_a_stock_server_gets_the_init_under_its_first_id(world):
    world.script.capabilities = ()
    client = world.client()
    await killed(world, await client.begin())
    await within(client.stream(True).initial_metadata())
    assert [request.req_id for request in world.script.servers[1].seen] == [1]


async def test_functions_are_registered_again_under_their_ids(world):
    client = world.client()
    stream = await client.begin()
    for req_id, ref in ((2, b"\xcca"), (3, b"\xccb"), (4, b"")):
        await stream.write(put_request(req_id, b"f%d" % req_id, ref))
        await within(stream.read())
    release = protocol.DataRequest()
    release.release.ids.append(b"id of f2")
    await stream.write(release)
    await within(stream.read())
    await killed(world, stream)
    await within(client.stream(True).initial_metadata())
    _, put = world.script.servers[1].seen
    assert (put.req_id, put.put.data, put.put.client_ref_id) == (-1, b"f3", b"\xccb")
    assert put.put.register_as == b"id of f3"


async def test_five_deaths_in_a_row(world):
    client = world.client()
    stream = await client.begin()
    for n in range(2, 7):
        await killed(world, stream)
        stream = client.stream(True)
        assert await incarnation(stream) == n
    await world.until(lambda: world.ports.out == 1)


async def test_a_death_while_the_client_is_away(world):
    client = world.client()
    (await client.begin()).cancel()
    await world.script.servers[0].die()
    assert await incarnation(client.stream(True)) == 2


async def test_concurrent_reconnects_make_one_server(world):
    client = world.client()
    stream = await client.begin()
    world.script.gate.clear()
    await killed(world, stream)
    streams = [client.stream(True) for _ in range(5)]
    losers = [asyncio.ensure_future(broken(stream)) for stream in streams]
    await world.until(lambda: sum(loser.done() for loser in losers) == 4)
    world.script.gate.set()
    (winner,) = [stream for stream, loser in zip(streams, losers) if not loser.done()]
    assert await incarnation(winner) == 2
    assert len(world.script.servers) == 2
    for loser in losers:
        loser.cancel()


async def test_calls_are_put_off_in_the_gap(world):
    client = world.client()
    stream = await client.begin()
    world.script.gate.clear()
    await killed(world, stream)
    error = await failure(client.wait())
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, wire.REASON_RECREATING)


async def test_a_call_under_way_when_the_server_dies_is_put_off(world):
    client = world.client()
    await client.begin()
    world.script.hangs.set()
    call = client.wait()
    failing = asyncio.ensure_future(failure(call))
    await within(world.script.hanging.wait())
    await world.script.servers[0].die()
    assert (await failing).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_get_under_way_when_the_server_dies_is_put_off(world):
    client = world.client()
    await client.begin()
    world.script.hangs.set()
    call = client.driver.GetObject(protocol.GetRequest(), metadata=client.metadata)
    for chunk_id in range(3):
        assert (await within(call.read())).chunk_id == chunk_id
    await world.script.servers[0].die()
    assert (await broken(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_grace_period_a_death_ends_the_session(world):
    client = world.client()
    error = await killed(world, await client.begin(grace=0))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "signal 9" in error.details()
    assert (await broken(client.stream(True))).code() is grpc.StatusCode.NOT_FOUND


async def test_other_sessions_do_not_notice(world):
    mine, other = world.client("mine"), world.client("other")
    stream, others = await mine.begin(), await other.begin()
    await world.script.servers[0].die()
    await broken(stream)
    await others.write(put_request(2, b"x"))
    assert (await within(others.read())).put.id == b"id of x"


# -- starting


@pytest.mark.parametrize("trouble", ["stillborn", "dies_ready", "dies_on_init"])
async def test_failed_spawns_are_retried_before_anybody_notices(world, trouble):
    setattr(world.script, trouble, 2)
    stream = await world.client().begin()
    assert await incarnation(stream) == 1
    assert len(world.script.servers) == 3
    assert world.ports.out == 1


@pytest.mark.parametrize("trouble", ["stillborn", "dies_ready", "dies_on_init"])
async def test_a_start_that_keeps_failing_is_told_in_the_answer_to_the_init(world, trouble):
    setattr(world.script, trouble, 3)
    client = world.client()
    stream = client.stream()
    await stream.write(init_request(req_id=5))
    answer = await within(stream.read())
    assert (answer.req_id, answer.init.ok) == (5, False)
    assert "Starting Ray client server failed" in answer.init.msg
    assert "last words" in answer.init.msg
    assert await within(stream.read()) is grpc.aio.EOF
    assert (world.ports.out, len(world.hosts)) == (0, 0)


async def test_a_server_that_can_not_be_connected_to_is_not_left_behind(world, monkeypatch):
    connect, tries = world.hosts._starter._connect, []

    def connect_late(host, port):
        tries.append(port)
        if len(tries) == 1:
            raise FileNotFoundError("the certificate is just being replaced")
        return connect(host, port)

    monkeypatch.setattr(world.hosts._starter, "_connect", connect_late)
    stream = await world.client().begin()
    assert await incarnation(stream) == 1
    first, second = world.script.servers
    assert first.ended is False and second.ended is None
    assert world.ports.out == 1


async def test_a_start_whose_init_is_cancelled_is_told_in_the_answer(world, monkeypatch):
    monkeypatch.setattr(starter, "EXIT_SEEN_S", 0.0)
    world.script.cancels = {"init"}
    stream = world.client().stream()
    await stream.write(init_request(req_id=5))
    answer = await within(stream.read())
    assert (answer.req_id, answer.init.ok) == (5, False)
    assert "it broke its data stream: CANCELLED" in answer.init.msg
    assert (len(world.script.servers), len(world.hosts)) == (starter.ATTEMPTS, 0)


async def test_a_refused_init_is_told_in_the_servers_words(world):
    world.script.refuses_init = True
    stream = world.client().stream()
    await stream.write(init_request())
    answer = await within(stream.read())
    assert (answer.init.ok, answer.init.msg) == (False, "the init was refused")
    assert (len(world.script.servers), len(world.hosts)) == (1, 0)


async def test_a_client_may_go_and_come_back_while_its_server_starts(world):
    world.script.gate.clear()
    client = world.client()
    stream = client.stream()
    await stream.write(init_request())
    await within(world.script.launching.wait())
    stream.cancel()
    again = client.stream(True)
    await again.write(init_request())
    world.script.gate.set()
    assert (await within(again.read())).init.ok
    assert len(world.script.servers) == 1


async def test_a_client_may_go_and_come_back_before_its_init(world):
    client = world.client()
    client.stream().cancel()
    first = client.stream()
    await world.until(lambda: len(world.hosts) == 1)
    first.cancel()
    again = client.stream(True)
    await again.write(init_request())
    assert (await within(again.read())).init.ok


async def test_a_client_that_asks_who_is_there_before_any_init_may_begin_anew(world):
    """A proxier was started anew, and the link broke when the client began its session anew."""
    client = world.client()
    first = client.stream()
    await world.until(lambda: len(world.hosts) == 1)
    first.cancel()
    again = client.stream(True)
    await again.write(info_request())
    error = await broken(again)
    assert (error.code(), reason(error)) == (
        grpc.StatusCode.NOT_FOUND,
        wire.REASON_SESSION_UNKNOWN,
    )
    # No tombstone bars the way, should the link break here once more.
    assert reason(await broken(client.stream(True))) == wire.REASON_SESSION_UNKNOWN
    await client.begin()


async def test_a_death_before_any_request_tells_that_none_was_handed(world):
    client = world.client()
    await killed(world, await client.begin())
    again = client.stream(True)
    await again.write(info_request())
    assert (await within(again.read())).connection_info.handed == 1


async def test_a_pickle_that_is_no_job_config_is_not_loaded(world):
    request = init_request()
    request.init.job_config = b"cos\nsystem\n(S'exit 1'\ntR."
    stream = world.client().stream()
    await stream.write(request)
    answer = await within(stream.read())
    assert not answer.init.ok
    assert "system, which has no place" in answer.init.msg
    assert world.script.servers == []


# -- calls beside the stream


async def test_a_ping_is_always_answered(world):
    ping = protocol.ClusterInfoRequest(type=protocol.ClusterInfoType.PING)
    answer = await within(world.client("").driver.ClusterInfo(ping))
    assert answer.json == "{}"


async def test_key_value_calls_go_to_the_store_until_there_is_a_server(world):
    client = world.client()
    for expected in (b"from the store", b"from the server"):
        call = client.driver.KVGet(protocol.KVGetRequest(key=b"k"), metadata=client.metadata)
        assert (await within(call)).value == expected
        if expected == b"from the store":
            await client.begin()


async def test_a_refusal_of_the_server_is_passed_on(world):
    client = world.client()
    await client.begin()
    error = await failure(
        client.driver.Terminate(protocol.TerminateRequest(), metadata=client.metadata)
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "what should end?"


async def test_a_call_that_comes_before_the_server_is_up_waits_for_it(world):
    world.script.gate.clear()
    client = world.client()
    stream = client.stream()
    await stream.write(init_request())
    await within(world.script.launching.wait())
    call = client.wait()
    world.script.gate.set()
    assert (await within(call)).valid


async def test_a_deadline_is_passed_on(world):
    client = world.client()
    await client.begin()
    world.script.hangs.set()
    call = client.driver.WaitObject(protocol.WaitRequest(), metadata=client.metadata, timeout=0.3)
    assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


# -- who may not


async def test_a_wrong_first_message(world):
    stream = world.client().stream()
    await stream.write(put_request(1, b"x"))
    assert (await broken(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (world.script.servers, len(world.hosts)) == ([], 0)


async def test_more_servers_than_a_session_can_have_had(world):
    request = init_request()
    request.init.after = 2**32 - 1
    stream = world.client().stream()
    await stream.write(request)
    assert (await broken(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (world.script.servers, len(world.hosts)) == ([], 0)


@pytest.mark.parametrize("begun", [False, True])
async def test_garbage(world, begun):
    client = world.client()
    if begun:
        (await client.begin()).cancel()
    raw = world.channel.stream_stream(protocol.DATA_STREAMER["Datapath"].path)
    stream = raw(metadata=(*client.metadata, ("reconnecting", str(begun))))
    await stream.write(b"\xff\xff\xff garbage")
    assert (await broken(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_no_client_id(world):
    client = world.client("")
    for call in (client.stream(), client.stream(True), client.logs()):
        assert (await broken(call)).code() is grpc.StatusCode.FAILED_PRECONDITION
    error = await failure(client.driver.WaitObject(protocol.WaitRequest()))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_client_id(world):
    client = world.client("unknown")
    error = await broken(client.stream(True))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert GONE in error.details()
    error = await failure(client.wait())
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_second_init_of_a_live_client_id(world):
    stream = await world.client().begin()
    intruder = world.client().stream()
    assert (await broken(intruder)).code() is grpc.StatusCode.FAILED_PRECONDITION
    await stream.write(put_request(2, b"x"))
    assert (await within(stream.read())).put.id == b"id of x"


async def test_a_wrong_secret(world):
    await world.client(secret="right").begin()
    wrong = world.client(secret="wrong")
    for stream in (wrong.stream(True), wrong.logs()):
        error = await broken(stream)
        assert (error.code(), reason(error)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            wire.REASON_SECRET,
        )
    error = await failure(wrong.wait())
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_for_a_server_that_has_died(world):
    client = world.client()
    await killed(world, await client.begin())
    await within(client.stream(True).initial_metadata())
    metadata = (*client.metadata, (wire.INCARNATION_KEY, "1"))
    error = await failure(client.driver.WaitObject(protocol.WaitRequest(), metadata=metadata))
    assert (error.code(), reason(error)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        wire.REASON_STALE_INCARNATION,
    )
    assert wire.incarnation_of(error.trailing_metadata()) == 2


async def test_an_unknown_method(world):
    call = world.channel.unary_unary("/ray.rpc.RayletDriver/Format")(b"")
    assert (await failure(call)).code() is grpc.StatusCode.UNIMPLEMENTED
