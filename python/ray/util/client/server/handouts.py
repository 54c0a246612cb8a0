"""What the answers of one data stream have handed to a client, until it says that it has got them.

A client's release may cross an answer that refers to what is released. The server therefore counts
the answers that refer to a thing, and the client tells with a release how many of them it had got
by then; while one is on its way, the thing stays. Counts hold for one stream: no answer of an
earlier one can still arrive once a new one has begun.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Deque, Dict, Iterable, List, NamedTuple

from ray.util.client.cache import id_is_newer

# Tells the hand-outs of one stream from those of all others, of other servers too.
_NUMBER_BITS = 63
# How many answers are remembered that the client has not acknowledged. Of those before them, what
# a broken stream has lost stays until the session's end if nobody asks for it again.
_MAX_ANSWERS = 10_000


class _Told(NamedTuple):
    req_id: int
    names: List[bytes]


class Handouts:
    """The hand-outs of one data stream. Not thread-safe: used on the stream's thread.

    Args:
        doubtful: names that answers of the stream before referred to, of which nobody knows
            whether the client has got them and holds them.

    Attributes:
        number: tells them from those of other streams; not 0.
    """

    def __init__(self, doubtful: Iterable[bytes] = ()) -> None:
        self.number = secrets.randbits(_NUMBER_BITS) + 1
        self._under_way: Dict[bytes, int] = {}
        self._doubtful = dict.fromkeys(doubtful)
        self._untold = list(self._doubtful)
        self._unacknowledged: Deque[_Told] = deque(maxlen=_MAX_ANSWERS)

    def hand(self, req_id: int, names: Iterable[bytes]) -> int:
        """The answer to a request refers to these, each named once. Returns :attr:`number`."""
        told = list(names)
        self._count(told)
        self._unacknowledged.append(_Told(req_id, told))
        return self.number

    def _count(self, names: Iterable[bytes]) -> None:
        for name in names:
            self._under_way[name] = self._under_way.get(name, 0) + 1

    def acknowledged(self, req_id: int) -> None:
        """The client has the answers up to this one."""
        answers = self._unacknowledged
        while answers and not id_is_newer(answers[0].req_id, req_id):
            answers.popleft()

    def withdrawn(self, req_id: int) -> None:
        """The client does not want the answer to a request, which may be on its way already."""
        for told in self._unacknowledged:
            if told.req_id == req_id:
                self._doubtful.update(self._open(told))

    def _open(self, told: _Told) -> Dict[bytes, None]:
        """What an answer has handed out that the client may not have got."""
        return dict.fromkeys(name for name in told.names if name in self._under_way)

    def received(self, number: int, name: bytes, times: int) -> None:
        """The client has got ``times`` answers that refer to ``name`` since it last said so.

        Those of streams with another ``number`` do not count any more.
        """
        if number != self.number:
            return
        left = self._under_way.get(name, 0) - times
        if left > 0:
            self._under_way[name] = left
        else:
            self._under_way.pop(name, None)

    def let_go(self, name: bytes) -> bool:
        """The client holds ``name`` no more. Returns whether no answer under way refers to it."""
        if name in self._under_way:
            self._doubtful[name] = None
            return False
        self._doubtful.pop(name, None)
        return True

    @property
    def doubtful(self) -> List[bytes]:
        """What the client may not hold, or not have got, if the stream breaks now."""
        unsure = dict(self._doubtful)
        for told in self._unacknowledged:
            unsure.update(self._open(told))
        return list(unsure)

    def take_doubtful(self) -> List[bytes]:
        """Hands out what came here as doubtful, once: the client releases what it does not hold."""
        untold, self._untold = self._untold, []
        names = [name for name in untold if name in self._doubtful]
        self._count(names)
        return names
