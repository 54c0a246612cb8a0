"""A client's references: how often each name is held, and what is said when the last one goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ray.util.client.session.client import Kind, Receipt
from tests.simulation.history import History
from tests.simulation.shell import Shell


class References:
    """What a client holds, by name.

    Args:
        shell: the client's session.
        history: where it is entered when a name is let go of.
    """

    def __init__(self, shell: Shell, history: History) -> None:
        self.shell = shell
        self._history = history
        self._held: dict[bytes, int] = {}
        self._handing = 0
        self._handed: dict[bytes, int] = {}
        shell.on_handed = self._on_handed

    def __contains__(self, name: bytes) -> bool:
        return name in self._held

    def hold(self, names: Iterable[bytes]) -> None:
        """One reference more of each."""
        for name in names:
            self._held[name] = self._held.get(name, 0) + 1

    def receive(self, name: bytes) -> None:
        """One reference more of a name that came in a value."""
        if name not in self._held:
            self.shell.adopt(name)
        self.hold((name,))

    def _on_handed(self, names: Sequence[bytes], handing: int) -> Hold:
        hold = Hold(self, names)
        if handing != self._handing:
            self._handing = handing
            self._handed.clear()
        for name in names:
            self._handed[name] = self._handed.get(name, 0) + 1
        return hold

    def release(self, name: bytes) -> None:
        """One reference less."""
        self._held[name] -= 1
        if self._held[name]:
            return
        del self._held[name]
        self._history.dropped[name] = self.shell.world.now
        times = self._handed.pop(name, 0)
        receipts = (Receipt(name, self._handing, times),) if times else ()
        if not self.shell.session.ended:
            self.shell.send(Kind.RELEASE, None, None, concerns=(name,), receipts=receipts)

    def release_later(self, name: bytes) -> None:
        """As :meth:`release`, out of a destructor's queue."""
        if self.shell.process.alive and name in self._held:
            self.release(name)

    def release_all(self) -> None:
        """Lets go of everything."""
        for name in list(self._held):
            while name in self._held:
                self.release(name)


class Hold:
    """References within a value that is kept, or read; when it goes, the names are let go of."""

    def __init__(self, references: References, names: Iterable[bytes]) -> None:
        self._references, self._names = references, tuple(names)
        for name in self._names:
            references.receive(name)

    def __del__(self) -> None:
        # As the product's destructors: only into a queue.
        references = self._references
        for name in self._names:
            references.shell.world.after(0, references.release_later, name)
