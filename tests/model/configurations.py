"""Within which bounds the model is checked, and which faults the check must catch where."""

from __future__ import annotations

from dataclasses import dataclass, field

Bounds = dict[str, object]


@dataclass(frozen=True)
class Configuration:
    """One exhaustive search.

    Attributes:
        name: by which it is asked for.
        about: what happens in it.
        bounds: the model's macros; see session.pml.
        fair: it is about calls that end, given that every party gets its turns.
        small: it takes seconds, and is part of the tests.
    """

    name: str
    about: str
    bounds: Bounds = field(default_factory=dict)
    fair: bool = False
    small: bool = False


CONFIGURATIONS = (
    Configuration(
        "death",
        "a death and a broken link",
        {"KILLS": 1, "BREAKS": 1},
        small=True,
    ),
    Configuration(
        "restart",
        "the proxier dies, the link breaks",
        {"RESTARTS": 1, "BREAKS": 1},
        small=True,
    ),
    Configuration(
        "shutdown",
        "a shutdown at any moment, a death",
        {"KILLS": 1, "SHUTDOWNS": 1, "GRACE_ENDS": 1, "PROGRAM": "UNASKED"},
        small=True,
    ),
    Configuration(
        "calls",
        "two threads, two deaths, a broken link",
        {"KILLS": 2, "BREAKS": 1, "PROGRAM": "APART"},
    ),
    Configuration(
        "links",
        "two broken links, a death, all answers acknowledged",
        {"KILLS": 1, "BREAKS": 2, "PROGRAM": "APART", "BATCH": 1},
    ),
    Configuration(
        "lasting",
        "eight questions one after the other; two deaths, two broken links",
        {"KILLS": 2, "BREAKS": 2, "PROGRAM": "LASTING"},
    ),
    Configuration(
        "proxiers",
        "the proxier dies twice, a server once, the link breaks",
        {"RESTARTS": 2, "KILLS": 1, "BREAKS": 1, "PROGRAM": "APART", "RETRIES_1": 2},
    ),
    Configuration(
        "beginning",
        "from the init on, all that can go wrong once",
        {
            "FROM_START": 1,
            "KILLS": 1,
            "BREAKS": 1,
            "RESTARTS": 1,
            "STALLS": 1,
            "GRACE_ENDS": 1,
            "PROGRAM": "UNASKED",
        },
    ),
    Configuration(
        "ends",
        "grace periods end, the user shuts down, the client dies; a death, a broken link",
        {
            "KILLS": 1,
            "BREAKS": 1,
            "GRACE_ENDS": 1,
            "SHUTDOWNS": 1,
            "EXITS": 1,
            "PROGRAM": "APART",
        },
    ),
    Configuration(
        "lineage",
        "a task takes a value that was seen; two deaths, two broken links",
        {"KILLS": 2, "BREAKS": 2, "NEEDY": 1, "PROGRAM": "IN_TURN", "RETRIES_0": 1},
    ),
    Configuration(
        "unseen",
        "a task takes a value that was not; two deaths, a broken link",
        {"KILLS": 2, "BREAKS": 1, "NEEDY": 1, "PROGRAM": "UNSEEN", "RETRIES_0": 2},
    ),
    Configuration(
        "releases",
        "references are dropped; two deaths, a broken link",
        {"KILLS": 2, "BREAKS": 1, "NEEDY": 1, "PROGRAM": "RELEASED", "RETRIES_0": 1},
    ),
    Configuration(
        "nameless",
        "a task without returns; two deaths, two broken links",
        {"KILLS": 2, "BREAKS": 2, "NAMELESS_0": 1, "PROGRAM": "UNASKED"},
    ),
    Configuration(
        "fencing",
        "a call beside the stream; two deaths, the proxier dies",
        {"KILLS": 2, "RESTARTS": 1, "UNARY": 1, "PROGRAM": "UNASKED"},
    ),
    Configuration(
        "fairness",
        "calls end if every party gets its turns; a death, the link breaks",
        {"KILLS": 1, "BREAKS": 1, "UNARY": 1, "PROGRAM": "UNASKED"},
        fair=True,
    ),
    Configuration(
        "restarts",
        "the same; a death, the proxier dies",
        {"KILLS": 1, "RESTARTS": 1, "UNARY": 1, "PROGRAM": "UNASKED"},
        fair=True,
    ),
)


@dataclass(frozen=True)
class Fault:
    """A fault of the model, and where it shows.

    Attributes:
        name: the macro; session.pml says what is wrong.
        breaks: the promise that the check must find broken.
        bounds: the smallest configuration in which it does.
    """

    name: str
    breaks: str
    bounds: Bounds


_RUNS = "Nothing is run more often than the user allows."
_NEEDS = "What a request needs is there, or known to be lost."
_ENDS = "Every call ends."
_ORDER = "Order is kept, but for what had finished and is only restored when it is needed."
_NOT_LOST = "What no server was given is not lost."
_STALE = "No answer that was acknowledged is needed again, and nothing is refused as stale."
_ONCE = "A server carries a request out once, however often it is sent."
_REASON = "A session ends for a reason only."
_RELEASED = "What was released is not run again, unless something else needs it."

FAULTS = (
    # What the design rests on.
    Fault("NO_FENCING", "A stale incarnation is refused.", {"KILLS": 1, "UNARY": 1}),
    Fault("CACHED_INIT", _STALE, {"KILLS": 1}),
    Fault("BUDGET_UNCOUNTED", _RUNS, {"KILLS": 2, "PROGRAM": "UNASKED"}),
    Fault("NOT_REAPED", "Two incarnations never live at once.", {"KILLS": 1, "STALLS": 1}),
    Fault("HANDED_IGNORED", _NOT_LOST, {"KILLS": 1}),
    Fault("HANDED_LATE", _RUNS, {"KILLS": 1}),
    Fault("ACK_TOO_MUCH", _STALE, {"BREAKS": 1}),
    Fault(
        "ACK_UNREAD",
        "Answers that are kept are bounded.",
        {"BREAKS": 1, "PROGRAM": "LASTING"},
    ),
    Fault("NO_CACHE", _ONCE, {"BREAKS": 1}),
    Fault(
        "STREAM_KEPT",
        "What was meant for another incarnation is not done by this one.",
        {"KILLS": 1},
    ),
    Fault("RESTORED_LAST", _NEEDS, {"KILLS": 1}),
    Fault("LOST_WAKEUP", _ENDS, {"KILLS": 1}),
    Fault(
        "SEEN_RUN_AGAIN",
        "A value that was seen stays what it was.",
        {"KILLS": 1, "NEEDY": 1, "PROGRAM": "IN_TURN", "RETRIES_0": 1},
    ),
    Fault("LEFT_RUNNING", "A session's end leaves no server behind.", {"SHUTDOWNS": 1}),
    Fault("RELEASE_UNREAD", _RELEASED, {"KILLS": 1, "PROGRAM": "RELEASED", "RETRIES_0": 1}),
    # What the model has found in the code.
    Fault("OLD_IDS", _NEEDS, {"KILLS": 1, "BREAKS": 1}),
    Fault(
        "CLOSED_BLINDLY",
        _RUNS,
        {"KILLS": 1, "BREAKS": 1, "SHUTDOWNS": 1, "GRACE_ENDS": 1, "PROGRAM": "UNASKED"},
    ),
    Fault("NOTHING_HANDED", _NOT_LOST, {"KILLS": 1}),
    Fault(
        "BARE_UNTRACKED", _ENDS, {"KILLS": 1, "BREAKS": 1, "NAMELESS_0": 1, "PROGRAM": "UNASKED"}
    ),
    Fault("BARE_LAST", _ORDER, {"KILLS": 1, "NAMELESS_0": 1, "PROGRAM": "UNASKED"}),
    Fault("BARE_AGAIN", _RELEASED, {"KILLS": 2, "PROGRAM": "RELEASED", "RETRIES_0": 1}),
    Fault(
        "RELEASED_EARLY",
        _NEEDS,
        {"KILLS": 1, "NEEDY": 1, "PROGRAM": "RELEASED", "RETRIES_0": 1},
    ),
    Fault("NEW_TAKEN", _REASON, {"RESTARTS": 1, "BREAKS": 1}),
    # What the design does not bear.
    Fault("LATE_OPENS", _REASON, {"BREAKS": 2}),
)
