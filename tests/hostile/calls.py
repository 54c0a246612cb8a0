"""Attacks by gRPC: calls that are well formed and make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import uuid
from typing import Any, AsyncIterator, Dict, List, Optional, Tuple

import grpc

from ray.job_config import JobConfig
from ray.util.client import protocol
from tests.hostile.raw import Attack, Target
from tests.support.ports import LOOPBACK

Code = grpc.StatusCode
Metadata = List[Tuple[str, Any]]

DATAPATH = protocol.DATA_STREAMER["Datapath"].path
LOGSTREAM = protocol.LOG_STREAMER["Logstream"].path
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
# For an answer, on a machine that is busy being attacked. None at all is a finding.
_PATIENCE_S = 120.0
# What an asyncio caller is told by its own side if it is refused while it writes.
_LOST = "Internal error from Core"
# A handler that fails on what it is sent ends its call so.
_FAULT = Code.UNKNOWN


class Fault(Exception):
    """The proxier answered in a way that it must not."""


@contextlib.asynccontextmanager
async def _channel(target: Target) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{target.port}", options=_OPTIONS) as channel:
        yield channel


def _told(client_id: Optional[str] = None, *more: Tuple[str, Any]) -> Metadata:
    known = [("client_id", uuid.uuid4().hex if client_id is None else client_id)]
    return [*known, ("reconnecting", "False"), *more]


async def _end(call: Any, *, but: Tuple[Code, ...] = (Code.OK,)) -> str:
    """Waits for the call's end and names it; a status in ``but``, or a fault's, is a finding."""
    code = await asyncio.wait_for(call.code(), _PATIENCE_S)
    if code is Code.INTERNAL and await call.details() == _LOST:
        return "refused, status lost"
    if code is _FAULT or code in but:
        raise Fault(f"{code.name}: {await call.details()}")
    return "answered" if code is Code.OK else f"refused, {code.name}"


async def _stream(target: Target, metadata: Metadata, *messages: bytes, ends: bool = True) -> str:
    """Sends messages on a data stream and waits for its end; leaves if it need not end."""
    async with _channel(target) as channel:
        call = channel.stream_stream(DATAPATH)(metadata=metadata)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for message in messages:
                await call.write(message)
            if ends:
                await asyncio.wait_for(_read_to_end(call), _PATIENCE_S)
        if ends:
            return await _end(call)
        call.cancel()
        return "left by itself"


async def _read_to_end(call: Any) -> List[bytes]:
    came: List[bytes] = []
    while (message := await call.read()) is not grpc.aio.EOF:
        came.append(message)
    return came


def _init(job_config: bytes, grace_s: int = 0, **more: Any) -> bytes:
    init = protocol.InitRequest(
        job_config=job_config, ray_init_kwargs="{}", reconnect_grace_period=grace_s, **more
    )
    return protocol.DataRequest(req_id=1, init=init).SerializeToString()


# -- the first message


async def _garbage_first(target: Target, chance: random.Random) -> str:
    garbage = chance.randbytes(chance.choice([1, 10, 1000, 100_000]))
    return await _stream(target, _told(), chance.choice([garbage, b"", b"\xff" * 64, b"\x08\x01"]))


async def _wrong_first(target: Target, chance: random.Random) -> str:
    request = protocol.DataRequest(req_id=chance.randrange(-5, 5))
    kinds = [field.name for field in request.DESCRIPTOR.oneofs_by_name["type"].fields]
    getattr(request, chance.choice([k for k in kinds if k != "init"])).SetInParent()
    return await _stream(target, _told(), request.SerializeToString())


async def _hostile_job_config(target: Target, chance: random.Random) -> str:
    answers = await _answers_to_init(target, chance.choice(JOB_CONFIGS))
    if not answers or answers[0].init.ok or not answers[0].init.msg:
        raise Fault(f"a hostile job config was answered with {answers}")
    return "refused in the answer"


async def _answers_to_init(target: Target, job_config: bytes) -> List[Any]:
    async with _channel(target) as channel:
        call = channel.stream_stream(DATAPATH)(metadata=_told())
        await call.write(_init(job_config))
        answers = await asyncio.wait_for(_read_to_end(call), _PATIENCE_S)
        await call.code()
        return [protocol.DataResponse.FromString(answer) for answer in answers]


async def _impossible_past(target: Target, chance: random.Random) -> str:
    return await _stream(target, _told(), _init(pickle.dumps(JobConfig()), after=2**32 - 1))


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


_CLASS = _text("ray.job_config") + _text("JobConfig") + b"\x93"
JOB_CONFIGS = [
    b"\x80\x04" + made + b"."
    for made in (
        b"garbage",
        _text("os") + _text("system") + b"\x93" + _text("exit 1") + b"\x85R",
        _text("builtins") + _text("open") + b"\x93" + _text("/dev/null") + b"\x85R",
        _CLASS + b"N}" + _text("_get_serialized_runtime_env") + _text("x") + b"s\x86b",
        b"Nr\xff\xff\xff\x7f",
        b"})" + b"\x85" * 300_000 + b"Ns",
        b"\x8e" + (1 << 50).to_bytes(8, "little"),
        _CLASS + b")\x81}" + _text("runtime_env") + _text("x") + b"sb",
        pickle.dumps(JobConfig(runtime_env={"pip": "/etc/hostname"}))[2:-1],
        pickle.dumps(JobConfig(runtime_env={"env_vars": {"a": 1}}))[2:-1],
    )
]


# -- who calls


async def _no_client_id(target: Target, chance: random.Random) -> str:
    metadata = chance.choice([[], _told(""), [("client_id-bin", b"x")], [("reconnecting", "x")]])
    return await _stream(target, metadata, _init(pickle.dumps(JobConfig())))


async def _unknown_session(target: Target, chance: random.Random) -> str:
    client_id = chance.choice([uuid.uuid4().hex, "x" * 4000, "\u0020", "%00"])
    stale = ("ray-client-incarnation", chance.choice(["1", "0", "9" * 3000, "-1", "x"]))
    metadata = [("client_id", client_id), ("reconnecting", "True"), stale]
    return await _stream(target, metadata, _init(pickle.dumps(JobConfig())))


async def _theft(target: Target, chance: random.Random) -> str:
    secret = ("ray-client-session-secret", chance.choice(["", "0" * 32, "x" * 3000]))
    metadata = [
        ("client_id", target.victim),
        ("reconnecting", chance.choice(["True", "False"])),
        *chance.choice([[], [secret]]),
    ]
    return await _stream(target, metadata, _init(pickle.dumps(JobConfig())))


async def _stolen_calls(target: Target, chance: random.Random) -> str:
    return await _unary(target, chance, [("client_id", target.victim)])


# -- calls beside the stream


# What writes into the cluster's store is open to whoever has no session yet, as in stock.
_METHODS = [
    method.path
    for name, method in protocol.DRIVER.items()
    if method.kind == "unary_unary" and name not in ("KVPut", "KVDel")
]


async def _unary(target: Target, chance: random.Random, metadata: Metadata) -> str:
    message = chance.choice([b"", chance.randbytes(chance.choice([3, 300, 30_000]))])
    async with _channel(target) as channel:
        call = channel.unary_unary(chance.choice(_METHODS))(
            message, metadata=metadata, timeout=_PATIENCE_S
        )
        return await _end(call, but=())


async def _strangers_calls(target: Target, chance: random.Random) -> str:
    return await _unary(target, chance, chance.choice([[], _told(), _told("")]))


async def _unknown_method(target: Target, chance: random.Random) -> str:
    path = chance.choice(["/ray.rpc.RayletDriver/No", "/no.Such/Thing", "/", "/" + "x" * 2000])
    async with _channel(target) as channel:
        call = channel.unary_unary(path)(b"x", metadata=_told(), timeout=_PATIENCE_S)
        return await _end(call)


async def _strangers_logs(target: Target, chance: random.Random) -> str:
    async with _channel(target) as channel:
        call = channel.stream_stream(LOGSTREAM)(metadata=_told())
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(chance.randbytes(30))
        await asyncio.sleep(chance.random())
        call.cancel()
        return "left by itself"


async def _many_streams(target: Target, chance: random.Random) -> str:
    async with _channel(target) as channel:
        calls = [channel.stream_stream(DATAPATH)(metadata=_told()) for _ in range(30)]
        await asyncio.sleep(0.1 * chance.random())
        for call in calls:
            call.cancel()
    return "left by itself"


# -- after a true beginning


def _put(req_id: int, chunk: int, count: int) -> bytes:
    put = protocol.PutRequest(data=pickle.dumps(1), chunk_id=chunk, total_chunks=count)
    return protocol.DataRequest(req_id=req_id, put=put).SerializeToString()


def _acknowledge(req_id: int) -> bytes:
    request = protocol.AcknowledgeRequest(req_id=req_id)
    return protocol.DataRequest(acknowledge=request).SerializeToString()


_BREAKING = [
    [b"\xff" * 64],
    [_put(2, 3, 5)],
    [_put(2, 0, 5), _put(2, 2, 5)],
    [_put(2, 0, 5), _put(3, 0, 2)],
    [_put(2, 0, 1), _acknowledge(2), _put(2, 0, 1)],
    [_put(-7, 0, 1)],
]
_STRANGE = [
    [_put(number, 0, 1) for number in (900, 2**31 - 1, 5, 5, 5, 1)],
    [_put(2, 0, 1)] * 20,
    [_put(2, 0, 1), *(_acknowledge(number) for number in (2**31 - 1, 1, 0, 7))],
]


async def _broken_session(target: Target, chance: random.Random) -> str:
    return await _session(target, chance.choice(_BREAKING), ends=True)


async def _strange_session(target: Target, chance: random.Random) -> str:
    return await _session(target, chance.choice(_STRANGE), ends=False)


async def _session(target: Target, requests: List[bytes], ends: bool) -> str:
    # With a grace period, without which nothing may be repeated and so nothing is checked.
    begin = _init(pickle.dumps(JobConfig()), grace_s=1)
    metadata = _told(None, ("ray-client-session-secret", "s" * 32))
    async with _channel(target) as channel:
        call = channel.stream_stream(DATAPATH)(metadata=metadata)
        await call.write(begin)
        first = await asyncio.wait_for(call.read(), _PATIENCE_S)
        answer = protocol.DataResponse.FromString(first)
        if not answer.init.ok:
            raise Fault(f"a session could not begin: {answer.init.msg}")
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for request in requests:
                await call.write(request)
            if ends:
                await asyncio.wait_for(_read_to_end(call), _PATIENCE_S)
            else:
                # Each is answered, or the stream broken: by then all were looked at.
                await asyncio.wait_for(call.read(), _PATIENCE_S)
        if ends:
            return await _end(call)
        call.cancel()
        return "left by itself"


ATTACKS: Dict[str, Attack] = {
    "garbage message": _garbage_first,
    "wrong first message": _wrong_first,
    "hostile job config": _hostile_job_config,
    "impossible past": _impossible_past,
    "no client id": _no_client_id,
    "unknown session": _unknown_session,
    "another's session": _theft,
    "calls for another's session": _stolen_calls,
    "calls without a session": _strangers_calls,
    "unknown method": _unknown_method,
    "logs of nobody": _strangers_logs,
    "many streams at once": _many_streams,
}
# These make the proxier start a server each, which takes a second of a core.
COSTLY: Dict[str, Attack] = {
    "broken session": _broken_session,
    "strange session": _strange_session,
}
