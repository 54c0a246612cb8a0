"""The requests of one data stream, as gRPC takes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ray.util.client import protocol
from ray.util.client.chunking import outgoing
from ray.util.client.session.client import Kind, Request
from ray.util.client.speech import Recalled

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where a feed's requests come from.

    Attributes:
        own_threads: those that the session can't do without; a feed's is one while it sends.
    """

    own_threads: set[threading.Thread]

    def next_requests(self, feed: Feed) -> list[Request]:
        """Waits for requests; none when the feed is over."""

    def lose(self, request: Request) -> None:
        """What a request is to say can't be had any more; whoever waits for it is told."""


class Feed:
    """Iterates over the messages to send. Runs on a thread of gRPC's.

    It hands out nothing before it is opened (the session must first know to whom it speaks), but
    for the question who that is; and nothing more after it is closed: what then stands in line is
    for the next stream.

    Args:
        source: whose requests these are.
        first: what to begin with; None for nothing.

    Attributes:
        batches: whether the server takes several requests in one message.
    """

    def __init__(self, source: Source, first: Any) -> None:
        self._source = source
        self.first = first
        self.opened = False
        self.closed = False
        self.batches = False

    def __iter__(self) -> Iterator[Any]:
        mine = threading.current_thread()
        self._source.own_threads.add(mine)
        try:
            yield from self._messages()
        finally:
            self._source.own_threads.discard(mine)

    def _messages(self) -> Iterator[Any]:
        if self.first is not None:
            yield self.first
        while requests := self._source.next_requests(self):
            complete = [request for request in requests if self._completed(request)]
            for message in outgoing(complete, self.batches):
                if self.closed:
                    return
                yield message

    def _completed(self, request: Request) -> bool:
        """Gives a request what is only known now. Returns False if that can't be had."""
        if isinstance(request.message, Recalled):
            try:
                request.message, request.payload = request.message.read()
            except Exception:  # It is gone, or not whole, or there is no memory for it.
                logger.warning("A message that was kept on disk can't be read.", exc_info=True)
                self._source.lose(request)
                return False
        elif request.kind is Kind.ACKNOWLEDGE and isinstance(request.message, int):
            acknowledge = protocol.AcknowledgeRequest(req_id=request.message)
            request.message = protocol.DataRequest(acknowledge=acknowledge)
        elif request.kind is Kind.RELEASE:
            request.message = protocol.DataRequest(release=_release(request))
        elif request.kind is Kind.WITHDRAW:
            withdraw = protocol.WithdrawRequest(req_id=request.target.req_id)
            request.message = protocol.DataRequest(withdraw=withdraw)
        request.message.req_id = request.req_id
        return True


def _release(request: Request) -> Any:
    message = protocol.ReleaseRequest(ids=request.concerns)
    for name, handing, times in request.receipts:
        message.receipts.add(name=name, handing=handing, times=times)
    return message
