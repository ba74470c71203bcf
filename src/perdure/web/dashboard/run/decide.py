"""What a person decides within a run: about a step that waits for it, and answers to questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from nicegui import ui

from perdure.api.questions import QuestionInfo
from perdure.core import events as ev
from perdure.errors import PerdureError
from perdure.web.dashboard import parts
from perdure.web.dashboard.answering import draw_answer
from perdure.web.dashboard.desk import run_path
from perdure.web.dashboard.formfields import JsonField
from perdure.web.dashboard.run.watch import Watch
from perdure.web.views.values import value_markup


def step(watch: Watch, op: str, parked: ev.StepParked, after: Callable[[], Any]) -> None:
    """Open a dialog that decides about a step which waits for a person: about the wait that it shows."""
    path = run_path(watch.id, "steps", op, "resolve")
    with ui.dialog() as dialog, parts.card("Decide about this step").classes("pd-dialog pd-wide-dialog"):
        parts.mono(op)
        ui.label(parked.why)
        why = ui.input("Why (the history keeps it)").props("outlined dense stack-label maxlength=2000")
        result = JsonField(
            "It is done, with this result", None, hint="JSON, as the step would have returned it"
        )

        async def send(body: dict[str, Any], done: str) -> None:
            if await watch.desk.act(
                done, "POST", path, {**body, "why": str(why.value or "") or None, "since": parked.at}
            ):
                dialog.close()
                after()

        async def give() -> None:
            value, good = result.read()
            if good:
                await send({"result": value, "has_result": True}, "The step has its result.")

        with parts.row().classes("pd-right"):
            parts.button("Leave it", dialog.close)
            parts.button("Let it fail", lambda: send({"fail": True}, "The step fails."), danger=True)
            parts.button("Run it again", lambda: send({"rerun": True}, "The step runs again."))
            parts.button("Give the result", give, main=True)
    dialog.open()


async def question(watch: Watch, id: str, after: Callable[[], Any]) -> None:
    """Open a dialog that answers a question."""
    try:
        found = await watch.desk.engine.question(id)
    except PerdureError as error:
        ui.notify(str(error), type="negative")
        return
    with ui.dialog() as dialog, parts.card("Answer").classes("pd-dialog pd-wide-dialog"):
        answer_form(watch, found, lambda: (dialog.close(), after()), dialog.close)
    dialog.open()


def answer_form(
    watch: Watch, question: QuestionInfo, after: Callable[[], Any], leave: Callable[[], Any] | None = None
) -> None:
    """Draw a question with the form of its answer."""
    parts.text_block(question.text)
    if question.problem:
        parts.trouble(question.problem)
    if question.details is not None:
        ui.html(value_markup(msgspec.json.encode(question.details)), sanitize=False)
    draw_answer(watch.desk, question, after, leave)
