"""The source of a run's functions as markup: coloured as Python, with the lines marked at which its tasks stand."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

from perdure.core.standing import Frame, SourceText, Standing, StandingTask
from perdure.web.views.markup import markup, text_of
from perdure.web.views.past import colour

_lexers: Any = importlib.import_module("pygments.lexers.python")  # it has no types
Token: Any = importlib.import_module("pygments.token").Token

AROUND: Final = 30  #: lines shown before and after those at which a task stands
SHOWN: Final = 12  #: functions
_DOTS: Final = 4
_LIBRARIES: Final = 6

#: Kinds of words, by the class of their colour.
_KINDS: Final[Sequence[tuple[Any, str]]] = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "n"),
    (Token.Name.Decorator, "d"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Builtin, "b"),
    (Token.Name.Exception, "b"),
)

#: A piece of a line, and the class of its colour.
Piece = tuple[str, str]


class Sources:
    """Draws sources. Keeps how their words are coloured, which is the same at every event."""

    def __init__(self) -> None:
        self._lines: dict[SourceText, list[list[Piece]]] = {}
        self._lexer = _lexers.PythonLexer(stripnl=False, ensurenl=False)

    def drawn(self, standing: Standing, chosen: int | None) -> str:
        """The functions in which tasks stand, those of the chosen task first."""
        root = Element("div", {"class": "pd-tt-sources"})
        tasks = sorted(standing.tasks, key=lambda task: task.id != chosen)
        keys: dict[str, None] = {}
        for task in tasks:
            for frame in task.frames:
                if frame.source in standing.sources:
                    keys.setdefault(str(frame.source))
        for key in list(keys)[:SHOWN]:
            self._function(root, standing, key, chosen)
        if len(keys) > SHOWN:
            SubElement(root, "div", {"class": "pd-dim"}).text = f"and {len(keys) - SHOWN} more functions"
        _libraries(root, next((task for task in tasks if task.id == chosen), None))
        if not keys:
            SubElement(root, "div", {"class": "pd-dim"}).text = "There is no source to show at this event."
        return markup(root)

    def _function(self, root: Element, standing: Standing, key: str, chosen: int | None) -> None:
        text = standing.sources[key]
        marks: dict[int, list[tuple[StandingTask, Frame]]] = {}
        for task in standing.tasks:
            for frame in task.frames:
                if frame.source == key:
                    marks.setdefault(frame.line, []).append((task, frame))
        part = SubElement(root, "section", {"class": "pd-tt-source"})
        head = SubElement(part, "h3", {"class": "pd-h3 pd-tt-title"})
        SubElement(head, "span", {"class": "pd-mono"}).text = text_of(text.function)
        lines = ", ".join(str(line) for line in sorted(marks)[:4])
        place = SubElement(head, "span", {"class": "pd-dim pd-tt-place", "title": text_of(text.file)})
        place.text = text_of(f"{os.path.basename(text.file)}:{lines}")
        code = SubElement(part, "div", {"class": "pd-tt-code"})
        coloured = self._coloured(text)
        last: int | None = None
        for number in _shown(len(text.lines), [line - text.first for line in marks]):
            if last is not None and number != last + 1:
                gap = number - last - 1
                SubElement(
                    code, "div", {"class": "pd-tt-gap"}
                ).text = f"⋯ {gap:,} line{'s' if gap > 1 else ''}"
            last = number
            _line(code, text.first + number, coloured[number], marks, chosen)

    def _coloured(self, text: SourceText) -> list[list[Piece]]:
        known = self._lines.get(text)
        if known is None:
            known = self._lines[text] = list(self._split("\n".join(text.lines), len(text.lines)))
        return known

    def _split(self, code: str, count: int) -> Iterator[list[Piece]]:
        line: list[Piece] = []
        made = 0
        for kind, value in self._lexer.get_tokens(code):
            style = next((name for base, name in _KINDS if kind in base), "")
            first, *rest = value.split("\n")
            if first:
                line.append((first, style))
            for piece in rest:
                yield line
                made += 1
                line = [(piece, style)] if piece else []
        yield line
        for _ in range(made + 1, count):
            yield []


def _shown(count: int, marked: Sequence[int]) -> list[int]:
    """The lines that are near enough to one of those."""
    near = {number for place in marked for number in range(place - AROUND, place + AROUND + 1)}
    near.add(0)
    return sorted(number for number in near if 0 <= number < count)


def _line(
    code: Element,
    number: int,
    pieces: Sequence[Piece],
    marks: dict[int, list[tuple[StandingTask, Frame]]],
    chosen: int | None,
) -> None:
    here = marks.get(number, [])
    main = next(((task, frame) for task, frame in here if task.id == chosen), None)
    inside = any(
        task.id == chosen and line < number <= frame.end_line
        for line, standing in marks.items()
        for task, frame in standing
    )
    names = " pd-tt-here" if main else " pd-tt-inside" if inside else " pd-tt-other" if here else ""
    shown = main[0] if main else here[0][0] if here else None
    if inside and shown is None:
        shown = next(task for standing in marks.values() for task, _ in standing if task.id == chosen)
    made = SubElement(code, "div", {"class": "pd-tt-line" + names + (f" {colour(shown)}" if shown else "")})
    if main:
        made.set("aria-current", "true")
    dots = SubElement(made, "span", {"class": "pd-tt-marks"})
    for task, _ in here[:_DOTS]:
        dot = SubElement(dots, "span", {"class": f"pd-tt-dot {colour(task)}"})
        dot.set("title", text_of(task.name))
    if len(here) > _DOTS:
        SubElement(dots, "span", {"class": "pd-tt-many"}).text = f"{len(here)}"
    if here:
        hidden = SubElement(dots, "span", {"class": "pd-hidden"})
        hidden.text = text_of(f"{', '.join(task.name for task, _ in here[:_DOTS])} stands here: ")
    SubElement(made, "span", {"class": "pd-tt-number"}).text = str(number)
    text = SubElement(made, "code")
    whole = main[1] if main and main[1].end_line == number else None
    for piece, style, under in _cut(pieces, whole):
        names = " ".join([f"pd-py-{style}"] * bool(style) + ["pd-tt-under"] * under)
        SubElement(text, "span", {"class": names} if names else {}).text = text_of(piece)


def _cut(pieces: Sequence[Piece], frame: Frame | None) -> Iterator[tuple[str, str, bool]]:
    """Pieces, and whether they belong to the expression that is awaited, if it is on this one line."""
    if frame is None or frame.end_column <= frame.column:
        yield from ((piece, style, False) for piece, style in pieces)
        return
    place = 0
    for piece, style in pieces:
        start = max(0, min(len(piece), frame.column - place))
        end = max(start, min(len(piece), frame.end_column - place))
        for part, under in ((piece[:start], False), (piece[start:end], True), (piece[end:], False)):
            if part:
                yield part, style, under
        place += len(piece)


def _libraries(root: Element, task: StandingTask | None) -> None:
    """The functions of libraries that the chosen task is in the middle of."""
    inside = [] if task is None else [frame for frame in task.frames if frame.library]
    if inside:
        made = SubElement(root, "div", {"class": "pd-dim pd-tt-libraries"})
        names = [
            f"{frame.function} ({os.path.basename(frame.file)}:{frame.line})"
            for frame in inside[-_LIBRARIES:]
        ]
        made.text = text_of("within " + " → ".join(names))
