"""What waits for the answers to a client's requests."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulation.network import Route, Status, Wire
from tests.simulation.shell import Shell


class Answer:
    """Waits for one answer."""

    def __init__(self, shell: Shell) -> None:
        self.future: asyncio.Future = shell.process.future()

    def done(self, response: Any) -> bool:
        if not self.future.done():
            self.future.set_result(response)
        return True

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()

    def restart(self) -> None:
        pass


class Beginning(Answer):
    """Waits for the answer to the init."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self._negotiated = shell.negotiated

    def done(self, response: Any) -> bool:
        self._negotiated(response.init)
        return super().done(response)


class Ticket(Answer):
    """Waits for a ticket, as whoever asks for the cluster's ids does.

    ``names``: of what the ticket is for.
    """

    def __init__(self, shell: Shell, names: tuple[bytes, ...]) -> None:
        super().__init__(shell)
        self.names = names

    async def told(self) -> None:
        """Waits until it has come, or will not."""
        await asyncio.wait({self.future})


class UnaryCaller:
    """A client's end of a unary call."""

    def __init__(self, shell: Shell, route: Route) -> None:
        self.future: asyncio.Future = shell.process.future()
        self._answer = b""
        self.wire = Wire(route, self)

    def took(self, data: bytes) -> None:
        self._answer = data

    def room(self) -> None:
        pass

    def ended(self, status: Status) -> None:
        if not self.future.done():
            self.future.set_result((self._answer, status))
