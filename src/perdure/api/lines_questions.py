"""The lines of questions in a timeline: what a person was asked, who answered and through what."""

from __future__ import annotations

from collections.abc import Callable

from perdure.api.lines_messages import MessageLine
from perdure.api.wording import clock_time, duration, moment, one_line, printable
from perdure.core import events as ev

QUESTIONS = (ev.QuestionAsked, ev.QuestionAnswered, ev.QuestionWithdrawn)


def question_line(event: ev.Event, shown: Callable[[bytes], str], limit: int | None) -> MessageLine:
    """What a timeline's line says of a question.

    Args:
        shown: a payload as text.
        limit: the longest text, in characters.
    """
    match event:
        case ev.QuestionAsked(question=question):
            told = f"asks {question.to}: " if question.to else "asks: "
            told += question.text
            if question.details is not None:
                told += f" {shown(question.details)}"
            told += f" ({question.id})"
            if event.timeout is not None:
                told += f", for {duration(event.timeout)}"
            if question.problem is not None:
                told += f"; again, since {question.problem}"
            return MessageLine("?", "yellow", printable(event.op), one_line(told, limit))
        case ev.QuestionAnswered():
            if event.presumed:
                return MessageLine(
                    "⊘", "yellow", printable(event.callback), "nobody was asked: the step is withheld"
                )
            by = f"by {one_line(event.by, 60)}" if event.by else "by somebody"
            via = f" through {one_line(event.via, 60)}" if event.via else ""
            if event.at - event.answered_at > 1:  # no worker was up then
                via += f" at {clock_time(moment(event.answered_at))}"
            if event.failure is not None:
                given = "" if event.given is None else f"{shown(event.given)} "
                told = one_line(f"{given}{by}{via}, which couldn't be read: {event.failure.message}", limit)
                return MessageLine("!", "yellow", printable(event.callback), told)
            told = "" if event.result is None else f"{shown(event.result)} "
            return MessageLine("✓", "green", printable(event.callback), f"→ {told}{by}{via}")
        case ev.QuestionWithdrawn():
            return MessageLine("·", "dim", printable(event.op), "withdrawn by the code")
        case _:
            raise AssertionError(event)
