"""Entities: which kinds there are, and of each the objects, with the sizes of their states and when they were used."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from perdure.api.entitylist import EntityInfo
from perdure.web.dashboard import fleetfacts, parts
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live_table

_KINDS = [
    parts.Column("name", "Kind", "link"),
    parts.Column("count", "Entities", "number"),
]
_COLUMNS = [
    parts.Column("key", "Key", "link"),
    parts.Column("status", "Status", "status"),
    parts.Column("size", "State", "number"),
    parts.Column("active", "Used last", "time"),
    parts.Column("created", "Made", "time", wide=True),
    parts.Column("events", "Events", "number", wide=True),
]
_SIZE = 50


@page("/entities", "Entities")
async def kinds(desk: Desk) -> None:
    with parts.bar():
        parts.heading("Entities")

    async def rows() -> list[dict[str, Any]]:
        return [
            {
                **parts.link_cells("name", kind.name, desk.url(f"/entities/{parts.quoted(kind.name)}")),
                "count": fleetfacts.count(kind.count),
            }
            for kind in await desk.engine.entities.kinds()
        ]

    def none() -> None:
        parts.empty(
            "No entity has had a call.",
            "An entity is an object with a key; its state outlives every process, and its calls come one at a time.",
            'await engine.entity(Cart, "user-7").add("tent")',
        )

    await live_table(desk, _KINDS, rows, none, label="Kinds of entities", key="name")


@page("/entities/{kind:path}", "Entities")
async def entities(desk: Desk, kind: str, text: str = "", cursor: str = "") -> None:
    here = f"/entities/{parts.quoted(kind)}"
    with parts.bar():
        parts.heading(kind)
        box = ui.input("Find by key", value=text).props("outlined dense clearable spellcheck=false")

    async def narrow() -> None:
        wanted = str(box.value or "").strip()
        ui.navigate.to(f"{here}?text={parts.quoted(wanted)}" if wanted else here)

    box.on("keydown.enter", narrow)
    box.on("clear", narrow)

    async def rows() -> list[dict[str, Any]]:
        found = await desk.engine.entities.page(kind, text=text or None, size=_SIZE, cursor=cursor or None)
        return [_row(desk, item) for item in found.entities]

    def none() -> None:
        if text:
            parts.empty(f"No key has {text!r} in it.")
        else:
            parts.empty("There is none of this kind.")

    await live_table(desk, _COLUMNS, rows, none, label=f"Entities of {kind}")
    found = await desk.engine.entities.page(kind, text=text or None, size=_SIZE, cursor=cursor or None)
    with parts.row().classes("pd-right"):
        narrowed = f"text={parts.quoted(text)}&" if text else ""
        if cursor:
            parts.link(desk.url(f"{here}?{narrowed}".rstrip("?&")), "First page")
        if found.next is not None:
            parts.link(desk.url(f"{here}?{narrowed}cursor={found.next}"), "Next page")


def _row(desk: Desk, item: EntityInfo) -> dict[str, Any]:
    return {
        "id": item.run,
        **parts.link_cells("key", item.key, desk.url(run_path(item.run))),
        **parts.status_cells("status", item.status),
        "size": "-" if item.state_size is None else fleetfacts.size(item.state_size),
        **parts.time_cells("active", item.active_at),
        **parts.time_cells("created", item.created_at),
        "events": fleetfacts.count(item.events),
    }
