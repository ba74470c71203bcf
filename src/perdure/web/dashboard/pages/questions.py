"""The inbox: what runs ask of people, and a form for each answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nicegui import ui

from perdure.api.questions import QuestionInfo
from perdure.web.dashboard import fleetfacts, parts, pieces
from perdure.web.dashboard.answering import approves, draw_answer
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live, live_table

_COLUMNS = [
    parts.Column("text", "Question", "link"),
    parts.Column("to", "For", wide=True),
    parts.Column("run", "Run", "link", wide=True),
    parts.Column("asked", "Asked", "time"),
    parts.Column("expires", "Until", "time", wide=True),
]
_CLOSED = [
    parts.Column("text", "Question", "link"),
    parts.Column("state", "State", "status"),
    parts.Column("by", "By", wide=True),
    parts.Column("run", "Run", "link", wide=True),
    parts.Column("asked", "Asked", "time", wide=True),
]
_STATES: Final = {"open": "wait", "answered": "good", "expired": "hold", "withdrawn": "idle"}
_SHOWN = 200
_LATELY = timedelta(days=1)
_NAMED = 20  # details that are shown by their names
_LINE = 120  # characters of a question in a list


@page("/questions", "Questions")
async def questions(desk: Desk, to: str = "") -> None:
    with parts.bar():
        parts.heading("Questions")
        box = ui.input("For whom", value=to).props("outlined dense clearable spellcheck=false")

    async def narrow() -> None:
        wanted = str(box.value or "").strip()
        ui.navigate.to(f"/questions?to={parts.quoted(wanted)}" if wanted else "/questions")

    box.on("keydown.enter", narrow)
    box.on("clear", narrow)

    async def open_ones() -> list[dict[str, Any]]:
        found = desk.engine.questions(to=to or None, limit=_SHOWN)
        return [_row(desk, question) async for question in found]

    async def closed_ones() -> list[dict[str, Any]]:
        since = datetime.now(UTC) - _LATELY
        found = desk.engine.questions(open=False, to=to or None, since=since, limit=5 * _SHOWN)
        closed = [_row(desk, question) async for question in found if question.state != "open"]
        return closed[::-1][:_SHOWN]

    def nothing() -> None:
        if to:
            parts.empty(f"Nobody asks {to} anything.", "Questions for others may be open.")
        else:
            parts.empty(
                "Nobody asks anything.",
                "What workflows ask of people is answered here.",
                'review = await perdure.ask("Publish this?", Review, details=text, to="editors")',
            )

    await live_table(desk, _COLUMNS, open_ones, nothing, label="Open questions")
    parts.heading("Asked in the last day, and closed", level=2)
    await live_table(
        desk,
        _CLOSED,
        closed_ones,
        lambda: ui.label("None.").classes("pd-dim"),
        label="Closed questions",
        every=5.0,
    )


def _row(desk: Desk, question: QuestionInfo) -> dict[str, Any]:
    text = " ".join(question.text.split())
    shown = text if len(text) <= _LINE else text[: _LINE - 1] + "…"
    return {
        "id": question.id,
        **parts.link_cells("text", shown or "(no text)", desk.url(f"/questions/{parts.quoted(question.id)}")),
        **pieces.badge_cells("state", _standing(question)),
        "to": question.to or "anybody",
        "by": question.answered_by or "",
        **parts.link_cells("run", question.run, desk.url(run_path(question.run))),
        **parts.time_cells("asked", question.asked_at),
        **parts.time_cells("expires", question.expires_at, none="for ever"),
    }


def _standing(question: QuestionInfo) -> fleetfacts.Standing:
    return fleetfacts.Standing(question.state, _STATES[question.state])


# -- one question ---------------------------------------------------------------------------------------


@page("/questions/{id}", "Question")
async def question(desk: Desk, id: str) -> None:
    async def look() -> QuestionInfo:
        return await desk.engine.question(id)

    await live(desk, look, lambda found: draw_question(desk, found))


def draw_question(desk: Desk, found: QuestionInfo) -> None:
    """A question with all that helps to answer it, and its form, or its answer."""
    with parts.bar():
        with parts.row():
            parts.heading("Approval" if approves(found.form) else "Question")
            pieces.badge(_standing(found))
        parts.link(desk.url("/questions"), "All questions")
    with parts.card():
        ui.label(found.text).classes("pd-question")
        if found.problem is not None:
            parts.trouble(f"The answer before this one didn't count: {found.problem}")
        parts.facts(_facts(desk, found))
        if found.details is not None:
            parts.heading("Details", level=3)
            _draw_details(found.details)
    if found.state == "open":
        with parts.card("Answer"):
            draw_answer(desk, found, lambda: ui.notify("Answered.", type="positive"))
    elif found.state == "answered":
        with parts.card("Answer"):
            parts.text_block(shown(found.answer))
            by = f"{found.answered_by or 'somebody'}, via {found.via or 'code'}"
            parts.facts([("By", by), ("At", found.answered_at or "")])


def _facts(desk: Desk, found: QuestionInfo) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = [
        ("Run", lambda: parts.link(desk.url(run_path(found.run)), found.run)),
        ("Workflow", found.workflow),
        ("For", found.to or "anybody"),
        ("Asked", found.asked_at),
    ]
    if found.step is not None:
        told.insert(2, ("Step", lambda: parts.mono(str(found.step))))
    if found.expires_at is not None:
        told.append(("Until", found.expires_at))
    return told


def _draw_details(details: Any) -> None:
    """What helps to answer: by its names if it has any, so that long texts read as texts."""
    if not isinstance(details, dict) or not 0 < len(details) <= _NAMED:
        parts.text_block(shown(details))
        return
    named: dict[str, Any] = details
    with ui.element("div").classes("pd-lines"):
        for name, value in named.items():
            with ui.element("div").classes("pd-list"):
                ui.label(name).classes("pd-dim")
                text = shown(value)
                if isinstance(value, str) and len(text) < _LINE and "\n" not in text:
                    ui.label(text)
                else:
                    parts.text_block(text)


def shown(value: Any) -> str:
    """A value for people: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
