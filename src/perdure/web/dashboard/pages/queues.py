"""Queues and rate limits: what waits and runs there, how much may, and pausing, draining and limiting them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from perdure.api.limits import LimitInfo
from perdure.api.queues import QueueInfo
from perdure.web.dashboard import fleetfacts, parts, pieces
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live, live_table

_COLUMNS = [
    parts.Column("name", "Queue", "link"),
    parts.Column("state", "State", "status"),
    parts.Column("queued", "Queued", "number"),
    parts.Column("running", "Running", "number"),
    parts.Column("delayed", "Later", "number", wide=True),
    parts.Column("oldest", "Oldest waits since", "time", wide=True),
    parts.Column("limits", "Limits", wide=True),
    parts.Column("workers", "Workers", "number", wide=True),
]
_LIMITS = [
    parts.Column("name", "Rate limit", "link"),
    parts.Column("state", "State", "status"),
    parts.Column("free", "Free now", wide=True),
    parts.Column("waiting", "Waiting", "number"),
    parts.Column("next", "Next may begin", "time"),
]


@page("/queues", "Queues")
async def queues(desk: Desk) -> None:
    with parts.bar():
        parts.heading("Queues")

    async def rows() -> list[dict[str, Any]]:
        return [_row(desk, queue) for queue in await desk.engine.queues.list()]

    async def limits() -> list[dict[str, Any]]:
        return [_limit_row(desk, limit) for limit in await desk.engine.limits.list()]

    await live_table(desk, _COLUMNS, rows, _no_queues, label="Queues", key="name")
    parts.heading("Rate limits", level=2)
    await live_table(desk, _LIMITS, limits, _no_limits, label="Rate limits", key="name")


def _no_queues() -> None:
    parts.empty("There is no queue yet.", "A queue is there once a worker serves it.", "perdure dev app")


def _no_limits() -> None:
    parts.empty(
        "No step has been under a rate limit.",
        "A limit holds over all workers: so many calls, or tokens, per so long.",
        '@step(limit=RateLimit("openai", requests=Rate(500, per=60)))',
    )


def _row(desk: Desk, queue: QueueInfo) -> dict[str, Any]:
    return {
        **parts.link_cells("name", queue.name, desk.url(_path(queue.name))),
        **pieces.badge_cells("state", fleetfacts.queue_standing(queue)),
        "queued": fleetfacts.count(queue.queued),
        "running": fleetfacts.running_text(queue),
        "delayed": fleetfacts.count(queue.delayed),
        **parts.time_cells("oldest", queue.oldest),
        "limits": fleetfacts.queue_limits_line(queue),
        "workers": fleetfacts.count(len(queue.workers)),
    }


def _limit_row(desk: Desk, limit: LimitInfo) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        **parts.link_cells("name", limit.name, desk.url(f"/queues/limit/{parts.quoted(limit.name)}")),
        **pieces.badge_cells("state", fleetfacts.limit_standing(limit, now)),
        "free": "; ".join(
            f"{name}: {fleetfacts.unit_share(unit).text}" for name, unit in limit.units.items()
        ),
        "waiting": fleetfacts.count(sum(unit.waiting for unit in limit.units.values())),
        **(parts.time_cells("next", limit.next_at) if limit.next_at > now else {"next": "now"}),
    }


def _path(name: str) -> str:
    return f"/queues/named/{parts.quoted(name)}"


# -- one queue ------------------------------------------------------------------------------------------


@page("/queues/named/{name:path}", "Queue")
async def queue(desk: Desk, name: str) -> None:
    api = f"/queues/{parts.quoted(name)}"
    find = _finder(desk, name)
    if await find() is None:
        parts.trouble(f"Nothing is known of a queue {name!r}: no worker serves it, and it holds nothing.")
        return

    def draw_head(state: tuple[bool, bool, fleetfacts.Standing]) -> None:
        paused, draining, standing = state
        with parts.bar():
            with parts.row():
                parts.heading(f"Queue {name}")
                pieces.badge(standing)
            with parts.row():
                _actions(desk, name, api, held=paused or draining, draining=draining)

    async def look_head() -> tuple[bool, bool, fleetfacts.Standing]:
        found = await find()
        if found is None:
            return False, False, fleetfacts.Standing("unknown", "idle")
        return found.paused, found.draining, fleetfacts.queue_standing(found)

    await live(desk, look_head, draw_head)
    await live(desk, find, _draw_queue, again=10)
    _limits_form(desk, api, await find())


def _finder(desk: Desk, name: str) -> Callable[[], Awaitable[QueueInfo | None]]:
    async def find() -> QueueInfo | None:
        return await desk.engine.queues.get(name)

    return find


def _actions(desk: Desk, name: str, api: str, *, held: bool, draining: bool) -> None:
    may = desk.administers

    async def pause() -> None:
        await parts.act_after_asking(
            desk,
            f"Pause {name}?",
            "None of its runs begins or goes on, but those that workers have in memory now.",
            "Pause",
            f"{name} is paused.",
            "POST",
            f"{api}/pause",
        )

    async def resume() -> None:
        await desk.act(f"{name} goes on.", "POST", f"{api}/resume")

    async def drain() -> None:
        await parts.act_after_asking(
            desk,
            f"Drain {name}?",
            "None of its runs begins any more; those that have begun go on to their ends. What is started waits.",
            "Drain",
            f"{name} drains.",
            "POST",
            f"{api}/drain",
        )

    if held:
        parts.button("Resume", resume, icon="play_arrow", main=True, allowed=may, needs="admin")
    else:
        parts.button("Pause", pause, icon="pause", allowed=may, needs="admin")
    if not draining:
        parts.button("Drain", drain, icon="hourglass_bottom", allowed=may, needs="admin")


def _draw_queue(found: QueueInfo | None) -> None:
    if found is None:
        parts.empty("It is gone.", "No worker serves it any more, and it holds nothing.")
        return
    with ui.element("div").classes("pd-figures"):
        parts.figure("Queued", fleetfacts.count(found.queued))
        parts.figure("Running", fleetfacts.running_text(found))
        parts.figure("Later", fleetfacts.count(found.delayed), "their time hasn't come")
        parts.figure("Oldest waits", "-" if found.oldest is None else parts.ago(found.oldest))
    with ui.element("div").classes("pd-grid"):
        with parts.card("Limits"):
            limits: list[tuple[str, Any]] = [*fleetfacts.queue_limits(found)]
            if found.next_at is not None:
                limits.append(("Next run begins", found.next_at))
            if limits:
                parts.facts(limits)
            else:
                ui.label("It has none: whatever is due begins at once.").classes("pd-dim")
        with parts.card("Workers"):
            if found.workers:
                for worker in found.workers:
                    parts.mono(worker)
            else:
                ui.label("No worker serves it, so nothing goes on.").classes("pd-dim")


def _limits_form(desk: Desk, api: str, found: QueueInfo | None) -> None:
    """Other limits than the code's. What is left empty stays as it is."""
    if found is None:
        return
    with parts.card("Set other limits"):
        ui.label(
            "They hold from now on for all workers, whatever is deployed, until the code's are taken again. "
            "What is left empty stays as it is."
        ).classes("pd-dim")
        with ui.element("div").classes("pd-boxes"):
            at_once = pieces.field("Runs at once")
            per_worker = pieces.field("Of these on one worker")
            per_key = pieces.field("Of these of one key")
            rate = pieces.field("Beginnings")
            per = pieces.field("in so many seconds", value="60")

        async def set_them() -> None:
            try:
                given: dict[str, Any] = {
                    "concurrency": pieces.number_of(at_once, "Runs at once"),
                    "per_worker": pieces.number_of(per_worker, "On one worker"),
                    "per_key": pieces.number_of(per_key, "Of one key"),
                }
                number, seconds = pieces.number_of(rate, "Beginning"), pieces.number_of(per, "Seconds")
            except ValueError:
                return
            body = {name: value for name, value in given.items() if value is not None}
            if number is not None:
                body["rate"] = {"limit": number, "per": seconds or 60}
            if not body:
                ui.notify("Nothing is filled in, so nothing changes.", type="info")
                return
            if await desk.act("The limits hold.", "PUT", api, body):
                for box in (at_once, per_worker, per_key, rate):
                    box.value = ""

        async def reset() -> None:
            await parts.act_after_asking(
                desk,
                f"Take the code's limits for {found.name} again?",
                "What operators have set is forgotten.",
                "Take the code's",
                "The code's limits hold again.",
                "POST",
                f"{api}/reset",
            )

        with parts.row():
            parts.button("Set limits", set_them, main=True, allowed=desk.administers, needs="admin")
            parts.button("Take the code's again", reset, allowed=desk.administers, needs="admin")


# -- one rate limit -------------------------------------------------------------------------------------


@page("/queues/limit/{name:path}", "Rate limit")
async def rate_limit(desk: Desk, name: str) -> None:
    api = f"/limits/{parts.quoted(name)}"

    async def find() -> LimitInfo | None:
        return await desk.engine.limits.get(name)

    if await find() is None:
        parts.trouble(f"No step has been under a rate limit {name!r} yet, and nobody has blocked it.")
        return

    async def blocked() -> bool:
        found = await find()
        return found is not None and fleetfacts.limit_standing(found, datetime.now(UTC)).word == "blocked"

    def draw_head(is_blocked: bool) -> None:
        with parts.bar():
            parts.heading(f"Rate limit {name}")
            with parts.row():
                _limit_actions(desk, name, api, is_blocked=is_blocked)

    await live(desk, blocked, draw_head)
    await live(desk, find, _draw_limit, again=10)


def _limit_actions(desk: Desk, name: str, api: str, *, is_blocked: bool) -> None:
    may = desk.administers

    async def block() -> None:
        def draw() -> Callable[[], Awaitable[bool]]:
            ui.label("Nothing that has this limit begins before it is over; what goes on, goes on.")
            minutes = pieces.field("Minutes", value="10")

            async def press() -> bool:
                try:
                    length = pieces.number_of(minutes, "Minutes")
                except ValueError:
                    return False
                return await desk.act(
                    f"{name} is blocked.", "POST", f"{api}/block", {"seconds": 60 * (length or 10)}
                )

            return press

        await pieces.ask_for(f"Block {name}?", draw, "Block")

    async def unblock() -> None:
        await desk.act(f"{name} is open.", "POST", f"{api}/unblock")

    async def reset() -> None:
        await parts.act_after_asking(
            desk,
            f"Reset {name}?",
            "What was used is forgotten, and who waits, and the block. More than the limit may begin for a moment.",
            "Reset",
            f"{name} begins anew.",
            "POST",
            f"{api}/reset",
            danger=True,
        )

    if is_blocked:
        parts.button("Unblock", unblock, icon="play_arrow", main=True, allowed=may, needs="admin")
    else:
        parts.button("Block", block, icon="block", allowed=may, needs="admin")
    parts.button("Reset", reset, icon="restart_alt", danger=True, allowed=may, needs="admin")


def _draw_limit(found: LimitInfo | None) -> None:
    if found is None:
        parts.empty("Nothing is known of it any more.", "The next step under it makes it known again.")
        return
    now = datetime.now(UTC)
    with parts.card("What may begin"):
        told: list[tuple[str, Any]] = []
        if found.blocked_until is not None and found.blocked_until > now:
            told.append(("Blocked until", parts.stamp(found.blocked_until)))
        told.append(("Next may begin", found.next_at if found.next_at > now else "now"))
        parts.facts(told)
        for unit, info in found.units.items():
            parts.heading(unit.capitalize(), level=3)
            pieces.meter(fleetfacts.unit_share(info))
