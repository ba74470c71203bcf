"""Doing something with many runs: asked for once, then done run by run through the API, so that each is one line of the
audit log, and a failure of one keeps nobody else from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nicegui import ui

from perdure.core.status import Status
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, Refused, run_path
from perdure.web.views.runlist import MANY, Deed, left_out, runs_told

#: Requests on their way at once. More would only wait for the same database.
_AT_ONCE: Final = 8
_FAILURES_SHOWN: Final = 100


async def gathered(desk: Desk, filters: dict[str, Any], deed: Deed) -> tuple[list[tuple[str, Status]], bool]:
    """The runs that a filter matches and a deed can be done with, newest first; and whether there are more.

    Those whose status doesn't allow for it aren't looked at where the store can leave them out.
    """
    chosen = [Status(status) for status in filters["status"]] or list(Status)
    asked: dict[str, Any] = {**filters, "status": [status.value for status in chosen if status in deed.of]}
    if not asked["status"]:
        return [], False
    found: list[tuple[str, Status]] = []
    cursor: str | None = None
    while True:
        page = await desk.engine.runs_page(**asked, size=1000, cursor=cursor)
        found += [(run.id, run.status) for run in page.runs]
        cursor = page.next
        if cursor is None or len(found) > MANY:
            return found[:MANY], len(found) > MANY


async def do_after_asking(
    desk: Desk, deed: Deed, runs: Sequence[tuple[str, Status]], *, cut: bool = False
) -> bool:
    """Ask, do it with each run that it can be done with, and tell how that went.

    Args:
        cut: there are more runs, which come another time.

    Returns:
        Whether anything was done.
    """
    able = [id for id, status in runs if status in deed.of]
    if not able:
        told = left_out(deed, [status for _, status in runs])
        ui.notify(f"There is no run here to {deed.verb.lower()}. {told}".strip(), type="warning")
        return False
    reason = await _asked(deed, able, left_out(deed, [status for _, status in runs]), cut)
    if reason is None:
        return False
    body = {"reason": reason or None} if deed.reasoned else None
    await _Progress(desk, deed, able, body).run()
    return True


async def _asked(deed: Deed, able: Sequence[str], others: str, cut: bool) -> str | None:
    """The reason that somebody gives, "" for none; None if it isn't to be done."""
    told = runs_told(len(able))
    with (
        ui.dialog() as dialog,
        parts.card(f"{deed.verb} {told}?").classes("pd-dialog").props('role="alertdialog"'),
    ):
        ui.label(deed.means)
        if others:
            ui.label(others).classes("pd-dim")
        if cut:
            ui.label(
                f"{MANY:,} are done at once, the newest ones first; do it again for the others."
            ).classes("pd-dim")
        if len(able) <= 5:
            for id in able:
                parts.mono(id)
        reason = ui.input("Reason, for the history").props("outlined dense") if deed.reasoned else None
        with parts.row().classes("pd-right"):
            parts.button("Leave it", lambda: dialog.submit(False)).props("autofocus")
            parts.button(f"{deed.verb} {told}", lambda: dialog.submit(True), main=True, danger=deed.danger)
    answer = await dialog
    given = "" if reason is None else str(reason.value or "").strip()
    dialog.delete()
    return given if answer else None


class _Progress:
    """Does it, with a bar that fills, and a list of what didn't work."""

    def __init__(self, desk: Desk, deed: Deed, ids: Sequence[str], body: Any) -> None:
        self._desk = desk
        self._deed = deed
        self._ids = ids
        self._body = body
        self._done = 0
        self._failed: list[tuple[str, str]] = []
        self._stopped = False

    async def run(self) -> None:
        deed = self._deed
        told = f"{deed.verb} {runs_told(len(self._ids))}"
        with ui.dialog().props("persistent") as dialog, parts.card(told).classes("pd-dialog") as card:
            self._bar = ui.linear_progress(0.0, show_value=False, color=None).classes("pd-progress")
            self._bar.props('aria-label="Progress"')
            self._label = ui.label().props('role="status"')
            with parts.row().classes("pd-right"):
                stop = parts.button("Stop", self._stop)
        dialog.open()
        waiting = iter(self._ids)
        await asyncio.gather(*(self._work(waiting) for _ in range(min(_AT_ONCE, len(self._ids)))))
        good = self._done - len(self._failed)
        if not self._failed:
            dialog.close()
            dialog.delete()
            left = f" Stopped before {len(self._ids) - self._done:,} others." if self._stopped else ""
            ui.notify(f"{deed.done} {runs_told(good)}.{left}", type="positive")
            return
        self._bar.delete()
        self._label.text = f"{deed.done} {good:,} of {runs_told(len(self._ids))}. What didn't work:"
        stop.delete()
        with card:
            with ui.element("ul").classes("pd-failures"):
                for id, why in self._failed[:_FAILURES_SHOWN]:
                    with ui.element("li"):
                        parts.link(self._desk.url(run_path(id)), id)
                        ui.label(why).classes("pd-dim")
            if len(self._failed) > _FAILURES_SHOWN:
                ui.label(f"and {len(self._failed) - _FAILURES_SHOWN:,} more").classes("pd-dim")
            with parts.row().classes("pd-right"):
                parts.button("Close", lambda: dialog.submit(True), main=True)
        await dialog
        dialog.delete()

    def _stop(self) -> None:
        self._stopped = True

    async def _work(self, waiting: Iterator[str]) -> None:
        for id in waiting:
            if self._stopped:
                return
            try:
                await self._desk.send("POST", run_path(id, self._deed.path), self._body)
            except Refused as error:
                self._failed.append((id, str(error)))
                # Whoever has no right any more gets none by asking again for each.
                self._stopped = self._stopped or error.status in (401, 403)
            self._done += 1
            self._bar.value = self._done / len(self._ids)
            self._label.text = f"{self._done:,} of {len(self._ids):,}"
