"""What a client would have to submit again if the session's server died: its journal.

The journal holds an entry for every function, put, task, actor, look-up and actor call that a live
reference needs (its lineage), and decides what becomes of each after a death, by the contract in
docs/recovery.md. No I/O, threads or clock; messages and values are opaque.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Union


class Kind(enum.Enum):
    """What an entry is."""

    PAYLOAD = enum.auto()  # a function, an actor class
    PUT = enum.auto()
    TASK = enum.auto()
    ACTOR = enum.auto()
    DETACHED = enum.auto()  # an actor that outlives the session's servers
    NAMED = enum.auto()  # an actor that was looked up by its name
    CALL = enum.auto()
    PART = enum.auto()  # an object that came inside the value of another one
    HANDLE = enum.auto()  # an actor whose handle came inside a value; it lives by itself


class Reason(enum.Enum):
    """Why something is lost."""

    NO_RETRY = enum.auto()  # the user said not to run it again, or the budget is used up
    ACTOR_DIED = enum.auto()
    ACTOR_UNAVAILABLE = enum.auto()  # a call that may not be repeated, of an actor that lives
    NOT_KEPT = enum.auto()  # the journal was full
    ADOPTED = enum.auto()  # came out of the cluster; nothing here can make it again
    SWITCHED_OFF = enum.auto()  # the user wants no replay
    CANCELLED = enum.auto()  # the user has cancelled it


class Seen(NamedTuple):
    """The client has the value."""

    value: Any


class Lost(NamedTuple):
    """It is gone for good."""

    reason: Reason


class Ask(enum.Enum):
    """The server is to be asked for it."""

    SERVER = enum.auto()


Outcome = Union[Seen, Lost, Ask]


class Recorded(enum.Enum):
    """What came of recording an entry."""

    KEPT = enum.auto()
    NEARLY_FULL = enum.auto()  # kept; told once, when the bound comes near
    SPILLED = enum.auto()  # over the bound of memory: kept, and its message is to go elsewhere
    NOT_KEPT = enum.auto()  # over the bound: works, but does not survive a death


class Submission(NamedTuple):
    """What the journal is to know of a request.

    Attributes:
        kind: what it is.
        names: tokens of what it makes.
        needs: names of what it refers to; of a call, the actor's is first.
        retries: how often it may be run again after a death; -1 is without limit.
    """

    kind: Kind
    names: tuple[bytes, ...]
    needs: tuple[bytes, ...] = ()
    retries: int = 0


class Resend(NamedTuple):
    """Submit the entry's message again.

    ``unwanted``: names of what it makes that stand for values that were seen.
    """

    entry: Entry
    unwanted: tuple[bytes, ...] = ()


class PutValue(NamedTuple):
    """Put what the client has seen, a value or an error, under its name: it must never become
    another one."""

    name: bytes
    value: Any


class LookUp(NamedTuple):
    """Find the entry's actor by its name in the cluster; it lives there by itself."""

    entry: Entry


Action = Union[Resend, PutValue, LookUp]

# A value that was seen and is kept; its size in bytes; whether it may be put on a server. Not a
# named tuple: making one takes longer than all else that is done with it.
_Value = tuple[Any, int, bool]

_NO_LIMIT = -1
# Looking a member up in its enumeration costs as much as a call, and so does hashing one: hence
# names of their own here for what every call needs, and tuples.
_KEPT, _SERVER = Recorded.KEPT, Ask.SERVER
_CALL = Kind.CALL
_RUNS = (Kind.TASK, _CALL)
# What may have a value that is worth keeping, since it can't simply be put again.
_VALUED = (*_RUNS, Kind.PART)
_WARN_AT = 0.8


class Entry:
    """One submission. Made and changed by the journal only; ``message`` is the shell's.

    Attributes:
        names: what it defines.
        needs: names that must exist before it can be submitted; of a call, the actor's is first.
        retries: how often it may still be run again; -1 is without limit.
        incarnation: of the server that has it, or is just being given it.
        lost: why it is gone, if it is.
        kept: whether the message is still there.
        spilled: whether its message is kept elsewhere than in memory.
        place: in the order of all that was submitted, from 1.
        started: of an actor that outlives servers: whether it is known to live by itself.
    """

    __slots__ = (
        "kind", "names", "needs", "message", "size", "retries", "incarnation", "lost", "kept",
        "spilled", "place", "_held", "_finished", "_users", "_absent", "_charged", "_unheld",
        "_handed", "_ended", "started",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        names: tuple[bytes, ...],
        message: Any,
        size: int,
        needs: tuple[bytes, ...] = (),
        retries: int = 0,
    ) -> None:
        self.kind = kind
        self.names = names
        self.needs = needs
        self.message = message
        self.size = size
        self.retries = retries
        self.incarnation = self.place = 0
        self.lost: Lost | None = None
        self.kept = True
        self.spilled = False
        # Bits by the names' order: held by the user; known to be finished.
        self._held = (1 << len(names)) - 1
        self._finished = 0
        # How many entries need it, and how many of them the present server has not been given.
        self._users = self._absent = 0
        self._charged = False
        # Those that a server was given again only for the sake of what needs them.
        self._unheld = 0
        # Whether a server may have been given it that is dead by now; whether the user ended it.
        self._handed = self._ended = False
        self.started = False

    @property
    def finished(self) -> bool:
        """Whether all that it defines is known to be finished."""
        return self._finished == (1 << len(self.names)) - 1

    def _spend(self) -> bool:
        if self.retries == 0:
            return False
        if self.retries != _NO_LIMIT:
            self.retries -= 1
        return True

    def _bit(self, name: bytes) -> int:
        return 1 if len(self.names) == 1 else 1 << self.names.index(name)


class Journal:
    """The entries that live references need, in the order of their submission.

    Not thread-safe: the owner serialises all calls.

    Args:
        max_bytes: of messages, together.
        max_entries: how many.
        max_value_bytes: of values that were seen, together; the least recently used go first.
        replays: False keeps nothing but functions and classes: after a death all else is lost.
        spills: whether there is room elsewhere for messages that go beyond ``max_bytes``.

    Attributes:
        bytes, entries, value_bytes: what is held now.
        spilled_bytes: of messages that are kept elsewhere.
        restored, resubmitted, lost: counted since the last death.
        newly_lost: the entries that were lost and not taken yet, with the messages they had.
    """

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        max_value_bytes: int,
        replays: bool = True,
        spills: bool = False,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._warn_bytes = _WARN_AT * max_bytes
        self._warn_entries = _WARN_AT * max_entries
        self._max_value_bytes = max_value_bytes
        self._replays = replays
        self._spills = spills
        self._by_name: dict[bytes, Entry] = {}
        self._adopted: dict[bytes, int] = {}
        self._values: OrderedDict[bytes, _Value] = OrderedDict()
        self._incarnation = 1
        self._last_place = 0
        self._warned = False
        self.newly_lost: list[tuple[Entry, Any]] = []
        self._unneeded: list[bytes] = []
        self.bytes = 0
        self.spilled_bytes = 0
        self.entries = 0
        self.value_bytes = 0
        self.restored = 0
        self.resubmitted = 0
        self.lost: Counter[Reason] = Counter()

    # -- what the user does

    def next_place(self) -> int:
        """The place of what is submitted now, which has no names, and so is no entry."""
        self._last_place += 1
        return self._last_place

    def place_of(self, name: bytes) -> int:
        """The place of what has made a name; 0 if that is not known."""
        entry = self._by_name.get(name)
        return 0 if entry is None else entry.place

    def record(self, entry: Entry) -> Recorded:
        """Files an entry that is about to be sent. Its names are held from now on."""
        entry.incarnation = self._incarnation
        self._last_place = entry.place = self._last_place + 1
        by_name = self._by_name
        for name in entry.names:
            by_name[name] = entry
        for name in entry.needs:
            needed = by_name.get(name)
            if needed is not None:
                needed._users += 1
        self.entries += 1
        if not self._replays and entry.kind is not Kind.PAYLOAD:
            entry.message, entry.kept, entry.size = None, False, 0
            return _KEPT
        if self.bytes + entry.size > self._max_bytes or self.entries > self._max_entries:
            if self._spills and self.entries <= self._max_entries:
                entry.spilled = True
                self.spilled_bytes += entry.size
                return Recorded.SPILLED
            entry.message, entry.kept, entry.size = None, False, 0
            return Recorded.NOT_KEPT
        self.bytes += entry.size
        if self.bytes > self._warn_bytes or self.entries > self._warn_entries:
            return self._nearly_full()
        return _KEPT

    def discard(self, entry: Entry) -> None:
        """An entry's message could not be kept elsewhere: it is lost with the server."""
        self._free(entry)
        entry.message, entry.kept, entry.size = None, False, 0

    def give_up(self, entry: Entry) -> None:
        """An entry's message can't be had any more, now that it is needed: it is lost."""
        self._lose(entry, Reason.NOT_KEPT)

    def _free(self, entry: Entry) -> None:
        if entry.spilled:
            self.spilled_bytes -= entry.size
        else:
            self.bytes -= entry.size

    def _nearly_full(self) -> Recorded:
        if self._warned:
            return Recorded.KEPT
        self._warned = True
        return Recorded.NEARLY_FULL

    def adopt(self, name: bytes) -> None:
        """The present server has given the client a name of its own making, or held it again."""
        entry = self._by_name.get(name)
        if entry is not None:
            entry._held |= entry._bit(name)
        else:
            self._adopted[name] = self._incarnation

    def holds(self, name: bytes) -> bool:
        """Whether the user holds a reference of that name."""
        entry = self._by_name.get(name)
        return name in self._adopted if entry is None else bool(entry._held & entry._bit(name))

    def contains(self, source: bytes, names: Sequence[bytes]) -> None:
        """The value of ``source`` refers to these, in this order, each named once.

        Those that came to the client with it can be had again from it.
        """
        entry = self._by_name.get(source)
        if entry is None or entry.kind not in _VALUED:
            return
        for index, name in enumerate(names):
            if self._adopted.pop(name, None) is not None:
                self.record(Entry(Kind.PART, (name,), index, _PART_SIZE, (source,)))

    def adopt_handle(self, name: bytes, message: Any, size: int) -> None:
        """The present server has given the client a handle of an actor that it did not make.

        ``message`` finds the actor again; it is ``size`` bytes large.
        """
        if name in self._adopted:
            del self._adopted[name]
            self.record(Entry(Kind.HANDLE, (name,), message, size))

    def drop(self, name: bytes) -> bool:
        """The user holds no reference of that name any more. Unknown names are ignored.

        Returns:
            Whether the server may let go of it. If not, :meth:`take_unneeded` tells when it may:
            what needs it may still have to be made again.
        """
        entry = self._by_name.get(name)
        if entry is None:
            self._adopted.pop(name, None)
            return True
        entry._held &= ~entry._bit(name)
        if not entry._held and not entry._users:
            self._forget(entry)
            return True
        found = self._values.get(name)
        if found is not None and not _is_restorable(found):
            self._drop_value(name)
        if not entry._absent or entry.incarnation != self._incarnation:
            return True
        entry._unheld |= entry._bit(name)
        return False

    def _forget(self, entry: Entry) -> None:
        # Chains of lineage are long, so this must not recurse.
        unneeded = [entry]
        while unneeded:
            entry = unneeded.pop()
            self.entries -= 1
            self._free(entry)
            for name in entry.names:
                if entry._unheld and entry._unheld & entry._bit(name):
                    self._unneeded.append(name)
                del self._by_name[name]
                if name in self._values:
                    self._drop_value(name)
            entry.message = None
            given = entry.incarnation == self._incarnation
            for name in entry.needs:
                needed = self._by_name.get(name)
                if needed is None:
                    continue
                needed._users -= 1
                if not given:
                    needed._absent -= 1
                if not needed._users and not needed._held:
                    unneeded.append(needed)

    def forbid(self, name: bytes) -> None:
        """What the name stands for was cancelled or killed: it is not to be run again."""
        entry = self._by_name.get(name)
        if entry is not None:
            entry.retries, entry._ended = 0, True

    def take_unneeded(self) -> list[bytes]:
        """Names that the server was given again for the sake of others, and may now release."""
        unneeded, self._unneeded = self._unneeded, []
        return unneeded

    def knows(self, entry: Entry) -> bool:
        """Whether the entry is still kept for somebody."""
        return bool(entry.names) and self._by_name.get(entry.names[0]) is entry

    # -- what the server says

    def finished(self, name: bytes) -> None:
        """The object is ready, or failed; its value was not seen."""
        entry = self._by_name.get(name)
        if entry is not None:
            entry._finished |= entry._bit(name)

    def seen(
        self, name: bytes, value: Any, size: int, restorable: bool = True, failed: bool = False
    ) -> None:
        """The client has got the value. It is kept within the bound, in bytes, of all values.

        Args:
            name: of the object.
            value: opaque.
            size: in bytes.
            restorable: whether it may be put on a server. What refers to other objects may not: it
                is kept for as long as the user holds its name, and is then only read.
            failed: whether it is an error.
        """
        entry = self._by_name.get(name)
        if entry is None:
            return
        entry._finished |= entry._bit(name)
        if entry.kind is _CALL and not failed:
            self._note_started(entry.needs[0])
        if size > self._max_value_bytes or entry.kind not in _VALUED:
            return
        if not restorable and not entry._held & entry._bit(name):
            return
        if name in self._values:
            self._drop_value(name)
        self._values[name] = value, size, restorable
        self.value_bytes += size
        while self.value_bytes > self._max_value_bytes:
            self._drop_value(next(iter(self._values)))

    def _note_started(self, actor: bytes) -> None:
        entry = self._by_name.get(actor)
        if entry is not None:
            entry.started = True

    def _drop_value(self, name: bytes) -> None:
        _, size, _ = self._values.pop(name)
        self.value_bytes -= size

    def has_heard_of(self, name: bytes) -> bool:
        """Whether anything was filed or adopted under a name that is still held."""
        return name in self._by_name or name in self._adopted

    def outcome(self, name: bytes) -> Outcome:
        """What is known of an object, without asking the server."""
        found = self._values.get(name)
        if found is not None:
            return Seen(found[0])
        return self._why_gone(name) or _SERVER

    # -- a death

    def new_incarnation(
        self,
        incarnation: int,
        unanswered: Collection[Entry] = (),
        unhanded: Collection[Entry] = (),
    ) -> list[Action]:
        """Another server answers; the one before is dead with all that it had.

        Args:
            incarnation: of the new server.
            unanswered: entries whose answers somebody may be waiting for.
            unhanded: those of them that the dead server was not given, so that they cost no retry:
                what they have cost before has not been used.

        Returns:
            What is to be submitted at once, in this order: what was pending, the actors, and what
            these need. The rest waits until :meth:`require` asks for it.
        """
        self._incarnation = incarnation
        self.restored = self.resubmitted = 0
        self.lost.clear()
        if not self._replays:
            self._values.clear()
            self.value_bytes = 0
        eager = []
        for entry in self._in_order():
            entry._charged, entry._unheld, entry._absent = False, 0, entry._users
            if entry.lost is None and self._is_due(entry, entry in unanswered, entry in unhanded):
                eager.append(entry)
        return self._restore(eager)

    def _in_order(self) -> Iterator[Entry]:
        last = None
        for entry in list(self._by_name.values()):
            if entry is not last:
                yield entry
            last = entry

    def _is_due(self, entry: Entry, unanswered: bool, unhanded: bool) -> bool:
        """Whether an entry is to be submitted at once. Marks those that never will be as lost."""
        if not entry.kept:
            self._lose(entry, Reason.NOT_KEPT if self._replays else Reason.SWITCHED_OFF)
            return False
        if unhanded and not (entry._handed and entry._ended):
            entry._charged = True
            return True
        entry._handed = True
        if entry.kind not in _RUNS and entry.kind is not Kind.ACTOR:
            return unanswered
        if entry.kind in _RUNS and entry.finished:
            return False
        self._charge(entry)
        return entry.lost is None

    def _charge(self, entry: Entry) -> None:
        """Takes the retry that running an entry again costs; marks it as lost if it has none."""
        if entry._charged or entry.kind not in (Kind.TASK, Kind.CALL, Kind.ACTOR):
            return
        entry._charged = True
        if entry.kind is Kind.CALL and self._why_gone(entry.needs[0]) is not None:
            self._lose(entry, Reason.ACTOR_DIED)
        elif not entry._spend():
            cancelled = entry._ended and entry.kind is not Kind.ACTOR
            self._lose(entry, Reason.CANCELLED if cancelled else _REASONS_BY_KIND[entry.kind])

    def _lose(self, entry: Entry, reason: Reason) -> None:
        entry.lost = Lost(reason)
        self.newly_lost.append((entry, entry.message))
        self._free(entry)
        entry.message, entry.size = None, 0
        self.lost[reason] += 1

    def take_lost(self) -> list[tuple[Entry, Any]]:
        """What is :attr:`newly_lost`, which then is nothing any more."""
        lost, self.newly_lost = self.newly_lost, []
        return lost

    def _why_gone(self, name: bytes) -> Lost | None:
        """Why the present server can't have what the name stands for; None if it can."""
        found = self._values.get(name)
        if found is not None and _is_restorable(found):
            return None
        entry = self._by_name.get(name)
        if entry is not None:
            return entry.lost
        if self._adopted.get(name, self._incarnation) != self._incarnation:
            return Lost(Reason.ADOPTED)
        return None

    # -- making things exist on the present server

    def require(self, names: Iterable[bytes]) -> list[Action]:
        """What is to be submitted first so that the names exist on the present server.

        Names that are lost, or become so by this (:meth:`outcome` tells), are left out. Asking
        again gives nothing new.
        """
        wanted = []
        for name in names:
            entry = self._by_name.get(name)
            if entry is not None and entry.incarnation != self._incarnation:
                wanted.append(entry)
        return self._restore(wanted) if wanted else []

    def unstarted(self, entry: Entry) -> list[Action]:
        """The actor of an entry that was looked up has provably never started.

        Returns:
            What is to be submitted so that it does: nothing if nobody wants it any more.
        """
        if not self.knows(entry) or entry._ended or entry.lost is not None:
            return []
        entry._handed, entry.started, entry.incarnation = False, False, 0
        for name in entry.needs:
            needed = self._by_name.get(name)
            if needed is not None:
                needed._absent += 1
        self.restored -= 1
        return self._restore([entry])

    def _restore(self, wanted: list[Entry]) -> list[Action]:
        actions: list[Action] = []
        # Depth first without recursion: an entry comes twice, before and after what it needs.
        stack = [(entry, False) for entry in reversed(wanted)]
        under_way: set[Entry] = set()
        while stack:
            entry, ready = stack.pop()
            if entry.incarnation == self._incarnation:
                continue
            if entry.lost is not None:
                # Of several returns, those that were seen can still be had.
                actions.extend(self._puts(entry))
                self._given(entry)
            elif ready:
                self._submit(entry, actions)
            elif entry in under_way:
                # It came out of something that itself needs it.
                self._lose(entry, Reason.ADOPTED)
            elif not self._put_values(entry, actions):
                under_way.add(entry)
                self._charge(entry)
                if entry.lost is None:
                    stack.append((entry, True))
                    stack.extend(self._missing(entry))
        return actions

    def _missing(self, entry: Entry) -> Iterator[tuple[Entry, bool]]:
        for name in reversed(entry.needs):
            needed = self._by_name.get(name)
            if needed is not None and needed.incarnation != self._incarnation:
                yield needed, False

    def _put_values(self, entry: Entry, actions: list[Action]) -> bool:
        """Whether all that the entry defines was seen; then the values are put, and nothing run."""
        if entry.kind not in _VALUED or not entry.names:
            return False
        puts = self._puts(entry)
        if len(puts) < len(entry.names):
            return False
        actions.extend(puts)
        self._given(entry)
        self.restored += 1
        return True

    def _puts(self, entry: Entry) -> list[PutValue]:
        found = ((name, self._values.get(name)) for name in entry.names)
        return [
            PutValue(name, known[0]) for name, known in found if known and _is_restorable(known)
        ]

    def _given(self, entry: Entry) -> None:
        """The present server is given an entry, or what was seen of one that is lost."""
        entry.incarnation = self._incarnation
        for name in entry.needs:
            needed = self._by_name.get(name)
            if needed is not None:
                needed._absent -= 1
        entry._unheld = ((1 << len(entry.names)) - 1) & ~entry._held

    def _submit(self, entry: Entry, actions: list[Action]) -> None:
        for name in entry.needs:
            gone = self._why_gone(name)
            if gone is not None:
                self._lose(entry, gone.reason)
                return
        self._given(entry)
        if entry.kind is Kind.NAMED or (entry.kind is Kind.DETACHED and entry._handed):
            actions.append(LookUp(entry))
        else:
            # What was seen must not become another value, for no one.
            puts = self._puts(entry)
            actions.extend(puts)
            actions.append(Resend(entry, tuple(put.name for put in puts)))
        if entry.kind in _RUNS:
            self.resubmitted += 1
        else:
            self.restored += 1


def _is_restorable(known: _Value) -> bool:
    return known[2]


# What an entry costs that has no message to speak of, in bytes.
_PART_SIZE = 100

_REASONS_BY_KIND = {
    Kind.TASK: Reason.NO_RETRY,
    Kind.ACTOR: Reason.ACTOR_DIED,
    Kind.CALL: Reason.ACTOR_UNAVAILABLE,
}
