"""Random histories of puts, answers and releases, compared with a model that forgets nothing."""

from __future__ import annotations

from typing import Dict, List, Tuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.util.client import protocol
from ray.util.client.session.errors import ProtocolError
from ray.util.client.session.peek import PUT, RELEASE, peek
from ray.util.client.session.registrations import _OVERHEAD, Registration, Registrations

BUDGET = 3000
NUMBERS = st.integers(0, 3)
NAMES = NUMBERS.map(lambda n: b"id%d" % n)


class Comparison(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kept = Registrations(BUDGET)
        # Request id: the client's own id, and the chunks so far. Server's id: the registration.
        self.coming: Dict[int, Tuple[bytes, List[bytes]]] = {}
        self.expected: Dict[bytes, Registration] = {}
        self.refused = 0

    def cost(self) -> int:
        coming = (_OVERHEAD + sum(map(len, chunks)) for _, chunks in self.coming.values())
        return sum(coming) + sum(_OVERHEAD + len(kept.data) for kept in self.expected.values())

    @rule(
        req_id=NUMBERS,
        ref=st.sampled_from([b"", b"ref", b"other"]),
        data=st.binary(max_size=900),
        chunk=st.integers(-1, 3),
        total=st.integers(-1, 3),
        named=st.integers(0, 5).map(lambda n: b"token" if n == 5 else b""),
    )
    def put(self, req_id, ref, data, chunk, total, named):
        put = protocol.PutRequest(data=data, client_ref_id=ref, chunk_id=chunk, total_chunks=total)
        put.register_as = named
        raw = protocol.DataRequest(req_id=req_id, put=put).SerializeToString()
        self.kept.saw_put(raw, peek(raw))
        # A negative count is a large one on the wire; what it counts is never complete, nor kept.
        if (
            named
            or not ref
            or not 0 <= chunk < (total if total > 0 else 1 if total == 0 else 2**64)
        ):
            return
        if chunk == 0:
            self.coming[req_id] = (ref, [])
        if req_id not in self.coming or chunk != len(self.coming[req_id][1]):
            return
        self.coming[req_id][1].append(data)
        if self.cost() > BUDGET:
            del self.coming[req_id]
            self.refused += 1

    @rule(req_id=NUMBERS, name=st.one_of(NAMES, st.just(b"")), valid=st.booleans())
    def answer(self, req_id, name, valid):
        put = protocol.PutResponse(id=name, valid=valid)
        raw = protocol.DataResponse(req_id=req_id, put=put).SerializeToString()
        self.kept.saw_put_answer(raw, peek(raw))
        ref, chunks = self.coming.pop(req_id, (b"", []))
        if ref and valid and name:
            self.expected.pop(name, None)
            self.expected[name] = Registration(name, ref, b"".join(chunks))

    @rule(names=st.lists(NAMES, max_size=3))
    def release(self, names):
        request = protocol.DataRequest(release=protocol.ReleaseRequest(ids=names))
        raw = request.SerializeToString()
        self.kept.saw_release(raw, peek(raw))
        for name in names:
            self.expected.pop(name, None)

    @rule(body=st.binary(max_size=30), kind=st.sampled_from([PUT, RELEASE]), answer=st.booleans())
    def garbage(self, body, kind, answer):
        # With a request id that no rule above uses, so that it can't hit what is kept.
        raw = b"\x08\x63" + bytes([kind << 3 | 2, len(body)]) + body
        saw_put = self.kept.saw_put_answer if answer else self.kept.saw_put
        try:
            (saw_put if kind == PUT else self.kept.saw_release)(raw, peek(raw))
        except ProtocolError:
            return
        self.kept.saw_put_answer(b"\x08\x63\x1a\x00", peek(b"\x08\x63\x1a\x00"))

    @invariant()
    def holds_what_it_should(self):
        assert list(self.kept) == list(self.expected.values())
        assert len(self.kept) == len(self.expected)
        assert self.kept.used == self.cost() <= BUDGET
        assert self.kept.refused == self.refused

    def teardown(self):
        for req_id in range(4):
            self.answer(req_id, b"", False)
        self.release([b"id%d" % n for n in range(4)])
        assert (self.kept.used, len(self.kept)) == (0, 0)


Comparison.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_any_history = Comparison.TestCase
