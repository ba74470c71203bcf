"""A timeline's drawing: a list of lanes, each with a label to press and a small SVG beside it.

All of it is made of elements, never of strings, so a step called `<script>` is a text that looks like that. Places are
percentages, so the drawing fits any width; colours are classes, so it is right in dark and in light. What can be
pressed says by data- attributes what it stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from perdure.api.wording import duration, printable
from perdure.web.views.gantt_rows import Row, Tone
from perdure.web.views.gantt_view import Bar, Cell, Lane, Point, View, ticks
from perdure.web.views.markup import markup

#: Height of a lane's drawing, in pixels.
HEIGHT: Final = 24
#: The narrowest bar that can be seen and pressed, as a part of the width.
NARROWEST: Final = 0.004

_SIGNS: Final = {
    "run": "▶", "step": "▪", "timer": "◷", "child": "↳", "message": "✉", "question": "?", "callback": "↩",
    "event": "◇", "update": "⟲",
}  # fmt: skip
_STANDS: Final[dict[Tone, str]] = {
    "good": "done", "bad": "failed", "busy": "going on", "wait": "waiting", "hold": "held up", "idle": "over",
}  # fmt: skip


def drawn(view: View) -> str:
    """The markup of a timeline's part."""
    root = Element("div", {"class": "pd-gantt", "role": "group", "aria-label": "Timeline"})
    marks = ticks(view.window, view.start)
    root.append(_axis(marks, view.points))
    rows = SubElement(root, "ul", {"class": "pd-gantt-lanes"})
    inside = ""
    for lane in view.lanes:
        inside = _lane(rows, lane, marks, view, inside)
    return markup(root)


def title_of(row: Row) -> str:
    """What a row is called in few words: an op id without the module of its step.

    Example:
        >>> title_of(Row("1.2/shop.orders.charge#2", "step", "shop.orders.charge", "good", 0.0, 1.0, 1, 2))
        'charge#2'
    """
    position = row.id.find(row.name)
    if row.kind == "run":
        text = row.name.rpartition(".")[2] or row.name
    elif row.kind in ("message", "event", "update"):
        text = row.name
    elif position < 0:
        text = row.name if row.kind == "child" else row.id
    else:
        text = (row.name.rpartition(".")[2] or row.name) + row.id[position + len(row.name) :]
    return printable(text)


def told(row: Row, now: float) -> str:
    """A row in words, for those who don't see it, and for whoever points at it."""
    took = duration((now if row.end is None else row.end) - row.start)
    attempts = f", {row.attempts} attempts" if row.attempts > 1 else ""
    what = row.id or row.name
    said = f"{what} ({row.kind}): {_STANDS[row.tone]}, {took}{attempts}" + (
        f"; {row.text}" if row.text else ""
    )
    return printable(said)


def _axis(marks: Sequence[tuple[float, str]], points: Sequence[Point]) -> Element:
    axis = Element("div", {"class": "pd-gantt-lane pd-gantt-axis"})
    SubElement(axis, "span", {"class": "pd-gantt-name"})
    svg = SubElement(
        axis, "svg", {"class": "pd-gantt-bars", "height": "34", "width": "100%", "data-axis": "1"}
    )
    SubElement(svg, "title").text = "Drag to zoom"
    for place, text in marks:
        anchor = "start" if place < 0.04 else "end" if place > 0.94 else "middle"
        attributes = {"x": _at(place), "y": "12", "text-anchor": anchor, "class": "pd-gantt-tick"}
        SubElement(svg, "text", attributes).text = text
    for point in points:
        attributes = {"cx": _at(point.place), "cy": "25", "r": "4.5", "class": f"pd-fill-{point.mark.tone}"}
        dot = SubElement(svg, "circle", {**attributes, "data-seq": str(point.mark.seq)})
        more = f" (and {point.more} more)" if point.more else ""
        SubElement(dot, "title").text = printable(f"event {point.mark.seq}: {point.mark.text}{more}")
    SubElement(axis, "span", {"class": "pd-gantt-took"})
    return axis


def _lane(rows: Element, lane: Lane, marks: Sequence[tuple[float, str]], view: View, inside: str) -> str:
    """Draw a lane. Returns the group whose rows may follow."""
    row = lane.row
    nested = bool(inside) and not lane.group and inside == f"{row.kind} {row.name}"
    item = SubElement(rows, "li", {"class": "pd-gantt-lane" + (" pd-gantt-nested" if nested else "")})
    if lane.group:
        _group(item, lane, marks)
        return lane.group if lane.opened else ""
    said = told(row, view.now)
    attributes = {
        "type": "button",
        "class": "pd-gantt-name",
        "data-row": row.id,
        "title": said,
        "aria-label": said,
    }
    label = SubElement(item, "button", attributes)
    SubElement(
        label, "span", {"class": f"pd-gantt-sign pd-tone-text-{row.tone}", "aria-hidden": "true"}
    ).text = _SIGNS.get(row.kind, "▪")
    SubElement(label, "span", {"class": "pd-gantt-title"}).text = title_of(row)
    svg = _svg(item, marks)
    for bar in lane.bars:
        _bar(svg, bar, row)
    took = "" if row.end is not None and row.end <= row.start else duration((row.end or view.now) - row.start)
    SubElement(item, "span", {"class": "pd-gantt-took"}).text = took
    return inside if nested else ""


def _group(item: Element, lane: Lane, marks: Sequence[tuple[float, str]]) -> None:
    counts = ", ".join(f"{count:,} {_STANDS[tone]}" for tone, count in lane.tally)
    name = printable(lane.row.name.rpartition(".")[2] or lane.row.name)
    said = printable(f"{lane.size:,} {lane.row.kind}s {lane.row.name}: {counts}")
    attributes = {
        "type": "button", "class": "pd-gantt-name", "data-group": lane.group, "title": said, "aria-label": said,
        "aria-expanded": "true" if lane.opened else "false",
    }  # fmt: skip
    label = SubElement(item, "button", attributes)
    SubElement(label, "span", {"class": "pd-gantt-sign", "aria-hidden": "true"}).text = (
        "▾" if lane.opened else "▸"
    )
    SubElement(label, "span", {"class": "pd-gantt-title"}).text = name
    svg = _svg(item, marks)
    for cell in lane.cells:
        _cell(svg, cell)
    SubElement(item, "span", {"class": "pd-gantt-took"}).text = f"{lane.size:,}x"


def _svg(item: Element, marks: Sequence[tuple[float, str]]) -> Element:
    attributes = {"class": "pd-gantt-bars", "height": str(HEIGHT), "width": "100%", "aria-hidden": "true"}
    svg = SubElement(item, "svg", attributes)
    for place, _ in marks:
        where = {"x1": _at(place), "x2": _at(place), "y1": "0", "y2": str(HEIGHT)}
        SubElement(svg, "line", {**where, "class": "pd-gantt-grid"})
    return svg


def _bar(svg: Element, bar: Bar, row: Row) -> None:
    span = bar.span
    width = max(NARROWEST, bar.end - bar.start)
    start = min(bar.start, 1.0 - width)
    thin = span.kind in ("backoff", "limit", "wait", "person", "budget")
    kind = "run" if span.kind == "run" else "thin" if thin else "paused" if span.kind == "paused" else "full"
    high = {"run": 8, "thin": 6, "paused": 14, "full": 14}[kind]
    shape = SubElement(
        svg,
        "rect",
        {
            "x": _at(start), "y": str((HEIGHT - high) // 2), "width": _at(width), "height": str(high), "rx": "3",
            "class": f"pd-fill-{span.tone} pd-bar-{kind}" + (" pd-bar-open" if span.end is None else ""),
            "data-row": row.id, "data-seq": str(span.seq),
        },
    )  # fmt: skip
    length = "goes on" if span.end is None else duration(span.end - span.start)
    SubElement(shape, "title").text = printable(f"{title_of(row)}: {span.text} ({length})")


def _cell(svg: Element, cell: Cell) -> None:
    high = round((HEIGHT - 6) * cell.height)
    attributes = {
        "x": _at(cell.start), "y": str((HEIGHT - high) // 2), "width": _at(cell.end - cell.start + 0.0005),
        "height": str(high), "class": f"pd-fill-{cell.tone}", "data-from": f"{cell.start:.4f}",
        "data-to": f"{cell.end:.4f}",
    }  # fmt: skip
    SubElement(svg, "rect", attributes)


def _at(place: float) -> str:
    return f"{place * 100:.3f}%"
