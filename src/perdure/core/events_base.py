"""What events are made of: what all of them have, what records have, and failures as data."""

from __future__ import annotations

import msgspec


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception as data. Nothing in it is ever imported or executed.

    Attributes:
        type: qualified class name, `module.QualName`.
        message: `str(exc)` when it was raised.
        args: JSON bytes of the exception's constructor arguments, None if they aren't plain data.
        state: JSON bytes of its plain instance attributes, None if there are none.
        traceback: text of the traceback at the place where it was raised.
        notes: `exc.__notes__`.
        cause: the exception it was raised from.
        members: the exceptions of an exception group.
    """

    type: str
    message: str
    args: bytes | None = None
    state: bytes | None = None
    traceback: str = ""
    notes: tuple[str, ...] = ()
    cause: Failure | None = None
    members: tuple[Failure, ...] = ()


class Fact(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="kind"):
    """The common part of all events. `kind` is the tag, by which a history tells them apart."""

    at: float  #: wall-clock seconds since the epoch when it happened, never decreasing within a run


class Record(Fact, frozen=True):
    """The common part of records. `op` names one within its run."""

    op: str
