"""Answering a question on a page: its form, and the buttons that send it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from perdure.api.forms import Form
from perdure.api.questions import QuestionInfo
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, Refused
from perdure.web.dashboard.formfields import FormFields


def approves(form: Form) -> bool:
    """Whether an answer says yes or no, and nothing else is needed for that."""
    first, *others = form.fields or (None,)
    return (
        first is not None
        and first.name == "approved"
        and first.kind == "boolean"
        and not any(field.required for field in others)
    )


def draw_answer(
    desk: Desk,
    question: QuestionInfo,
    after: Callable[[], Any],
    leave: Callable[[], Any] | None = None,
) -> None:
    """Draw a question's form. What the API refuses is told at its field.

    Args:
        after: called when the answer is taken.
        leave: called by a button that leaves it; there is none without.
    """
    decides = approves(question.form)
    fields = FormFields(
        question.schema, question.default, label="Answer", but=("approved",) if decides else ()
    )

    async def send(**chosen: str) -> None:
        value, good = fields.read(chosen)
        if not good:
            return
        try:
            path = f"/questions/{parts.quoted(question.id)}/answer"
            await desk.send("POST", path, {"value": value, "digest": question.digest})
        except Refused as error:
            told = error.problem.get("errors") or []
            fields.tell({str(each.get("where", "")): str(each.get("what", "")) for each in told})
            if not told:
                desk.complain(str(error))
            return
        after()

    with parts.row().classes("pd-right" if leave is not None else ""):
        if leave is not None:
            parts.button("Leave it", leave)
        if decides:
            parts.button(
                "Reject", lambda: send(approved="no"), icon="close", danger=True, allowed=desk.operates
            )
            parts.button(
                "Approve", lambda: send(approved="yes"), icon="check", main=True, allowed=desk.operates
            )
        else:
            parts.button("Answer", send, main=True, allowed=desk.operates)
    if not desk.operates:
        ui.label("Answering takes the role operator.").classes("pd-dim")
