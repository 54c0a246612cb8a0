"""A TCP link between a client and its server that breaks when told to."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import Any, Coroutine, Optional, Set

from tests.support.ports import LOOPBACK
from tests.support.waiting import eventually

_CHUNK = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE_S = 30


class _Connection:
    """One client connection and its upstream half, as two pumps."""

    def __init__(self, link: Link, writers: Set[asyncio.StreamWriter], silent: bool) -> None:
        self._link = link
        self._writers = writers
        self.silent = silent

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction until either side closes; swallows everything when silent."""
        while True:
            data = await reader.read(_CHUNK)
            if not data:
                break
            if self._link.delay_s:
                await asyncio.sleep(self._link.delay_s)
            await self._link.allow(len(data))
            if not self.silent:
                writer.write(data)
                await writer.drain()
        if not self.silent:
            writer.close()

    def reset(self) -> None:
        """Closes both halves at once with a TCP reset. Does nothing to a half that is closed."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class Link:
    """Forwards TCP connections to a port of the loopback interface. Thread-safe.

    Use as a context manager. ``port`` is where to connect to.

    Args:
        target_port: the port that connections are forwarded to.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self.port = 0
        self._target_port = target_port
        self._dark = False
        # How many more bytes pass before all stand still; None: any number.
        self._allowance: Optional[int] = None
        self._free = asyncio.Event()
        self._connections: Set[_Connection] = set()
        self._server: Optional[asyncio.AbstractServer] = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link")

    def __enter__(self) -> Link:
        self._thread.start()
        self._do(self._set_allowance(None))
        self._do(self._listen(0))
        return self

    def __exit__(self, *_: Any) -> None:
        try:
            self._do(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Resets every connection. New ones are forwarded again."""
        self._do(self._reset_all())

    def black_hole(self) -> None:
        """From now on nothing gets through, on present connections and new ones, and no side is
        told. Connections that were open at this moment stay dead for good."""
        self._do(self._go_dark())

    def heal(self) -> None:
        """Ends :meth:`black_hole` for connections that are made from now on."""
        self._do(self._end_darkness())

    def refuse(self) -> None:
        """Resets every connection and listens no more, until :meth:`accept`."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Listens again, at the same port."""
        self._do(self._listen(self.port))

    def hold_after(self, count: int) -> None:
        """Lets about so many more bytes through, both ways together; then all stands still, on
        open connections, until :meth:`go_on`."""
        self._do(self._set_allowance(count))

    def wait_held(self) -> None:
        """Returns once everything stands still after :meth:`hold_after`."""
        eventually(lambda: self._allowance == 0, "the link to have carried what it may")

    def go_on(self) -> None:
        """Ends :meth:`hold_after`."""
        self._do(self._set_allowance(None))

    async def allow(self, count: int) -> None:
        """Waits until so many bytes may pass. For connections only."""
        if self._allowance is not None:
            self._allowance = max(0, self._allowance - count)
            if self._allowance == 0:
                self._free.clear()
        await self._free.wait()

    async def _set_allowance(self, count: Optional[int]) -> None:
        self._allowance = count
        self._free.set()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_PATIENCE_S)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, {writer, up_writer}, silent=self._dark)
        self._connections.add(connection)
        pumps = (connection.pump(reader, up_writer), connection.pump(up_reader, writer))
        try:
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            # A silent connection stays as it is, telling nobody, until the link is closed.
            if not connection.silent:
                self._connections.discard(connection)
                writer.close()
                up_writer.close()

    async def _reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _go_dark(self) -> None:
        self._dark = True
        for connection in self._connections:
            connection.silent = True

    async def _end_darkness(self) -> None:
        self._dark = False

    async def _refuse(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._reset_all()

    async def _close(self) -> None:
        await self._refuse()
        await self._set_allowance(None)
        # With its sockets reset every task comes to its end; to cancel them would only be noisy.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
