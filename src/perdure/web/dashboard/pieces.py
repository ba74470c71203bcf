"""Pieces that the pages about the fleet share: badges of any word, meters, lists of numbers, one number field."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import context, ui

from perdure.web.dashboard import parts
from perdure.web.dashboard.fleetfacts import Share, Standing


def badge(standing: Standing) -> ui.element:
    """How something stands."""
    with ui.element("span").classes(f"pd-badge pd-{standing.tone}") as made:
        ui.label(standing.word)
    return made


def badge_cells(name: str, standing: Standing) -> dict[str, str]:
    """A row's fields for a column of kind "status"."""
    return {name: standing.word, f"{name}_tone": standing.tone}


def meter(share: Share) -> ui.element:
    """How much of something is used: a bar, and the words beside it."""
    with ui.element("div").classes("pd-meter-row") as made:
        with ui.element("div").classes(f"pd-meter pd-meter-{share.tone}").props('aria-hidden="true"'):
            ui.element("div").style(f"width: {share.part * 100:.1f}%")
        ui.label(share.text)
    return made


def field(label: str, *, value: str = "", hint: str = "", wide: bool = False) -> ui.input:
    """A line to write in."""
    made = ui.input(label, value=value).props("outlined dense spellcheck=false").classes("pd-field")
    if hint:
        made.props["hint"] = hint
    if wide:
        made.classes("pd-field-wide")
    return made


def number_of(box: ui.input, what: str) -> int | None:
    """The whole number in a line; None if that is empty.

    Raises:
        ValueError: it is something else; the line says so.
    """
    text = str(box.value or "").strip().replace(",", "")
    box.error = None
    if not text:
        return None
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        box.error = f"{what}: a whole number of at least 1"
        raise ValueError(text)
    return found


async def ask_for(
    title: str,
    draw: Callable[[], Callable[[], Awaitable[bool]]],
    label: str,
) -> bool:
    """A dialog with fields, open until what its button does has worked, or nobody wants it.

    Args:
        draw: draws the fields, and returns what the button does: whether that worked.
    """
    with context.client, ui.dialog() as dialog, parts.card(title).classes("pd-dialog"):
        press = draw()

        async def pressed() -> None:
            if await press():
                dialog.submit(True)

        with parts.row().classes("pd-right"):
            parts.button("Leave it", lambda: dialog.submit(False))
            parts.button(label, pressed, main=True)
    answer = await dialog
    dialog.delete()
    return bool(answer)
