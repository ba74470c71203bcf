"""A part of a page that follows what it shows."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from nicegui import ui

from perdure.errors import PerdureError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.tables import Table

T = TypeVar("T")

EVERY = 2.0  #: seconds between two looks


async def live(
    desk: Desk,
    look: Callable[[], Awaitable[T]],
    draw: Callable[[T], object],
    *,
    every: float = EVERY,
    again: float | None = None,
) -> None:
    """Draw something, and draw it anew whenever it isn't what it was: what hasn't changed keeps its place and focus.

    Args:
        look: what there is to be drawn, comparable with what there was.
        draw: draws it, into an element that is empty then.
        again: seconds after which it is drawn anew though it is what it was, since it tells how long ago something
            was. Not for what has buttons.
    """
    box = ui.element("div").classes("pd-follow")
    shown: list[T] = []
    drawn_at = 0.0

    async def turn() -> None:
        nonlocal drawn_at
        try:
            found = await look()
        except PerdureError:
            if shown:  # the database is away; the next look may find it
                return
            raise
        old = again is not None and time.monotonic() - drawn_at >= again
        if shown and shown[0] == found and not old:
            return
        shown[:], drawn_at = [found], time.monotonic()
        box.clear()
        with box:
            draw(found)

    await turn()
    desk.every(every, turn)


async def live_table(
    desk: Desk,
    columns: Sequence[parts.Column],
    look: Callable[[], Awaitable[list[dict[str, Any]]]],
    empty: Callable[[], object],
    *,
    label: str,
    key: str = "id",
    every: float = EVERY,
) -> None:
    """A table that follows what it lists. Its rows change where they stand, so whoever reads or tabs there stays.

    Args:
        look: the rows.
        empty: draws what is there in place of a table without rows.
        label, key: as for `parts.table`.
    """
    box = ui.element("div").classes("pd-follow")
    shown: list[Table] = []

    async def turn() -> None:
        try:
            rows = await look()
        except PerdureError:
            if shown:
                return
            raise
        if rows and shown:
            if shown[0].rows != rows:
                shown[0].rows = rows
            return
        if box.default_slot.children and not rows and not shown:
            return
        shown.clear()
        box.clear()
        with box:
            if rows:
                shown.append(parts.table(columns, rows, label=label, key=key))
            else:
                empty()

    await turn()
    desk.every(every, turn)
