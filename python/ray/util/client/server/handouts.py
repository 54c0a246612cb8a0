"""What the answers of one data stream have handed to a client, until it says that it has got them.

A client's release may cross an answer that refers to what is released. The server therefore counts
the answers that refer to a thing, and the client tells with a release how many of them it had got
by then; while one is on its way, the thing stays. Counts hold for one stream: a client opens a
stream when it is done with the one before, so nothing of that is on its way any more.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Deque, Dict, Iterable, List, NamedTuple, Optional

from ray.util.client.cache import id_is_newer

# Tells the hand-outs of one stream from those of all others, of other servers too.
_NUMBER_BITS = 63
# How many names are remembered of answers that the client may not have got. Beyond that, what a
# broken stream has lost stays until the session's end if nobody asks for it again.
_MAX_NAMES = 100_000


class _Told(NamedTuple):
    """An answer that referred to ``names``, and the first request answered after it whose answer
    the client acknowledges."""

    names: List[bytes]
    before: int


class Handouts:
    """The hand-outs of one data stream.

    Not thread-safe, but for this: the next stream may begin on its own thread while this one is
    still at work.

    Attributes:
        number: tells them from those of other streams; not 0.
    """

    def __init__(self) -> None:
        self.number = secrets.randbits(_NUMBER_BITS) + 1
        self._under_way: Dict[bytes, int] = {}
        # Names of which nobody knows whether the client has got them, or holds them.
        self._doubtful: Dict[bytes, None] = {}
        self._untold: List[bytes] = []
        # Answers that the client may not have got, the newest ones apart.
        self._unsure: Deque[_Told] = deque()
        self._unsure_names = 0
        self._newest: List[bytes] = []
        self._next: Optional[Handouts] = None

    def succeed(self) -> Handouts:
        """Another stream of the client begins. Returns its hand-outs."""
        # First, so that what this stream still does is not left out.
        self._next = after = Handouts()
        after._doubt(self.doubtful)
        return after

    def _doubt(self, names: List[bytes]) -> None:
        self._doubtful.update(dict.fromkeys(names))
        self._untold.extend(names)

    def hand(self, names: Iterable[bytes]) -> int:
        """An answer refers to these, each named once. Returns :attr:`number`."""
        told = list(names)
        self._count(told)
        self._newest.extend(told)
        self._unsure_names += len(told)
        self._forget_oldest()
        if self._next is not None:
            self._next._doubt(told)
        return self.number

    def _count(self, names: Iterable[bytes]) -> None:
        for name in names:
            self._under_way[name] = self._under_way.get(name, 0) + 1

    def _forget_oldest(self) -> None:
        while self._unsure and self._unsure_names > _MAX_NAMES:
            self._unsure_names -= len(self._unsure.popleft().names)
        if self._unsure_names > _MAX_NAMES:
            self._unsure_names, self._newest = 0, []

    def answered(self, req_id: int) -> None:
        """A request has been answered that the client acknowledges, after all hand-outs so far."""
        if self._newest:
            self._unsure.append(_Told(self._newest, req_id))
            self._newest = []

    def acknowledged(self, req_id: int) -> None:
        """The client has got the answers to such requests up to this one."""
        while self._unsure and not id_is_newer(self._unsure[0].before, req_id):
            self._unsure_names -= len(self._unsure.popleft().names)

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
        """The client holds ``name`` no more. Returns whether no answer under way refers to it: of
        this stream, or of one that has taken over meanwhile."""
        if self._next is not None:
            self._next._doubt([name])
            return False
        if name in self._under_way:
            self._doubtful[name] = None
            return False
        self._doubtful.pop(name, None)
        return True

    @property
    def doubtful(self) -> List[bytes]:
        """What the client may not hold, or not have got, if the stream breaks now."""
        # Copies are single steps, which the stream's own thread does not get between. The newest
        # first, since they may become some of the others.
        newest = list(self._newest)
        told = [name for each in list(self._unsure) for name in each.names]
        under_way = (name for name in (*told, *newest) if name in self._under_way)
        return list(dict.fromkeys((*list(self._doubtful), *under_way)))

    def take_doubtful(self) -> List[bytes]:
        """Hands out what is doubtful of earlier streams, once: the client releases what it does
        not hold."""
        untold, self._untold = self._untold, []
        names = [name for name in dict.fromkeys(untold) if name in self._doubtful]
        self._count(names)
        return names
