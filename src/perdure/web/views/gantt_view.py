"""What of a timeline is drawn: the part within a window of time, and operations of one name together if there are many.

Ten thousand steps don't fit on a page, and nobody could read them. So when more rows lie in the window than a page
bears, those of one name share a lane, which shows how many there were when, and how the worst of them went. Zooming in
or opening the group brings the rows back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from perdure.web.views.gantt import Gantt
from perdure.web.views.gantt_rows import TONES, Mark, Row, Span, Tone

#: Rows of a page; with more, those of one name share a lane.
ROWS_MAX: Final = 80
#: Slices of a lane's width in which rows of a group are counted.
SLICES: Final = 200
#: The smallest window, in seconds.
SHORTEST: Final = 0.001


class Window(NamedTuple):
    """A stretch of time, in wall-clock seconds.

    Example:
        >>> Window(10.0, 20.0).zoomed(0.5), Window(10.0, 20.0).moved(0.5)
        (Window(start=12.5, end=17.5), Window(start=15.0, end=25.0))
    """

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start

    def zoomed(self, factor: float, around: float = 0.5) -> Window:
        """Longer or shorter by a factor; `around`, from 0 to 1, says what stays in its place."""
        length = max(SHORTEST, self.length * factor)
        start = self.start + (self.length - length) * around
        return Window(start, start + length)

    def moved(self, by: float) -> Window:
        """Later or earlier, by a part of its length."""
        return Window(self.start + by * self.length, self.end + by * self.length)

    def part(self, a: float, b: float) -> Window:
        """The stretch between two places of it, each from 0 to 1."""
        low, high = sorted((min(1.0, max(0.0, a)), min(1.0, max(0.0, b))))
        start = self.start + low * self.length
        return Window(start, max(start + SHORTEST, self.start + high * self.length))

    def within(self, whole: Window) -> Window:
        """The same, moved and cut so that it lies in another one."""
        length = min(self.length, whole.length)
        start = min(max(self.start, whole.start), whole.end - length)
        return Window(start, start + length)

    def place(self, at: float) -> float:
        """Where a moment is: 0 at the start, 1 at the end; not beyond these."""
        return min(1.0, max(0.0, (at - self.start) / self.length))


class Bar(NamedTuple):
    """A span as it is drawn: places from 0 to 1, and what it says."""

    start: float
    end: float
    span: Span


class Cell(NamedTuple):
    """Some rows of a group: places from 0 to 1, the worst tone, and how many go on at once, from 0 to 1."""

    start: float
    end: float
    tone: Tone
    height: float


class Lane(NamedTuple):
    """One line of the drawing: a row, or a group of rows.

    Attributes:
        row: the row; of a group its first.
        group: names the group; "" = this is a single row.
        size: how many rows it stands for.
        tally: how many of a group stand how.
        opened: the group's rows follow.
    """

    row: Row
    bars: Sequence[Bar]
    cells: Sequence[Cell] = ()
    group: str = ""
    size: int = 1
    tally: Sequence[tuple[Tone, int]] = ()
    opened: bool = False


class Point(NamedTuple):
    """Where a mark is, from 0 to 1; `more` are those that lie at the same place."""

    place: float
    mark: Mark
    more: int


@dataclass(frozen=True, slots=True)
class View:
    """What is drawn.

    Attributes:
        hidden: how many lanes don't fit.
        total: how many rows the timeline has, the run's own aside.
    """

    window: Window
    start: float
    now: float
    lanes: Sequence[Lane]
    points: Sequence[Point]
    hidden: int
    total: int


def whole(gantt: Gantt, now: float) -> Window:
    """The window that shows all of a run.

    Args:
        now: wall-clock seconds, up to which what goes on is drawn.
    """
    run = gantt.run
    start = now if run is None else run.start
    end = gantt.last_at if gantt.ended else max(now, gantt.last_at)
    return Window(start, max(end, start + SHORTEST))


def view(
    gantt: Gantt,
    window: Window,
    now: float,
    *,
    most: int = ROWS_MAX,
    opened: Collection[str] = (),
    only: str = "",
) -> View:
    """What is drawn of a timeline.

    Args:
        most: how many lanes there may be.
        opened: the groups whose rows are shown as well.
        only: show only rows with this text in their id, name or outcome.
    """
    end = gantt.last_at if gantt.ended else max(now, gantt.last_at)
    rows = [row for row in gantt.rows.values() if row.id and _seen(row, window, end)]
    if only:
        wanted = only.casefold()
        rows = [row for row in rows if wanted in f"{row.id} {row.name} {row.text}".casefold()]
    lanes: list[Lane] = []
    if len(rows) <= most:
        lanes = [_single(row, window, end) for row in rows]
    else:
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.kind, row.name), []).append(row)
        for (kind, name), members in groups.items():
            lanes += _lanes_of(f"{kind} {name}", members, window, end, opened, most)
    hidden = max(0, len(lanes) - most)
    run = gantt.run
    if run is not None:
        lanes.insert(0, _single(run, window, end))
    start = window.start if run is None else run.start
    return View(
        window, start, end, lanes[: most + 1], _points(gantt, window), hidden, max(0, len(gantt.rows) - 1)
    )


def _seen(row: Row, window: Window, now: float) -> bool:
    return row.start <= window.end and (now if row.end is None else row.end) >= window.start


def _lanes_of(
    group: str, members: list[Row], window: Window, now: float, opened: Collection[str], most: int
) -> list[Lane]:
    if len(members) == 1:
        return [_single(members[0], window, now)]
    tally: dict[Tone, int] = {}
    for row in members:
        tally[row.tone] = tally.get(row.tone, 0) + 1
    counts = sorted(tally.items(), key=lambda each: -TONES.index(each[0]))
    shown = group in opened
    lane = Lane(members[0], (), _cells(members, window, now), group, len(members), counts, shown)
    return [lane, *(_single(row, window, now) for row in members[:most])] if shown else [lane]


def _single(row: Row, window: Window, now: float) -> Lane:
    bars: list[Bar] = []
    if row.kind == "run":
        bars.append(_bar(Span("run", row.tone, row.start, row.end, row.first, row.text), window, now))
    bars += [_bar(span, window, now) for span in row.spans if _span_seen(span, window, now)]
    return Lane(row, bars)


def _span_seen(span: Span, window: Window, now: float) -> bool:
    return span.start <= window.end and (now if span.end is None else span.end) >= window.start


def _bar(span: Span, window: Window, now: float) -> Bar:
    end = now if span.end is None else max(span.start, span.end)
    return Bar(window.place(span.start), window.place(end), span)


def _cells(rows: Sequence[Row], window: Window, now: float) -> list[Cell]:
    """How many rows of each tone lie in each slice: counted by where they begin and end, so long ones cost no more."""
    changes: dict[Tone, list[int]] = {}
    for row in rows:
        first = min(SLICES - 1, int(window.place(row.start) * SLICES))
        last = min(SLICES - 1, int(window.place(now if row.end is None else row.end) * SLICES))
        change = changes.get(row.tone)
        if change is None:
            change = changes[row.tone] = [0] * (SLICES + 1)
        change[first] += 1
        change[last + 1] -= 1
    counts = {tone: list(accumulate(changes[tone])) for tone in TONES if tone in changes}
    sums = [sum(each[index] for each in counts.values()) for index in range(SLICES)]
    highest = max(1, *sums)
    cells: list[Cell] = []
    for index, total in enumerate(sums):
        if not total:
            continue
        tone: Tone = next(each for each in reversed(TONES) if each in counts and counts[each][index])
        height = round(0.3 + 0.7 * total / highest, 1)
        start, end = index / SLICES, (index + 1) / SLICES
        if cells and (before := cells[-1]).end == start and before[2:] == (tone, height):
            cells[-1] = before._replace(end=end)
        else:
            cells.append(Cell(start, end, tone, height))
    return cells


def _points(gantt: Gantt, window: Window) -> list[Point]:
    """The marks in the window; those at the same place are one."""
    found: dict[int, Point] = {}
    for mark in gantt.marks:
        if not window.start <= mark.at <= window.end:
            continue
        place = window.place(mark.at)
        slot = int(place * SLICES)
        before = found.get(slot)
        if before is None:
            found[slot] = Point(place, mark, 0)
        else:
            worse = TONES.index(mark.tone) > TONES.index(before.mark.tone)
            found[slot] = Point(before.place, mark if worse else before.mark, before.more + 1)
    return list(found.values())


def ticks(window: Window, origin: float, most: int = 6) -> list[tuple[float, str]]:
    """Places of an axis (0 to 1) and their labels, as time since `origin`; round ones.

    Example:
        >>> ticks(Window(100.0, 110.0), 100.0)
        [(0.0, '0'), (0.2, '+2 s'), (0.4, '+4 s'), (0.6, '+6 s'), (0.8, '+8 s'), (1.0, '+10 s')]
    """
    step = next((size for size in _STEPS if window.length / size <= most), _STEPS[-1])
    while window.length / step > most:
        step *= 2
    number = -int(-(window.start - origin) // step)
    found: list[tuple[float, str]] = []
    while (at := origin + number * step) <= window.end + step * 1e-6 and len(found) <= most:
        found.append((round(window.place(at), 6), _since(number * step, step)))
        number += 1
    return found


_STEPS: Final = tuple(
    size * unit
    for unit, sizes in (
        (0.0001, (1, 2, 5)), (0.001, (1, 2, 5)), (0.01, (1, 2, 5)), (0.1, (1, 2, 5)), (1.0, (1, 2, 5, 10, 15, 30)),
        (60.0, (1, 2, 5, 10, 15, 30)), (3600.0, (1, 2, 3, 6, 12)), (86400.0, (1, 2, 7, 14, 30, 90, 365)),
    )
    for size in sizes
)  # fmt: skip


def _since(seconds: float, step: float) -> str:
    if abs(seconds) < step / 2:
        return "0"
    sign, size = ("+", seconds) if seconds > 0 else ("-", -seconds)
    if step < 1 and size < 1:
        return f"{sign}{size * 1000:g} ms" if step >= 0.001 else f"{sign}{size * 1000:.1f} ms"
    if size < 60:
        return f"{sign}{round(size, 4):g} s"
    days, rest = divmod(round(size, 4), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (round(left, 4), "s")]
    return sign + " ".join(f"{value:g} {unit}" for value, unit in parts if value)
