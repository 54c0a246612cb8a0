"""Reads a pickle from anybody as dead data: nothing in it runs, and its cost is bounded.

An unpickler that only restricts what is imported is not enough. A few bytes can make it reserve
gigabytes (a place far off in its memo), overflow the stack (the hash of nested tuples), or set
attributes on the classes that it does import, for all who come after. So the instructions are
looked at first, and objects come out as stand-ins that only hold what they are made of.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, Dict, FrozenSet, Mapping, Tuple

# Plenty: a job config is a few hundred bytes, and what it may hold are short texts.
MAX_BYTES = 4 * 2**20
# Bounds how deep they can be nested, which is how deep the C stack gets when one is hashed.
_MAX_TUPLES = 1000
# Larger numbers can be made to have one hash all of them, which makes a dict of them take for ever.
_MAX_NUMBER = 2**63

# What picklers of protocol 2 and later write for plain values and for objects of known classes.
_INSTRUCTIONS: FrozenSet[str] = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES
    EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL NEWOBJ REDUCE BUILD
    """.split()
)
_PUTS = frozenset({"MEMOIZE", "BINPUT", "LONG_BINPUT"})
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})

# {(module, name): what stands in for the class}
StandIns = Mapping[Tuple[str, str], type]


class NotInert(Exception):
    """The pickle is malformed, too large, or holds what it may not; the text says which."""


class Object:
    """Stands in for an object.

    Attributes:
        state: what its class would have been given.
    """

    state: Any = None

    # An unpickler that finds this sets no attributes by itself, neither here nor on the class.
    def __setstate__(self, state: Any) -> None:
        self.state = state


class Mapped(Dict[Any, Any]):
    """Stands in for an object of a subclass of dict, whose attributes are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


def load(pickled: bytes, admitted: StandIns) -> Any:
    """Reads a pickle.

    Args:
        pickled: any bytes.
        admitted: the classes that it may name. The stand-ins are to be :class:`Object`,
            :class:`Mapped`, subclasses of them, or immutable types that do nothing but hold.

    Raises:
        NotInert: see there.
    """
    if len(pickled) > MAX_BYTES:
        raise NotInert(f"has {len(pickled)} bytes, and {MAX_BYTES} are the most that is read")
    try:
        _check(pickled, admitted)
        return _Unpickler(pickled, admitted).load()
    except NotInert:
        raise
    except Exception as e:  # A hostile or foreign pickle may fail in any way.
        raise NotInert(f"can't be read: {type(e).__name__}: {e}") from e


def _check(pickled: bytes, admitted: StandIns) -> None:
    memo = tuples = 0
    for instruction, argument, position in pickletools.genops(pickled):
        name = instruction.name
        if name == "GLOBAL":
            _require(admitted, *argument.split(" ", 1))
        if name not in _INSTRUCTIONS:
            raise NotInert(f"holds the instruction {name}, which has no place in one")
        if name in _PUTS:
            # Picklers number what they keep without gaps.
            if name != "MEMOIZE" and argument > memo:
                raise NotInert("numbers what it keeps with gaps")
            memo += 1
        elif name in _TUPLES:
            tuples += 1
            if tuples > _MAX_TUPLES:
                raise NotInert("holds too many tuples")
        elif name == "LONG1" and abs(argument) > _MAX_NUMBER:
            raise NotInert("holds a number of more than 64 bits")
        elif name == "FRAME" and argument > len(pickled) - position:
            raise NotInert("is cut off")


def _require(admitted: StandIns, module: str, name: str) -> type:
    found = admitted.get((module, name))
    if found is None:
        raise NotInert(f"holds a {module}.{name}, which has no place in one")
    return found


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, admitted: StandIns) -> None:
        super().__init__(io.BytesIO(pickled))
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> Any:
        return _require(self._admitted, module, name)
