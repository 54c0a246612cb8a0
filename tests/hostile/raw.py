"""Attacks that need no gRPC: bytes on a TCP connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from typing import Awaitable, Callable, Dict

from tests.support.ports import LOOPBACK
from tests.support.raw import http2_call

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
# How long the server's answer is read before the attacker leaves, in seconds.
STAY_S = 0.2
_DATAPATH = "/ray.rpc.RayletDataStreamer/Datapath"

Attack = Callable[["Target", random.Random], Awaitable[str]]


class Target:
    """What is attacked.

    Attributes:
        port: the client port, on the loopback interface.
        victim: the client id of the session that is not to notice.
    """

    def __init__(self, port: int, victim: str) -> None:
        self.port = port
        self.victim = victim


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


async def _exchange(target: Target, *parts: bytes, pause_s: float = 0.0) -> str:
    """Sends the parts one by one; returns whether the server hung up by then or soon after."""
    reader, writer = await asyncio.open_connection(LOOPBACK, target.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.wait_for(_read_to_end(reader), STAY_S)
        return "hung up on"
    except asyncio.TimeoutError:
        return "left by itself"
    except OSError:
        return "hung up on"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def _nonsense(target: Target, chance: random.Random) -> str:
    return await _exchange(target, chance.randbytes(chance.choice([1, 24, 100, 4096, 100_000])))


async def _half_a_tls_hello(target: Target, chance: random.Random) -> str:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(32)
    return await _exchange(target, hello[: chance.randrange(1, len(hello))])


async def _http1(target: Target, chance: random.Random) -> str:
    heads = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /ray.rpc.RayletDriver/KVGet HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000,
    ]
    return await _exchange(target, chance.choice(heads))


async def _garbage_frames(target: Target, chance: random.Random) -> str:
    frames = b"".join(
        frame(
            chance.randrange(12),
            chance.randrange(256),
            chance.choice([0, 1, 2, 3, 2**31 - 1]),
            chance.randbytes(chance.choice([0, 1, 4, 5, 8, 40])),
        )
        for _ in range(chance.randrange(1, 50))
    )
    return await _exchange(target, PREFACE, frame(SETTINGS), frames)


async def _broken_preface(target: Target, chance: random.Random) -> str:
    return await _exchange(target, PREFACE[: chance.randrange(len(PREFACE))], chance.randbytes(200))


async def _oversize_frame(target: Target, chance: random.Random) -> str:
    header = b"\xff\xff\xff" + struct.pack(">BBI", chance.choice([DATA, HEADERS, SETTINGS]), 0, 1)
    return await _exchange(target, PREFACE, frame(SETTINGS), header + b"x" * 1000)


async def _oversize_message(target: Target, chance: random.Random) -> str:
    paths = [_DATAPATH, "/ray.rpc.RayletDriver/KVGet"]
    length = struct.pack(">BI", chance.choice([0, 1, 255]), chance.choice([2**32 - 1, 2**31]))
    return await _exchange(target, http2_call(chance.choice(paths), length + b"x" * 1000))


async def _settings_flood(target: Target, chance: random.Random) -> str:
    setting = struct.pack(">HI", chance.randrange(8), chance.choice([0, 1, 2**31 - 1, 2**32 - 1]))
    return await _exchange(target, PREFACE, frame(SETTINGS), frame(SETTINGS, 0, 0, setting) * 1000)


async def _ping_flood(target: Target, chance: random.Random) -> str:
    pings = (frame(PING, 0, 0, chance.randbytes(8)) for _ in range(1000))
    return await _exchange(target, PREFACE, frame(SETTINGS), b"".join(pings))


async def _rapid_resets(target: Target, chance: random.Random) -> str:
    call = http2_call(_DATAPATH, b"")
    # The header block of that call, on as many streams as come.
    opening = call.index(bytes([HEADERS]), len(PREFACE) + 9) - 3
    length = int.from_bytes(call[opening : opening + 3], "big")
    block = call[opening + 9 : opening + 9 + length]
    flood = b"".join(
        frame(HEADERS, 4, stream, block) + frame(RESET, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 400, 2)
    )
    return await _exchange(target, PREFACE, frame(SETTINGS), flood)


async def _endless_headers(target: Target, chance: random.Random) -> str:
    piece = b"\x00\x01a" + bytes([100]) + b"b" * 100
    more = frame(CONTINUATION, 0, 1, piece * 50) * 40
    return await _exchange(target, PREFACE, frame(SETTINGS), frame(HEADERS, 0, 1, piece), more)


async def _bad_header_block(target: Target, chance: random.Random) -> str:
    block = chance.choice([b"\xff" * 20, b"\x82\x86\x84\xbe", chance.randbytes(60)])
    return await _exchange(target, PREFACE, frame(SETTINGS), frame(HEADERS, 5, 1, block))


async def _window_overflow(target: Target, chance: random.Random) -> str:
    update = struct.pack(">I", 2**31 - 1)
    return await _exchange(
        target, PREFACE, frame(SETTINGS), *[frame(WINDOW, 0, chance.choice([0, 1]), update)] * 3
    )


async def _closed_window(target: Target, chance: random.Random) -> str:
    nothing = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    call = http2_call("/ray.rpc.RayletDriver/ClusterInfo", b"\0\0\0\0\x02\x08\x05")
    return await _exchange(target, PREFACE + nothing + call[len(PREFACE) :])


async def _slowly(target: Target, chance: random.Random) -> str:
    call = http2_call(_DATAPATH, b"\0\0\0\1\0")
    some = call[: chance.randrange(20, len(call))]
    parts = (some[at : at + 8] for at in range(0, len(some), 8))
    return await _exchange(target, *parts, pause_s=0.05)


async def _silence(target: Target, chance: random.Random) -> str:
    return await _exchange(target, pause_s=chance.random())


async def _connect_and_reset(target: Target, chance: random.Random) -> str:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, target.port))
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "left by itself"


ATTACKS: Dict[str, Attack] = {
    "random bytes": _nonsense,
    "half a TLS hello": _half_a_tls_hello,
    "HTTP/1": _http1,
    "garbage frames": _garbage_frames,
    "broken preface": _broken_preface,
    "oversize frame": _oversize_frame,
    "oversize message": _oversize_message,
    "SETTINGS flood": _settings_flood,
    "PING flood": _ping_flood,
    "rapid resets": _rapid_resets,
    "endless headers": _endless_headers,
    "bad header block": _bad_header_block,
    "window overflow": _window_overflow,
    "closed window": _closed_window,
    "slow sender": _slowly,
    "silence": _silence,
    "connect and leave": _connect_and_reset,
}
