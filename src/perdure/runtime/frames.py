"""The frames of suspended code: which functions wait for which, at which lines, with which variables.

A suspended coroutine has its frame, and what it awaits: another coroutine, a generator, or one of the small objects
by which Python steps through async generators. Those don't tell what they step through, but the garbage collector has
to know.

Reading changes nothing. `frame.f_locals` makes a copy before Python 3.13, which would keep alive what the code lets
go of later; so that copy is emptied.
"""

from __future__ import annotations

import gc
import os
import sys
import types
from collections.abc import Callable, Iterator
from itertools import islice
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from perdure.codec.picturing import picture, type_text
from perdure.core.standing import Frame, Variable
from perdure.runtime.sources import Sources

_type: Callable[[object], Any] = type  # without what type checkers conclude from it

FRAMES_MAX = 60  #: of one task
VARIABLES_MAX = 60  #: of one frame

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Parts of this package whose code is ours: no one who debugs a workflow is interested in it.
_OURS = tuple(
    _PACKAGE + part + os.sep
    for part in ("api", "codec", "core", "errors", "runtime", "storage", "ai", "integrations")
)
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PLUMBING = (_STANDARD + "asyncio" + os.sep, *_OURS)
_INSTALLED = tuple(
    {os.path.abspath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
)

#: What Python puts between a function and the async generator or coroutine that it goes through.
_STEPPERS = frozenset(
    {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"}
)


class Place(NamedTuple):
    """A frame, and the instruction at which it stands."""

    frame: FrameType
    line: int
    instruction: int
    owner: Any = None  #: the suspended coroutine or generator that it belongs to


class Chain(NamedTuple):
    """What a task is in the middle of.

    Attributes:
        places: its frames, the outermost first, without those of asyncio and this package.
        plumbing: file and function of the innermost of those.
    """

    places: list[Place]
    plumbing: tuple[str, str] | None


def chain_of(coroutine: Any) -> Chain:
    """The frames of a suspended coroutine."""
    places: list[Place] = []
    plumbing: tuple[str, str] | None = None
    for owner, frame in _suspended(coroutine):
        code = frame.f_code
        if code.co_filename.startswith(_PLUMBING):
            plumbing = (code.co_filename, code.co_qualname)
        else:
            plumbing = None
            places.append(Place(frame, frame.f_lineno, frame.f_lasti, owner))
    return Chain(places, plumbing)


def _suspended(thing: Any) -> Iterator[tuple[Any, FrameType]]:
    for _ in range(1000):
        kind = _type(thing)
        if kind is types.CoroutineType:
            owner, frame, thing = thing, thing.cr_frame, thing.cr_await
        elif kind is types.GeneratorType:
            owner, frame, thing = thing, thing.gi_frame, thing.gi_yieldfrom
        elif kind is types.AsyncGeneratorType:
            owner, frame, thing = thing, thing.ag_frame, thing.ag_await
        elif kind.__name__ in _STEPPERS:
            thing = next((inner for inner in gc.get_referents(thing) if _steps(inner)), None)
            continue
        else:
            return
        if frame is None:
            return
        yield owner, frame


def _steps(thing: Any) -> bool:
    kind = _type(thing)
    return (
        kind in (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
        or kind.__name__ in _STEPPERS
    )


def raised_at(error: BaseException) -> list[Place]:
    """The frames through which an exception came, the outermost first, as they stood then."""
    places: list[Place] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_PLUMBING):
            places.append(Place(trace.tb_frame, trace.tb_lineno, trace.tb_lasti))
        trace = trace.tb_next
    return places


def is_plumbing(path: str) -> bool:
    """Whether a file is asyncio's, or of this package."""
    return path.startswith(_PLUMBING)


def is_library(path: str) -> bool:
    """Whether a file is installed, and not the user's own code."""
    if path.startswith(("<frozen", _STANDARD)):
        return True
    return path.startswith(_INSTALLED) and f"{os.sep}lib" in path


def is_own(place: Place) -> bool:
    """Whether it is in the user's own code."""
    return not is_library(place.frame.f_code.co_filename)


# -- as texts ---------------------------------------------------------------------------------------------


def frames_of(places: list[Place], sources: Sources, *, bare: bool = False) -> tuple[Frame, ...]:
    """What is shown of them. Of a deep recursion the middle is left out.

    Args:
        bare: without variables.
    """
    if len(places) > FRAMES_MAX:
        places = [*places[: FRAMES_MAX // 2], *places[-FRAMES_MAX // 2 :]]
    return tuple(_frame(place, sources, bare) for place in places)


def _frame(place: Place, sources: Sources, bare: bool) -> Frame:
    code = place.frame.f_code
    if is_library(code.co_filename):
        return Frame(function=code.co_qualname, file=code.co_filename, line=place.line, library=True)
    variables, more = variables_of(place.frame, 0 if bare else VARIABLES_MAX)
    end, column, end_column = _span(code, place, sources)
    return Frame(
        function=code.co_qualname,
        file=code.co_filename,
        line=place.line,
        column=column,
        end_line=end,
        end_column=end_column,
        source=sources.of(code, place.line),
        variables=variables,
        more=more,
        handling=_handled(place.owner),
    )


def variables_of(frame: FrameType, most: int) -> tuple[tuple[Variable, ...], int]:
    """The local variables of a frame, and how many are left out of more than `most`."""
    code, values = frame.f_code, locals_of(frame)
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args, **kwargs
    arguments, enclosing = code.co_varnames[:count], set(code.co_freevars)
    names = [name for name in values if type(name) is str and not name.startswith((".", "__"))]
    found: list[Variable] = []
    for name in names[:most]:
        value = values[name]
        kind = "argument" if name in arguments else "enclosing" if name in enclosing else "local"
        found.append(
            Variable(name=name, text=picture(value, name), type=type_text(value), kind=kind)  # type: ignore[arg-type]
        )
    return tuple(found), len(names) - len(found)


def locals_of(frame: FrameType) -> dict[str, Any]:
    """The values of a frame's local variables, by name. The frame keeps no copy."""
    held = frame.f_locals
    values = dict(held)
    if sys.version_info < (3, 13) and type(held) is dict and frame.f_code.co_flags & 0x02:  # of a function
        held.clear()
    return values


def _span(code: CodeType, place: Place, sources: Sources) -> tuple[int, int, int]:
    """Where the expression ends, and the characters at which it begins and ends."""
    found = next(islice(code.co_positions(), place.instruction // 2, None), None)
    if found is None:
        return 0, 0, 0
    line, end, column, end_column = found
    if line is None or line != place.line or end is None or column is None or end_column is None:
        return 0, 0, 0
    return end, sources.character(code, line, column), sources.character(code, end, end_column)


def _handled(owner: Any) -> str | None:
    """The exception that a suspended coroutine is handling: what it refers to last, if it does."""
    if owner is None:
        return None
    referents = gc.get_referents(owner)
    last = referents[-1] if referents else None
    return picture(last) if issubclass(type(last), BaseException) else None
