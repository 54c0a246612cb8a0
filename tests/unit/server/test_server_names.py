"""Objects and actors by the names that a client gives them: a server on a real Ray."""

from __future__ import annotations

import io
import itertools
import os
from typing import Any, Dict, Iterator, List

import pytest

import ray.cloudpickle as cloudpickle
from ray.exceptions import GetTimeoutError, OwnerDiedError
from ray.util.client import protocol
from tests.support.cluster import Cluster
from tests.unit.server.server_support import TASK, Client, Server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    server = Server(cluster.gcs_address)
    # Keeps Ray up between the tests.
    keeper = server.client()
    yield server
    keeper.leave()
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = server.client()
    yield client
    client.leave()


@pytest.fixture
def heir(server: Server) -> Iterator[Client]:
    """A client whose session's earlier server died."""
    client = server.client(incarnation=2)
    yield client
    client.leave()


def token(size: int = 28) -> bytes:
    return b"\xcd" + next(_numbers).to_bytes(size - 1, "big")


def task(client: Client, function: bytes, tokens: List[bytes], *args: Any, **more: Any) -> Any:
    fields: Dict[str, Any] = {"type": TASK.FUNCTION, "payload_id": function, **more}
    data = client.arguments(*args)
    return TASK(client_id=client.id, return_tokens=tokens, data=data, total_chunks=1, **fields)


def get(client: Client, *ids: bytes, **more: Any) -> Any:
    request = protocol.GetRequest(ids=list(ids), asynchronous=True, parts=True, **more)
    answer = client.ask(get=request).get
    client.handing = answer.handing or client.handing
    return values(answer)


def release(client: Client, name: bytes, times: int, handing: int = 0) -> None:
    receipt = {"name": name, "handing": handing or client.handing, "times": times}
    answer = client.ask(release=protocol.ReleaseRequest(ids=[name], receipts=[receipt])).release
    assert list(answer.ok) == [True]


class Named(cloudpickle.pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return (pid.type, pid.ref_id)


def values(answer: Any) -> List[Any]:
    if not answer.valid:
        raise cloudpickle.loads(answer.error)
    found, start = [], 0
    for size in answer.sizes:
        found.append(Named(io.BytesIO(answer.data[start : start + size])).load())
        start += size
    assert start == len(answer.data)
    return found


def wait(client: Client, ids: List[bytes], count: int, timeout: float = -1) -> Any:
    request = protocol.WaitRequest(
        object_ids=ids, num_returns=count, timeout=timeout, client_id=client.id
    )
    return client.ask(wait=request).wait


def test_nothing_waits_for_a_ticket(client: Client) -> None:
    function, number, result = token(), token(), token()
    client.stream.send(
        50, put=protocol.PutRequest(data=cloudpickle.dumps(lambda x: x + 1), register_as=function)
    )
    put = protocol.PutRequest(data=cloudpickle.dumps(41), register_as=number, total_chunks=1)
    client.stream.send(51, put=put)
    client.stream.send(52, task=task(client, function, [result], client.ref(number)))
    request = protocol.GetRequest(ids=[result, number], asynchronous=True, parts=True)
    client.stream.send(53, get=request)
    answers = {answer.req_id: answer for answer in (client.stream.receive() for _ in range(4))}
    assert values(answers[53].get) == [42, 41]
    (id,) = answers[52].task_ticket.return_ids
    assert len(id) == 28 and id != result


def test_several_returns_and_several_chunks(client: Client) -> None:
    function = client.put_value(lambda: (b"x" * 6_000_000, "small"))
    tokens = [token(), token()]
    options = protocol.TaskOptions(pickled_options=cloudpickle.dumps({"num_returns": 2}))
    assert client.ask(task=task(client, function, tokens, options=options)).task_ticket.valid
    request = protocol.GetRequest(ids=tokens, asynchronous=True, parts=True)
    first = client.ask(get=request).get
    second = client.stream.receive().get
    assert [first.chunk_id, second.chunk_id, second.total_chunks] == [0, 1, 2]
    assert sum(first.sizes) == len(first.data) + len(second.data)
    client.stream.send(60, get=protocol.GetRequest(parts=True, asynchronous=True, ids=tokens,
                                                   start_chunk_id=1))  # fmt: skip
    assert client.stream.receive().get.data == second.data


def test_what_fails_to_be_made_raises_by_its_name(client: Client) -> None:
    function = client.put_value(lambda x: x)
    bad, worse, put = token(), token(), token()
    message = task(client, function, [bad])
    message.data = b"no pickle"
    assert not client.ask(task=message).task_ticket.valid
    with pytest.raises(cloudpickle.pickle.UnpicklingError):
        get(client, bad)
    assert list(wait(client, [bad], 1).ready_object_ids) == [bad]
    ticket = client.ask(task=task(client, function, [worse], client.ref(bad))).task_ticket
    assert isinstance(cloudpickle.loads(ticket.error), cloudpickle.pickle.UnpicklingError)
    assert not client.put(b"no pickle", register_as=put).valid
    with pytest.raises(cloudpickle.pickle.UnpicklingError):
        get(client, put)


def test_the_first_failure_is_told(client: Client) -> None:
    function, failed, never = client.put_value(lambda: 1 / 0), token(), token()
    client.ask(task=task(client, function, [failed]))
    forever = client.put_value(lambda: __import__("threading").Event().wait())
    client.ask(task=task(client, forever, [never]))
    with pytest.raises(ZeroDivisionError):
        get(client, never, failed)
    client.ask(
        terminate=protocol.TerminateRequest(
            client_id=client.id,
            task_object=protocol.TerminateRequest.TaskObjectTerminate(id=never, force=True),
        )
    )


def test_a_name_stands_for_one_thing(client: Client, tmp_path: Any) -> None:
    runs, name = str(tmp_path / "runs"), token()
    os.mkdir(runs)
    function = client.put_value(lambda x: __import__("tempfile").mkdtemp(dir=x))
    first = client.ask(task=task(client, function, [name], runs)).task_ticket
    again = client.ask(task=task(client, function, [name], runs)).task_ticket
    other = client.ask(task=task(client, function, [name], "elsewhere")).task_ticket
    assert again.return_ids == first.return_ids
    assert "stands for something else" in str(cloudpickle.loads(other.error))
    get(client, name)
    assert len(os.listdir(runs)) == 1
    put = token()
    assert client.put(cloudpickle.dumps(1), register_as=put).valid
    assert client.put(cloudpickle.dumps(1), register_as=put).valid
    assert not client.put(cloudpickle.dumps(2), register_as=put).valid
    assert get(client, put) == [1]


def test_results_refer_by_the_client_s_names(client: Client) -> None:
    name, inner, outer = token(), client.put_value("has no name"), token()
    client.put(cloudpickle.dumps("named"), register_as=name)
    identity = client.put_value(lambda x: x)
    refs = [client.ref(name), client.ref(inner)]
    client.ask(task=task(client, identity, [outer], refs))
    assert get(client, outer) == [[("Object", name), ("Object", inner)]]
    release(client, name, times=1)
    ((first, _),) = get(client, outer)
    assert first[1] != name and get(client, first[1]) == ["named"]


def test_what_an_answer_on_its_way_refers_to_outlives_its_release(client: Client) -> None:
    name, outer = token(), token()
    client.put(cloudpickle.dumps("named"), register_as=name)
    identity = client.put_value(lambda x: x)
    client.ask(task=task(client, identity, [outer], [client.ref(name)]))
    for _ in range(2):
        assert get(client, outer) == [[("Object", name)]]
    # The client has got the first one of the two answers and let go of what it had by then.
    release(client, name, times=1)
    assert get(client, name) == ["named"]
    release(client, name, times=1)
    with pytest.raises(ValueError, match="not found for client"):
        get(client, name)


def test_each_stream_counts_what_it_has_handed_out(client: Client) -> None:
    name, outer = token(), token()
    client.put(cloudpickle.dumps("named"), register_as=name)
    client.put(client.arguments(client.ref(name)), register_as=outer)
    assert get(client, outer) == [((("Object", name),), {})]
    release(client, name, times=1, handing=1)
    assert get(client, name) == ["named"]
    release(client, name, times=1)
    with pytest.raises(ValueError, match="not found for client"):
        get(client, name)


def test_actors_have_names_too(client: Client) -> None:
    class Counter:
        def add(self) -> int:
            self.count = getattr(self, "count", 0) + 1
            return self.count

    made, actor, result, back = client.put_value(Counter), token(16), token(), token()
    client.ask(task=task(client, made, [actor], type=TASK.ACTOR))
    client.ask(task=task(client, actor, [result], type=TASK.METHOD, name="add"))
    identity = client.put_value(lambda x: x)
    client.ask(task=task(client, identity, [back], [client.ref(actor, "Actor")]))
    assert get(client, result, back) == [1, [("Actor", actor)]]
    assert list(client.ask(release=protocol.ReleaseRequest(ids=[actor])).release.ok) == [True]


def test_a_get_that_is_not_to_wait(client: Client) -> None:
    never = token()
    forever = client.put_value(lambda: __import__("threading").Event().wait())
    client.ask(task=task(client, forever, [never]))
    with pytest.raises(GetTimeoutError):
        get(client, never, nowait=True)
    ready = client.put_value("here")
    assert get(client, ready, nowait=True) == ["here"]


def test_a_wait_ends_by_its_timeout_and_by_enough(client: Client) -> None:
    never, ready = token(), client.put_value(1)
    forever = client.put_value(lambda: __import__("threading").Event().wait())
    client.ask(task=task(client, forever, [never]))
    assert list(wait(client, [never, ready], 1).ready_object_ids) == [ready]
    assert list(wait(client, [never, ready], 2, timeout=0).ready_object_ids) == [ready]
    assert list(wait(client, [never, ready], 2, timeout=0.1).ready_object_ids) == [ready]


def test_a_wait_for_nonsense_is_refused(client: Client) -> None:
    answer = wait(client, [token()], 1)
    assert not answer.valid and "not found" in str(cloudpickle.loads(answer.error))
    assert not wait(client, [token()], 2).valid


def test_what_was_withdrawn_is_not_answered(client: Client) -> None:
    gate, late = token(), token()
    function = client.put_value(lambda: __import__("time").sleep(0.2) or "late")
    client.ask(task=task(client, function, [late]))
    client.stream.send(70, get=protocol.GetRequest(ids=[late], asynchronous=True, parts=True))
    client.stream.send(71, wait=protocol.WaitRequest(object_ids=[late], num_returns=1, timeout=-1,
                                                     client_id=client.id))  # fmt: skip
    for req_id in (70, 71):
        client.stream.send(0, withdraw=protocol.WithdrawRequest(req_id=req_id))
    client.put(cloudpickle.dumps(1), register_as=gate)
    request = protocol.GetRequest(ids=[late], asynchronous=True, parts=True)
    client.stream.send(72, get=request)
    assert client.stream.receive().req_id == 72


def test_names_of_a_dead_server_are_lost_and_ready(heir: Client) -> None:
    with pytest.raises(OwnerDiedError):
        get(heir, token())
    name = token()
    assert list(wait(heir, [name], 1).ready_object_ids) == [name]


def test_a_named_actor_is_made_again_once_its_name_is_free(heir: Client) -> None:
    class Idle:
        def ping(self) -> str:
            return "pong"

    made, first, second, result = heir.put_value(Idle), token(16), token(16), token()
    options = protocol.TaskOptions(pickled_options=cloudpickle.dumps({"name": "taken"}))
    heir.ask(task=task(heir, made, [first], type=TASK.ACTOR, options=options))
    kill = protocol.TerminateRequest.ActorTerminate(id=first, no_restart=True)
    heir.ask(terminate=protocol.TerminateRequest(client_id=heir.id, actor=kill))
    message = task(heir, made, [second], type=TASK.ACTOR, options=options, again=True)
    ticket = heir.ask(task=message).task_ticket
    assert ticket.valid, cloudpickle.loads(ticket.error)
    heir.ask(task=task(heir, second, [result], type=TASK.METHOD, name="ping"))
    assert get(heir, result) == ["pong"]


def detached(client: Client, name: bytes, called: str, **more: Any) -> Any:
    """The ticket for a detached actor that counts."""

    class Counter:
        def add(self) -> int:
            self.count = getattr(self, "count", 0) + 1
            return self.count

    options = cloudpickle.dumps({"name": called, "lifetime": "detached"})
    return client.ask(
        task=task(
            client,
            client.put_value(Counter),
            [name],
            type=TASK.ACTOR,
            options=protocol.TaskOptions(pickled_options=options),
            **more,
        )
    ).task_ticket


def look_up(client: Client, name: bytes, called: str, **more: Any) -> Any:
    message = task(client, b"", [name], type=TASK.NAMED_ACTOR, name=called, **more)
    return client.ask(task=message).task_ticket


def kill_actor(client: Client, name: bytes) -> None:
    kill = protocol.TerminateRequest.ActorTerminate(id=name, no_restart=True)
    client.ask(terminate=protocol.TerminateRequest(client_id=client.id, actor=kill))


def test_another_actor_that_has_the_name_is_not_taken(heir: Client) -> None:
    theirs, ours = token(16), token(16)
    assert detached(heir, theirs, "taken").valid
    ticket = detached(heir, ours, "taken", again=True)
    assert not ticket.valid and "already" in str(cloudpickle.loads(ticket.error))
    kill_actor(heir, theirs)


def test_an_actor_that_the_cluster_never_heard_of_never_started(heir: Client) -> None:
    name, result = token(16), token()
    ticket = look_up(heir, name, "unheard", may_be_made=True)
    assert ticket.never_started and not ticket.valid
    # The name stands for nothing yet.
    assert detached(heir, name, "unheard", again=True).valid
    heir.ask(task=task(heir, name, [result], type=TASK.METHOD, name="add"))
    assert get(heir, result) == [1]
    kill_actor(heir, name)


def test_an_actor_that_lives_is_found_whatever_is_known_of_its_id(heir: Client) -> None:
    name = token(16)
    (actor_id,) = detached(heir, name, "lives").return_ids
    for known, tells in [
        ({}, actor_id),
        ({"actor_id": actor_id, "actor_id_now": actor_id}, actor_id),
        # Made once more by a server whose ticket was lost, and by one whose ticket came.
        ({"actor_id": b"\x01" * 16}, b"\x01" * 16),
        ({"actor_id": b"\x01" * 16, "actor_id_now": actor_id}, b"\x01" * 16),
    ]:
        ticket = look_up(heir, token(16), "lives", may_be_made=True, **known)
        assert ticket.valid and list(ticket.return_ids) == [tells]
    other = {"actor_id": b"\x02" * 16, "actor_id_now": b"\x02" * 16}
    ticket = look_up(heir, token(16), "lives", may_be_made=True, **other)
    assert not ticket.valid and not ticket.never_started
    kill_actor(heir, name)
    ticket = look_up(heir, token(16), "lives", may_be_made=True, actor_id_now=actor_id)
    assert not ticket.valid and not ticket.never_started


def test_an_actor_that_was_found_by_its_name_outlives_its_first_handle(client: Client) -> None:
    class Idle:
        def ping(self) -> str:
            return "pong"

    made, first, found, result = client.put_value(Idle), token(16), token(16), token()
    options = protocol.TaskOptions(pickled_options=cloudpickle.dumps({"name": "found"}))
    client.ask(task=task(client, made, [first], type=TASK.ACTOR, options=options))
    client.ask(task=task(client, b"", [found], type=TASK.NAMED_ACTOR, name="found"))
    client.ask(release=protocol.ReleaseRequest(ids=[first]))
    client.ask(task=task(client, found, [result], type=TASK.METHOD, name="ping"))
    assert get(client, result) == ["pong"]


def picked(client: Client, source: bytes, index: int, name: bytes) -> Any:
    return client.ask(pick=protocol.PickRequest(source=source, index=index, name=name)).task_ticket


def nest() -> Any:
    import ray

    return {"list": [ray.put("first"), ray.put("second")]}


def test_what_is_in_a_value_is_had_again_under_its_old_name(heir: Client) -> None:
    function, outer = heir.put_value(nest), token()
    old = b"\x01" * 28
    heir.ask(task=task(heir, function, [outer]))
    ticket = picked(heir, outer, 1, old)
    assert ticket.valid and picked(heir, outer, 1, old) == ticket
    assert get(heir, old) == ["second"]
    ((value,), again) = get(heir, outer), picked(heir, outer, 0, old)
    assert value["list"][1] == ("Object", old) and not again.valid
    result = token()
    heir.ask(task=task(heir, heir.put_value(lambda x: x * 2), [result], heir.ref(old)))
    assert get(heir, result) == ["secondsecond"]
    release(heir, old, times=1)
    assert get(heir, outer)[0]["list"][1] != ("Object", old)


def test_a_part_that_is_not_there_says_so(heir: Client) -> None:
    function, outer, old, older = heir.put_value(nest), token(), b"\x02" * 28, b"\x03" * 28
    heir.ask(task=task(heir, function, [outer]))
    assert picked(heir, outer, 2, old).valid
    with pytest.raises(ValueError, match="fewer objects"):
        get(heir, old)
    assert not picked(heir, token(), 0, older).valid
    with pytest.raises(OwnerDiedError):
        get(heir, older)


def test_an_error_is_put_and_raised(client: Client) -> None:
    name, result = token(), token()
    error = cloudpickle.dumps(KeyError("key"))
    assert client.put(error, register_as=name, failed=True).valid
    with pytest.raises(KeyError):
        get(client, name)
    assert not client.ask(
        task=task(client, client.put_value(lambda x: x), [result], client.ref(name))
    ).task_ticket.valid
    with pytest.raises(KeyError):
        get(client, result)


def test_a_return_without_a_name_is_not_kept(client: Client) -> None:
    function, second = client.put_value(lambda: (1, 2)), token()
    options = protocol.TaskOptions(pickled_options=cloudpickle.dumps({"num_returns": 2}))
    message = task(client, function, [b"", second], options=options)
    ticket = client.ask(task=message).task_ticket
    assert ticket.valid and len(ticket.return_ids) == 2
    assert client.ask(task=message).task_ticket == ticket, "it is known by its other name"
    assert get(client, second) == [2]


def test_a_handle_finds_its_actor_again(client: Client) -> None:
    class Counter:
        def add(self) -> int:
            self.count = getattr(self, "count", 0) + 1
            return self.count

    outer, found, results = token(), token(16), [token(), token()]

    def make() -> Any:
        import ray

        return ray.remote(Counter).options(num_cpus=0, lifetime="detached", name="h").remote()

    client.ask(task=task(client, client.put_value(make), [outer]))
    request = protocol.GetRequest(ids=[outer], asynchronous=True, parts=True)
    data = client.ask(get=request).get.data
    stubs: List[Any] = []

    class Stubs(cloudpickle.pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            stubs.append(pid)

    Stubs(io.BytesIO(data)).load()
    (stub,) = stubs
    message = task(client, b"", [found], type=TASK.NAMED_ACTOR)
    message.handle = stub.baseline_options["handle"]
    assert client.ask(task=message).task_ticket.valid
    for name, result in zip([found, stub.ref_id], results):
        client.ask(task=task(client, name, [result], type=TASK.METHOD, name="add"))
    assert get(client, *results) == [1, 2]
    kill = protocol.TerminateRequest.ActorTerminate(id=found, no_restart=True)
    client.ask(terminate=protocol.TerminateRequest(client_id=client.id, actor=kill))
