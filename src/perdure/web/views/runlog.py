"""The events of one run as a page holds them: in order, by operation, and as a timeline; and the log's markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement

from perdure.api.lines import Line, timeline
from perdure.core import events as ev
from perdure.web.views.gantt import Gantt
from perdure.web.views.markup import markup, text_of

#: Events of a page of the log.
PAGE: Final = 200

_NAMES: Final = (
    "step",
    "timer",
    "child",
    "receive",
    "callback",
    "update",
    "wait",
    "operation",
    "message",
    "op",
)
_SIGNS: Final = {"green": "good", "red": "bad", "yellow": "hold", "cyan": "busy", "blue": "wait"}


def op_of(event: ev.Event) -> str:
    """The operation that an event is about, "" if it is about the run.

    Example:
        >>> op_of(ev.TimerFired(1.0, "sleep:1")), op_of(ev.RunPaused(1.0))
        ('sleep:1', '')
    """
    if isinstance(event, ev.MessageReceived | ev.AttributesSet):
        return ""
    return next((str(value) for name in _NAMES if (value := getattr(event, name, None)) is not None), "")


def input_of(history: Sequence[ev.Event]) -> bytes:
    """What a run was called with, `[[...], {...}]`."""
    first = history[0] if history else None
    return first.input if isinstance(first, ev.RunStarted) else b"[[],{}]"


class RunLog:
    """A run's events so far.

    Attributes:
        events: in order; the first has the number 1.
        by_op: the numbers of the events of each operation.
        gantt: the timeline.
    """

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self.by_op: dict[str, list[int]] = {}
        self.gantt = Gantt()
        self._lines: list[Line] = []

    def add(self, event: ev.Event) -> None:
        """Take in the next event."""
        self.events.append(event)
        seq = len(self.events)
        self.gantt.add(seq, event)
        if op := op_of(event):
            self.by_op.setdefault(op, []).append(seq)

    @property
    def started(self) -> ev.RunStarted | None:
        first = self.events[0] if self.events else None
        return first if isinstance(first, ev.RunStarted) else None

    @property
    def final(self) -> ev.Final | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, ev.FINAL) else None

    def lines(self) -> Sequence[Line]:
        """A line for each event."""
        if len(self._lines) != len(self.events):
            self._lines = timeline(self.events)
        return self._lines

    def about(self, op: str) -> list[tuple[int, ev.Event]]:
        """The events of an operation, with their numbers."""
        return [(seq, self.events[seq - 1]) for seq in self.by_op.get(op, ())]


class LogPage(NamedTuple):
    """A part of the log.

    Attributes:
        found: how many events there are of those that are looked for.
        page, pages: which page this is, from 0, and how many there are.
    """

    html: str
    found: int
    page: int
    pages: int


def log_page(log: RunLog, page: int = 0, *, only: str = "", newest_first: bool = False) -> LogPage:
    """A page of the log of events.

    Args:
        page: from 0; one that there isn't becomes the last.
        only: only events with this text in their line.
    """
    lines = log.lines()
    wanted = only.casefold()
    numbers = [
        number
        for number, line in enumerate(lines)
        if not wanted or wanted in f"{line.what} {line.detail} {_kind(log.events[number])}".casefold()
    ]
    if newest_first:
        numbers.reverse()
    pages = max(1, -(-len(numbers) // PAGE))
    page = min(max(0, page), pages - 1)
    root = Element("ol", {"class": "pd-log"})
    for number in numbers[page * PAGE : (page + 1) * PAGE]:
        _line(root, number + 1, log.events[number], lines[number])
    return LogPage(markup(root), len(numbers), page, pages)


def _line(root: Element, seq: int, event: ev.Event, line: Line) -> None:
    item = SubElement(root, "li")
    button = SubElement(item, "button", {"type": "button", "class": "pd-log-line", "data-seq": str(seq)})
    SubElement(button, "span", {"class": "pd-log-seq"}).text = f"{seq:,}"
    SubElement(button, "span", {"class": "pd-log-at"}).text = f"+{line.offset:,.3f} s"
    tone = _SIGNS.get(line.style.removeprefix("bold "), "idle")
    SubElement(
        button, "span", {"class": f"pd-log-sign pd-tone-text-{tone}", "aria-hidden": "true"}
    ).text = line.sign
    SubElement(button, "span", {"class": "pd-log-what", "title": _kind(event)}).text = text_of(line.what)
    SubElement(button, "span", {"class": "pd-log-took"}).text = line.took
    SubElement(button, "span", {"class": "pd-log-detail"}).text = text_of(line.detail)


def _kind(event: ev.Event) -> str:
    return str(type(event).__struct_config__.tag)
