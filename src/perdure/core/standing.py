"""Where a run stands after one of its events: what time travel shows of it. Texts and numbers only."""

from __future__ import annotations

from typing import Literal

import msgspec


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A local variable.

    Attributes:
        text: its value for people, cut where it is long.
        type: the name of its class.
        kind: "enclosing": it belongs to a function around this one.
    """

    name: str
    text: str
    type: str
    kind: Literal["argument", "local", "enclosing"] = "local"


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A function that waits for the next one, or for what its task awaits.

    Attributes:
        function: its qualified name.
        line: the line at which it stands.
        column, end_line, end_column: where the expression at which it stands begins and ends, in characters from 0;
            0, 0, 0 if that isn't known.
        source: under what its text is in `Standing.sources`, None if there is none.
        library: it isn't the user's own code; no variables are shown of it.
        variables: in the order in which the function names them.
        more: how many variables are left out.
        handling: the exception that it is handling at the moment.
    """

    function: str
    file: str
    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    source: str | None = None
    library: bool = False
    variables: tuple[Variable, ...] = ()
    more: int = 0
    handling: str | None = None


class StandingTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the run.

    Attributes:
        id: the same at every event of the run; tasks that were made later have higher ones.
        name: "main" for the workflow function's own.
        awaits: what it waits for, in words; or how it has ended.
        operation: the id of the step, timer, child, ... that it waits for.
        since: when that was asked for, wall-clock seconds.
        ended: "returned", "raised" or "cancelled", if it has ended. Only the workflow function's own is shown then.
        frames: the workflow function first. Of one that has ended by an error: as it stood when that was raised.
    """

    id: int
    name: str
    awaits: str
    operation: str | None = None
    since: float | None = None
    ended: Literal["", "returned", "raised", "cancelled", "continued"] = ""
    frames: tuple[Frame, ...] = ()


class OpenOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the code has asked for and that has no outcome yet.

    Attributes:
        since: when it was asked for, wall-clock seconds.
        until: when a timer fires.
    """

    id: str
    kind: Literal["step", "timer", "child", "callback", "question", "message", "event", "send"]
    what: str
    since: float
    until: float | None = None


class SourceText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a function.

    Attributes:
        first: the number of its first line.
    """

    file: str
    function: str
    first: int
    lines: tuple[str, ...]


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why it can't be shown what came later.

    Attributes:
        kind: "diverged": the code isn't what it was. "unreadable": a recorded value doesn't fit the code's type.
            "endless": the code ran on without awaiting. "damaged": the history isn't what was recorded. "failed": the
            replay itself.
        seq: the event that couldn't be fed.
    """

    kind: Literal["diverged", "unreadable", "endless", "damaged", "failed"]
    seq: int
    text: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stood after one of its events.

    Attributes:
        seq: the event after which it stood so: the one that was asked for, or the last one before `stop`.
        events: how many the history has.
        at: the run's time then, wall-clock seconds.
        tasks: those that live, in the order in which they were made.
        more: how many tasks are left out.
        sources: texts of functions, by the `source` of frames.
        files: the files that those came from, and when they were changed.
        stop: where the history and the code part, if that is before the event that was asked for.
    """

    run: str
    generation: int
    workflow: str
    seq: int
    events: int
    at: float
    tasks: tuple[StandingTask, ...] = ()
    more: int = 0
    operations: tuple[OpenOperation, ...] = ()
    more_operations: int = 0
    sources: dict[str, SourceText] = {}
    files: dict[str, int] = {}
    stop: Stop | None = None
