"""What a server does for clients, on a real Ray: objects, tasks, actors, and what was lost."""

from __future__ import annotations

import base64
from typing import Any, Iterator

import grpc
import pytest

import ray
import ray.cloudpickle as cloudpickle
from ray.exceptions import ActorDiedError, GetTimeoutError, OwnerDiedError
from ray.util.client import protocol
from tests.support.cluster import Cluster
from tests.support.waiting import eventually
from tests.unit.server.server_support import TASK, Client, Server

UNKNOWN = b"\x01" * 28
UNKNOWN_ACTOR = b"\x01" * 16


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
def later(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client whose session had another server, which died."""
    held = server.handle.task_servicer.held
    monkeypatch.setattr(held._epoch, "follows_a_death", False)
    client = server.client(incarnation=2)
    yield client
    client.leave()


# Tasks and objects


def test_a_function_is_put_once_and_run(client: Client) -> None:
    assert client.get(client.run(lambda a, b: a + b, 1, 2)) == [3]


def test_references_among_the_arguments_are_resolved(client: Client) -> None:
    ref = client.ref(client.put_value(20))
    assert client.get(client.run(lambda x: x + 1, ref)) == [21]


def test_several_objects_are_got_in_one_call(client: Client) -> None:
    ids = [client.put_value(n) for n in range(3)]
    assert client.get(*ids) == [0, 1, 2]


def test_a_get_ends_with_its_timeout(client: Client) -> None:
    def never() -> None:
        import threading

        threading.Event().wait()

    id = client.run(never)
    with pytest.raises(GetTimeoutError):
        client.get(id, timeout=0.1)
    cancel = protocol.TerminateRequest.TaskObjectTerminate(id=id, force=True)
    assert client.ask(
        terminate=protocol.TerminateRequest(client_id=client.id, task_object=cancel)
    ).terminate.ok


def test_a_tasks_own_timeout_error_is_not_mistaken(client: Client) -> None:
    def fail() -> None:
        raise GetTimeoutError("mine")

    with pytest.raises(GetTimeoutError, match="mine"):
        client.get(client.run(fail))


def test_a_result_that_can_not_be_pickled_fails_its_get_only(client: Client) -> None:
    def reluctant() -> Any:
        class Reluctant:
            """Comes out of Ray as a lock, which can't be sent on."""

            def __reduce__(self) -> Any:
                import threading

                return threading.Lock, ()

        return Reluctant()

    with pytest.raises(TypeError, match="pickle"):
        client.get(client.run(reluctant))
    assert client.get(client.put_value(1)) == [1]


def test_nothing_that_does_not_unpickle_costs_the_session(client: Client) -> None:
    answer = client.put(b"no pickle")
    assert not answer.valid and isinstance(cloudpickle.loads(answer.error), Exception)
    ticket = client.task(TASK.FUNCTION, client.put_value(lambda: 1), data=b"no pickle")
    assert not ticket.valid and isinstance(cloudpickle.loads(ticket.error), Exception)
    assert client.get(client.put_value(1)) == [1]


def test_what_is_no_function_can_not_be_run(client: Client) -> None:
    ticket = client.task(TASK.FUNCTION, client.put_value(5))
    assert "isn't a function" in str(cloudpickle.loads(ticket.error))


def test_an_unknown_kind_of_task_is_an_error_of_that_task(client: Client) -> None:
    ticket = client.task(77, b"")
    assert isinstance(cloudpickle.loads(ticket.error), NotImplementedError)


def test_a_registered_object_lives_under_its_old_id(server: Server, client: Client) -> None:
    old = b"\x07" * 28
    id = client.put_value(lambda: "restored", client_ref_id=b"\xccx", register_as=old)
    assert id == old
    ticket = client.task(TASK.FUNCTION, old)
    assert client.get(*ticket.return_ids) == ["restored"]
    servicer = server.handle.task_servicer
    assert servicer.client_side_ref_map[client.id] == {b"\xccx": old}
    assert client.ask(release=protocol.ReleaseRequest(ids=[old])).release.ok == [True]
    assert not client.task(TASK.FUNCTION, old).valid
    assert old not in servicer.function_refs


def test_waiting_keeps_the_order_asked_for(client: Client) -> None:
    ids = [client.put_value(n) for n in range(3)]
    answer = client.wait(ids, 3)
    assert list(answer.ready_object_ids) == ids
    answer = client.wait(ids, 2)
    assert len(answer.ready_object_ids) == 2 and len(answer.remaining_object_ids) == 1


@pytest.mark.parametrize("ids, count", [([UNKNOWN], 1), ([], 1)])
def test_a_wait_that_can_not_be_is_answered(client: Client, ids: list, count: int) -> None:
    assert not client.wait(ids, count).valid


def test_a_wait_whose_caller_has_gone_ends(server: Server, client: Client) -> None:
    def never() -> None:
        import threading

        threading.Event().wait()

    lifetime = server.handle.task_servicer.lifetime
    id = client.run(never)
    request = protocol.WaitRequest(object_ids=[id], num_returns=1, timeout=-1, client_id=client.id)
    call = client.driver.WaitObject.future(request, metadata=client.metadata)
    eventually(lambda: lifetime._calls == 1, "the call to begin")
    call.cancel()
    eventually(lambda: lifetime._calls == 0, "the call to end")
    cancel = protocol.TerminateRequest.TaskObjectTerminate(id=id, force=True)
    client.ask(terminate=protocol.TerminateRequest(client_id=client.id, task_object=cancel))


def test_unknown_objects_are_told_by_stocks_text(client: Client) -> None:
    with pytest.raises(ValueError, match=f"not found for client {client.id}"):
        client.get(UNKNOWN)
    ticket = client.task(
        TASK.FUNCTION, client.put_value(len), data=client.arguments(client.ref(UNKNOWN))
    )
    assert "not found for client" in str(cloudpickle.loads(ticket.error))
    ticket = client.task(TASK.METHOD, UNKNOWN_ACTOR, "f")
    assert "doesn't have a handle" in str(cloudpickle.loads(ticket.error))


# Actors


def test_an_actor_is_kept_until_it_is_released(server: Server, client: Client) -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    servicer = server.handle.task_servicer
    ticket = client.task(TASK.ACTOR, client.put_value(Counter))
    assert ticket.valid, cloudpickle.loads(ticket.error)
    actor = ticket.return_ids[0]
    assert servicer.actor_owners[client.id] == {actor}
    calls = [client.task(TASK.METHOD, actor, "add").return_ids[0] for _ in range(2)]
    assert client.get(*calls) == [1, 2]
    client.ask(release=protocol.ReleaseRequest(ids=[actor]))
    assert actor not in servicer.actor_refs


# After a death


def test_lost_objects_say_that_the_server_died(later: Client) -> None:
    with pytest.raises(OwnerDiedError, match="session's server died") as e:
        later.get(later.put_value(1), UNKNOWN)
    assert UNKNOWN.hex() in str(e.value)
    later.stream.send(99, get=protocol.GetRequest(ids=[UNKNOWN], asynchronous=True))
    assert isinstance(cloudpickle.loads(later.stream.receive().get.error), OwnerDiedError)


def test_lost_arguments_fail_their_task_only(later: Client) -> None:
    function = later.put_value(lambda x: x)
    for stub, error in (
        (later.ref(UNKNOWN), OwnerDiedError),
        (later.ref(UNKNOWN_ACTOR, "Actor"), ActorDiedError),
        (later.ref(UNKNOWN, "RemoteFunc"), OwnerDiedError),
    ):
        ticket = later.task(TASK.FUNCTION, function, data=later.arguments(stub))
        assert isinstance(cloudpickle.loads(ticket.error), error)
    ticket = later.task(TASK.FUNCTION, function, data=later.arguments(5))
    assert later.get(*ticket.return_ids) == [5]


@pytest.mark.parametrize("type", [TASK.FUNCTION, TASK.ACTOR])
def test_lost_functions_and_classes_say_so(later: Client, type: int) -> None:
    ticket = later.task(type, UNKNOWN)
    assert isinstance(cloudpickle.loads(ticket.error), OwnerDiedError)


def test_lost_actors_say_that_the_server_died(later: Client) -> None:
    ticket = later.task(TASK.METHOD, UNKNOWN_ACTOR, "f")
    error = cloudpickle.loads(ticket.error)
    assert isinstance(error, ActorDiedError)
    assert "session's server died" in str(error) and UNKNOWN_ACTOR.hex() in str(error)
    kill = protocol.TerminateRequest.ActorTerminate(id=UNKNOWN_ACTOR)
    with pytest.raises(grpc.RpcError) as failed:
        later.driver.Terminate(protocol.TerminateRequest(client_id=later.id, actor=kill))
    assert failed.value.code() is grpc.StatusCode.ABORTED
    sent = cloudpickle.loads(base64.b64decode(failed.value.details()))
    assert isinstance(sent, ActorDiedError)


def test_lost_objects_count_as_ready(later: Client) -> None:
    other = b"\x02" * 28
    live = later.put_value(1)
    answer = later.wait([live, UNKNOWN, other], 3)
    assert list(answer.ready_object_ids) == [live, UNKNOWN, other]
    answer = later.wait([live, UNKNOWN, other], 1)
    assert list(answer.ready_object_ids) == [UNKNOWN]
    assert list(answer.remaining_object_ids) == [live, other]


# The job


def test_the_answer_to_init_tells_the_namespace(client: Client) -> None:
    info = protocol.ClusterInfoRequest(type=protocol.ClusterInfoType.RUNTIME_CONTEXT)
    context = client.driver.ClusterInfo(info, metadata=client.metadata).runtime_context
    assert client.init_answer.namespace == context.namespace != ""


def test_what_a_call_changes_is_done_once(client: Client) -> None:
    ids = [*client.metadata, ("thread_id", "1"), ("req_id", "5")]
    put = protocol.KVPutRequest(key=b"k-" + client.id.encode(), value=b"v")
    assert not client.driver.KVPut(put, metadata=ids).already_exists
    assert not client.driver.KVPut(put, metadata=ids).already_exists
    ids[-1] = ("req_id", "6")
    assert client.driver.KVPut(put, metadata=ids).already_exists
    ids[-1] = ("req_id", "5")
    with pytest.raises(grpc.RpcError) as stale:
        client.driver.KVPut(put, metadata=ids)
    assert stale.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_errors_of_a_call_are_raised_by_it(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as e:
        client.driver.ClusterInfo(protocol.ClusterInfoRequest(type=77))
    assert e.value.code() is grpc.StatusCode.ABORTED
    assert isinstance(cloudpickle.loads(base64.b64decode(e.value.details())), TypeError)


def test_all_that_a_client_held_goes_with_it(server: Server) -> None:
    servicer = server.handle.task_servicer
    client = server.client()
    client.put_value(1)
    assert len(servicer.object_refs[client.id]) == 1
    client.leave()
    eventually(lambda: client.id not in servicer.object_refs, "the release")
    assert ray.is_initialized()
