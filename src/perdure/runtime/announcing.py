"""Questions are announced: each is published as an event, so that a workflow can tell people of it.

    @workflow(on=Event("perdure.question", where={"to": "editors"}))
    async def tells(question: dict[str, Any]) -> None: ...

The event is published by the append that asks. Counterfactual runs act on nobody, and announce nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core.events import Question
from perdure.core.machine import Machine
from perdure.runtime.withholding import counterfactual
from perdure.storage.effects import Effect
from perdure.storage.publications import Publication, Publish, keyed_id

#: The event's name.
ASKED = "perdure.question"


def announcement(machine: Machine, question: Question, now: float, expires_at: float | None) -> list[Effect]:
    """What the store does besides when a question is asked."""
    if counterfactual(machine) is not None:
        return []
    payload: dict[str, Any] = {
        "id": question.id,
        "run": machine.run_id,
        "workflow": machine.workflow,
        "text": question.text,
        "details": None if question.details is None else msgspec.Raw(question.details),
        "to": question.to,
        "step": question.step,
        "problem": question.problem,
        "asked_at": now,
        "expires_at": expires_at,
    }
    key = f"{question.id} {now!r}"  # a retry may ask it again
    return [Publish(Publication(keyed_id(ASKED, key), ASKED, key, msgspec.json.encode(payload), now))]
