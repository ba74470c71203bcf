"""What doesn't go on, grouped by cause, each group with what helps: for one run, or for all that are known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from perdure.api.stuck import StuckPage
from perdure.core.stuck import Action, Group
from perdure.web.dashboard import outlook, parts, pieces
from perdure.web.dashboard.desk import Desk, Refused, run_path
from perdure.web.dashboard.frame import page, stylesheet

_NAMED = 12  # runs that a group shows at first
_SIZE = 200


@page("/why", "Why")
async def why(desk: Desk) -> None:
    stylesheet(desk, "outlook.css")
    with parts.bar():
        parts.heading("Why")
        told = ui.label("").classes("pd-dim").props('role="status"')
    box = ui.element("div").classes("pd-groups")
    below = parts.row()
    page_shown: list[StuckPage] = []
    opened = False  # somebody has looked further, or does something: nothing moves under their hands

    def draw(found: StuckPage) -> None:
        page_shown[:] = [found]
        box.clear()
        with box:
            if not found.groups:
                with parts.card():
                    parts.empty("Everything goes on", "Nothing is blocked, paused, held back or slow.")
            for group in found.groups:
                _group(desk, group, refresh)
        told.set_text(f"{found.stuck:,} blocked or paused" if found.stuck else "")
        below.clear()
        if found.next is not None:
            with below:
                ui.label(f"{found.looked:,} of {found.stuck:,} were looked at.").classes("pd-dim")
                parts.button("Look at more", more)

    async def more() -> None:
        nonlocal opened
        opened = True
        old = page_shown[0]
        new = await desk.engine.stuck(size=_SIZE, cursor=old.next)
        draw(StuckPage(outlook.merged(old.groups, new.groups), new.looked, new.stuck, new.next))

    async def refresh() -> None:
        nonlocal opened
        opened = False
        draw(await desk.engine.stuck(size=_SIZE))

    async def turn() -> None:
        found = await desk.engine.stuck(size=_SIZE)
        if not opened and found != page_shown[0]:
            draw(found)

    draw(await desk.engine.stuck(size=_SIZE))
    desk.every(5.0, turn)


def _group(desk: Desk, group: Group, refresh: Callable[[], Awaitable[None]]) -> None:
    card = parts.card()
    card._props["aria-label"] = group.title
    with card:
        with ui.element("div").classes("pd-group-head"):
            with ui.element("span").classes(f"pd-badge pd-{outlook.TONES.get(group.kind, 'bad')}"):
                ui.label(f"{group.count:,}{'+' if group.more else ''}")
            parts.heading(group.title, level=2)
            if group.since is not None:
                with ui.element("span").classes("pd-dim"):
                    parts.when(outlook.since(group))
        ui.label(group.what).classes("pd-group-what")
        if group.runs:
            with ui.element("div").classes("pd-group-runs"):
                named = dict.fromkeys(held.id for held in group.runs)
                for id in list(named)[:_NAMED]:
                    parts.link(desk.url(run_path(id)), id)
                if group.count > _NAMED:
                    ui.label(f"and {group.count - min(_NAMED, len(named)):,} more").classes("pd-dim")
        if group.todo:
            with ui.element("div").classes("pd-group-todo"):
                ui.label("In a terminal:").classes("pd-dim")
                parts.mono(group.todo)
        with parts.row():
            for action in group.actions:
                _button(desk, group, action, refresh)
            if group.kind in outlook.PLACES:
                path, label = outlook.PLACES[group.kind]
                parts.link(desk.url(path), label)


def _button(desk: Desk, group: Group, action: Action, refresh: Callable[[], Awaitable[None]]) -> None:
    everyone = outlook.targets(group, action)
    many = len(everyone) > 1
    allowed = desk.administers if action.role == "admin" else desk.operates
    label = f"{action.label} ({len(everyone)})" if many else action.label

    async def press() -> None:
        if action.asks:
            await _ask(desk, action)
        else:
            names = f"all {len(everyone)} runs shown here" if many else _name(group, action)
            last = " It can't be taken back." if action.danger else ""
            if not await parts.confirm(
                f"{action.label}?", f"This is done for {names}.{last}", action.label, danger=action.danger
            ):
                return
            await _do(desk, group, action)
        await refresh()

    parts.button(
        label, press, main=not action.danger, danger=action.danger, allowed=allowed, needs=action.role
    )


def _name(group: Group, action: Action) -> str:
    return group.runs[0].id if action.each and group.runs else group.what


async def _do(desk: Desk, group: Group, action: Action) -> None:
    """An action for all it is for; tell how many it worked for, and what the first refusal says."""
    worked, refused = 0, ""
    for held in outlook.targets(group, action):
        try:
            await desk.send(*outlook.request(action, held))
            worked += 1
        except Refused as error:
            refused = refused or str(error)
    if worked:
        ui.notify(
            f"{action.label}: done for {worked:,}." if action.each else f"{action.label}: done.",
            type="positive",
        )
    if refused:
        ui.notify(refused, type="negative", multi_line=True, close_button="Close", timeout=15_000)


async def _ask(desk: Desk, action: Action) -> None:
    """An action for which a person has to say how much."""

    def draw() -> Callable[[], Awaitable[bool]]:
        box = pieces.field("US dollars", hint="What it is raised by")

        async def press() -> bool:
            return await desk.act("Raised.", *outlook.request(action, None, str(box.value or "").strip()))

        return press

    await pieces.ask_for("Raise the budget", draw, action.label)
