"""What an answer on the data stream does to the session, and to whom it goes.

No I/O, threads or clock, as in ``continuity``: the shell and the simulation both run this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ray.util.client.session.client import Kind, Request
from ray.util.client.session.conversation import Conversation


class Delivery(NamedTuple):
    """An answer, on its way to whoever waits for it.

    Attributes:
        response: the DataResponse.
        request: what it answers; None if nobody waits (any more).
        waiter: gets the answer; None if nobody is to.
        whole: whether the request was settled with it. An answer to a get may be a part, and only
            its waiter can tell.
        resumed: whether this is the first that was heard after an interruption.
        sends: whether there may be something to send now.
        took: seconds of the recovery that is over with it, if one is.
    """

    response: Any
    request: Request | None
    waiter: Any
    whole: bool
    resumed: bool
    sends: bool
    took: float | None

    def deliver(self, on_handed: Callable[[Sequence[bytes], int], Any]) -> bool:
        """Gives the answer to its waiter. Not to be called where the core's calls are serialised.

        Args:
            on_handed: called with the names that the answer refers to and the number of these
                hand-outs; what it returns holds them.

        Returns:
            Whether the request is to be settled now.
        """
        request, response = self.request, self.response
        if request is None or request.kind is Kind.GET:
            got = response.get
            if got.handed:
                # Held for the waiter, or for a moment if nobody wants it.
                held = on_handed(got.handed, got.handing)
                if self.waiter is not None:
                    self.waiter.keep(held)
        elif request.kind is Kind.QUERY:
            let_go_of_doubtful(response.connection_info, on_handed)
        return self.waiter is not None and self._done() and not self.whole

    def _done(self) -> bool:
        """Whether the waiter has its whole answer."""
        try:
            return self.waiter.done(self.response)
        except Exception as e:  # No memory left for a large result, say: this one call has failed.
            self.waiter.failed(e)
            return True


def let_go_of_doubtful(info: Any, on_handed: Callable[[Sequence[bytes], int], Any]) -> None:
    """What a server says may not have reached this client is released, unless it is held here."""
    if info.doubtful:
        on_handed(info.doubtful, info.handing)


def arrived(core: Conversation, response: Any, now: float) -> Delivery:
    """Tells the core of an answer. ``now``: seconds, of the clock that the core is told of.

    To be followed by :meth:`Conversation.told` and :meth:`Delivery.deliver`.
    """
    session = core.session
    resumed = session.heard()
    request = session.waiting(response.req_id)
    waiter = None if request is None else request.waiter
    whole = waiter is None or request.kind is not Kind.GET
    sends, took = settled(core, response.req_id, now) if whole else (False, None)
    if request is not None and response.task_ticket.never_started:
        if core.never_started(request):
            waiter = None  # Whoever waits for the actor hears of the one that is made.
        sends = True
    return Delivery(response, request, waiter, whole, resumed, sends, took)


def settled(core: Conversation, req_id: int, now: float) -> tuple[bool, float | None]:
    """A request has its whole answer. As ``sends`` and ``took`` of :class:`Delivery`."""
    return core.settle(req_id), core.recovered(now)
