"""What pages are made of, so that all look and behave the same. Texts are shown as texts, whatever is in them."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from nicegui import context, ui

from perdure.api.wording import duration as duration
from perdure.core.status import Status
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.tables import Table


class Keys(str):
    """Keys to press, drawn as such."""

    __slots__ = ()


#: How much a status asks for somebody's attention.
TONES: Final[Mapping[str, str]] = {
    Status.QUEUED: "idle",
    Status.RUNNING: "busy",
    Status.WAITING: "wait",
    Status.PAUSED: "hold",
    Status.BLOCKED: "bad",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "idle",
    Status.TERMINATED: "idle",
    Status.CONTINUED: "good",
}


def quoted(text: str) -> str:
    """A text as one part of a query or a path."""
    return quote(text, safe="")


def attribute(value: str) -> str:
    """A text as the value of an element's prop, in double quotes there."""
    return html.escape(value).replace("\\", "\\\\")


_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

# -- texts ----------------------------------------------------------------------------------------------


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, or in how long.

    Example:
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> ago(noon, datetime(2026, 1, 1, 12, 5, tzinfo=UTC)), ago(noon, datetime(2026, 1, 1, 11, tzinfo=UTC))
        ('5 min ago', 'in 1 h')
    """
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    whole = round(abs(seconds))
    size, name = next(each for each in _UNITS if whole >= each[0])
    told = f"{whole // size} {name}"
    return f"{told} ago" if seconds > 0 else f"in {told}"


def stamp(moment: datetime) -> str:
    """A moment to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# -- elements -------------------------------------------------------------------------------------------


def link(href: str, text: str | None = None) -> ui.element:
    """A link within this server; `href` comes from `Desk.url`."""
    made = ui.element("a").props(f'href="{attribute(href)}"')
    if text is not None:
        made.classes("pd-link")
        with made:
            ui.label(text)
    return made


def status(value: str) -> ui.element:
    """A run's status, as a badge."""
    with ui.element("span").classes(f"pd-badge pd-{TONES.get(value, 'idle')}") as made:
        ui.label(value)
    return made


def when(moment: datetime | None, *, none: str = "never") -> ui.element:
    """A moment, relative to now; exactly, to whoever points at it."""
    if moment is None:
        return ui.label(none).classes("pd-dim")
    made = ui.element("time").props(f'datetime="{moment.isoformat()}" title="{stamp(moment)}"')
    with made:
        ui.label(ago(moment))
    return made


def mono(text: str) -> ui.label:
    """An id or a piece of code, within a line."""
    return ui.label(text).classes("pd-mono")


def text_block(text: str) -> ui.element:
    """A longer text as it stands, with its line breaks; scrolls by itself."""
    with ui.element("pre").classes("pd-block").props('tabindex="0"') as made:
        ui.label(text)
    return made


def heading(text: str, *, level: int = 1) -> ui.element:
    """A heading; each page has one of level 1."""
    with ui.element(f"h{level}").classes(f"pd-h{level}") as made:
        ui.label(text)
    return made


def card(title: str | None = None, *, level: int = 2) -> ui.element:
    """A part of a page that belongs together."""
    made = ui.element("section").classes("pd-card")
    if title is not None:
        with made:
            heading(title, level=level)
    return made


def row() -> ui.element:
    """Things side by side that wrap where there is no room."""
    return ui.element("div").classes("pd-row")


def bar() -> ui.element:
    """The heading of a page at the left, its actions at the right."""
    return ui.element("div").classes("pd-bar")


def facts(pairs: Sequence[tuple[str, Any]]) -> ui.element:
    """Names and values. A value is a text, a moment, or a function that draws it."""
    with ui.element("dl").classes("pd-facts") as made:
        for name, value in pairs:
            with ui.element("dt"):
                ui.label(name).classes("pd-kbd" if isinstance(name, Keys) else "")
            with ui.element("dd"):
                if callable(value):
                    value()
                elif isinstance(value, datetime):
                    when(value)
                else:
                    ui.label(str(value))
    return made


def figure(name: str, value: str, hint: str = "", *, tone: str = "") -> ui.element:
    """One number that counts, with its name."""
    with ui.element("div").classes(f"pd-figure {f'pd-tone-{tone}' if tone else ''}") as made:
        ui.label(name).classes("pd-dim")
        ui.label(value).classes("pd-number")
        if hint:
            ui.label(hint).classes("pd-dim")
    return made


def empty(title: str, hint: str = "", command: str | None = None) -> ui.element:
    """That there is nothing, and how there would be something."""
    with ui.element("div").classes("pd-empty") as made:
        ui.label(title).classes("pd-strong")
        if hint:
            ui.label(hint).classes("pd-dim")
        if command is not None:
            text_block(command)
    return made


def trouble(text: str) -> ui.element:
    """What went wrong, why, and what to do."""
    with ui.element("div").classes("pd-trouble").props('role="alert"') as made:
        ui.icon("error").props('aria-hidden="true"')
        ui.label(text)
    return made


# -- tables ---------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: of the rows' field.
        kind: how it is shown. A "link" leads to what the row has under NAME_href; a "time" and a "number" are texts
            that were made here, and a time's row may have NAME_title.
        wide: left out where there is little room.
    """

    name: str
    title: str
    kind: Literal["text", "link", "status", "time", "number", "mono"] = "text"
    wide: bool = False


def table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    *,
    label: str,
    key: str = "id",
    select: Callable[[list[str]], None] | None = None,
) -> Table:
    """A table whose rows are replaced by setting `.rows`; see `cells` for making them.

    Args:
        label: what it lists, for those who don't see it.
        key: the field that tells rows apart.
        select: told the keys of chosen rows; without it none can be.
    """
    return Table(column_props(columns), [dict(each) for each in rows], label=label, key=key, select=select)


def column_props(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """What a table's `.columns` are set to, to show others than it was made with."""
    return [column._asdict() for column in columns]


def time_cells(name: str, moment: datetime | None, *, none: str = "") -> dict[str, str]:
    """A row's fields for a column of times."""
    if moment is None:
        return {name: none, f"{name}_title": ""}
    return {name: ago(moment), f"{name}_title": stamp(moment)}


def status_cells(name: str, value: str, more: str = "") -> dict[str, str]:
    """A row's fields for a column of statuses; `more` stands beside the badge, shortened where there is no room."""
    return {name: value, f"{name}_tone": TONES.get(value, "idle"), f"{name}_more": more}


def link_cells(name: str, text: str, href: str) -> dict[str, str]:
    """A row's fields for a column of links; `href` comes from `Desk.url`."""
    return {name: text, f"{name}_href": href}


# -- actions --------------------------------------------------------------------------------------------


async def confirm(question: str, consequence: str, label: str, *, danger: bool = False) -> bool:
    """Ask before something is done.

    Args:
        consequence: what it means, in a sentence.
        label: of the button that does it: the verb.
    """
    # at the page's end, and not where the button is: that may be drawn anew meanwhile
    with (
        context.client,
        ui.dialog() as dialog,
        card(question).classes("pd-dialog").props('role="alertdialog"'),
    ):
        ui.label(consequence)
        with row().classes("pd-right"):
            button("Leave it", lambda: dialog.submit(False)).props("autofocus")
            button(label, lambda: dialog.submit(True), main=True, danger=danger)
    answer = await dialog
    dialog.delete()
    return bool(answer)


def button(
    text: str,
    press: Callable[[], Awaitable[Any] | Any],
    *,
    icon: str | None = None,
    main: bool = False,
    danger: bool = False,
    allowed: bool = True,
    needs: str = "operator",
) -> ui.button:
    """A button of a page.

    Args:
        main: the one thing that most come for.
        allowed: whether this person may; else it is there, but can't be pressed, and says what it `needs`.
    """
    made = ui.button(text, icon=icon, on_click=press, color=None).props("no-caps unelevated dense")
    made.classes("pd-button" + (" pd-button-main" if main else "") + (" pd-button-danger" if danger else ""))
    if not allowed:
        made.disable()
        made.tooltip(f"This takes the role {needs}.")
    return made


async def act_after_asking(
    desk: Desk,
    question: str,
    consequence: str,
    label: str,
    done: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    danger: bool = False,
) -> bool:
    """Ask, do it by the API, and tell how it went."""
    if not await confirm(question, consequence, label, danger=danger):
        return False
    return await desk.act(done, method, path, body)
