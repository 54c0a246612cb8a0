"""Any message of the protocol, for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_INT32 = st.one_of(st.integers(0, 3), st.integers(-(2**31), 2**31 - 1))
_SCALARS = {
    "bytes": st.binary(max_size=20),
    "string": st.text(max_size=10),
    "bool": st.booleans(),
    "int32": _INT32,
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
}


def _scalar(field: Any) -> st.SearchStrategy:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    kinds = {getattr(field, f"TYPE_{name.upper()}"): kind for name, kind in _SCALARS.items()}
    return kinds[field.type]


@st.composite
def messages(draw: st.DrawFn, kind: Any, depth: int = 3) -> Any:
    """A message of the class ``kind``; at most one field of each oneof is set."""
    message = kind()
    _fill(draw, message, depth)
    return message


def _fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    chosen = [
        field
        for field in message.DESCRIPTOR.fields
        if field.containing_oneof is None and draw(st.booleans())
    ]
    chosen += [draw(st.sampled_from(list(group.fields))) for group in message.DESCRIPTOR.oneofs]
    for field in chosen:
        _set(draw, message, field, depth)


def _set(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    inner = field.message_type
    value = getattr(message, field.name)
    if inner is not None and inner.GetOptions().map_entry:
        if depth:
            _fill(draw, value[draw(st.text(max_size=5))], depth - 1)
    elif inner is not None:
        target = value.add() if hasattr(value, "add") else value
        target.SetInParent()
        if depth:
            _fill(draw, target, depth - 1)
    elif hasattr(value, "extend") and not isinstance(value, (str, bytes)):
        value.extend(draw(st.lists(_scalar(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalar(field)))
