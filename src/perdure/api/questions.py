"""What runs ask of people, from outside: the list of questions, and answering them. asking.py is the runs' side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from perdure.api.connection import Connection
from perdure.api.forms import Form, form_of
from perdure.api.listing import earliest
from perdure.api.runinfo import moment_of
from perdure.codec.events import view_event
from perdure.codec.explain import non_finite
from perdure.codec.fitting import misfits
from perdure.codec.forms import JsonSchema
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core.events import QuestionAnswered
from perdure.errors import (
    InvalidAnswerError,
    QuestionAnsweredError,
    QuestionClosedError,
    UnknownQuestionError,
    UsageError,
)
from perdure.runtime.tokens import question_hash
from perdure.storage.callbacks import (
    Answerer,
    CallbackRow,
    CallbackVerdict,
    QuestionFilter,
    is_over,
    standing,
    unpack_question,
)

_ANSWER = "answer"
_ANY = ValueCodec[Any](Any, _ANSWER)

PAGE = 200  #: questions fetched at once

#: What becomes of a question, by what a store says of its callback.
_STATES = {
    CallbackVerdict.DONE: "open",
    CallbackVerdict.ENDED: "answered",
    CallbackVerdict.EXPIRED: "expired",
    CallbackVerdict.WITHDRAWN: "withdrawn",
    CallbackVerdict.RUN_ENDED: "withdrawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionInfo:
    """A question at one moment.

    Attributes:
        id: names it in its database.
        run, generation, workflow: who asks.
        op: its id within the run.
        text: the question.
        schema: JSON Schema of an answer, for a form.
        details: what is shown to help with the answer, as JSON has it; None if nothing is.
        default: the answer that the form begins with, as JSON has it; None if there is none.
        to: whom it is for.
        digest: of what the answer is bound to.
        step: the id of the step that is to be approved; None if it is about none.
        problem: why the answer to the question before this one, which was the same, didn't count.
        asked_at, expires_at: since when, and until when it can be answered (None = for ever).
        state: "open", "answered", "expired" (its time is over) or "withdrawn" (the run doesn't wait for it any more).
        answer: as JSON has it.
        answered_by, answered_at, via: who answered, when, and through what.
    """

    id: str
    run: str
    generation: int
    workflow: str
    op: str
    text: str
    schema: JsonSchema
    details: Any
    default: Any
    to: str | None
    digest: str | None
    step: str | None
    problem: str | None
    asked_at: datetime
    expires_at: datetime | None
    state: str
    answer: Any = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    via: str | None = None

    @property
    def form(self) -> Form:
        """The fields of an answer, for whoever draws a form."""
        return form_of(self.schema, self.default)

    def check(self, answer: Any) -> dict[str, str]:
        """What is wrong with an answer (plain data), by field; empty if it fits the schema.

        Validators that only the workflow's code has aren't asked; what they refuse is asked again.
        """
        problems: dict[str, str] = {}
        for field, problem in misfits(answer, self.schema):
            problems.setdefault(field, problem)
        return problems


async def list_questions(
    connection: Connection,
    *,
    open: bool,
    run: str | None,
    to: str | None,
    since: datetime | None,
    limit: int | None,
) -> AsyncIterator[QuestionInfo]:
    """Questions, oldest first. See Doors.questions."""
    now = connection.clock()
    filter = QuestionFilter(
        now, open=open, run_id=run, since=0.0 if since is None else earliest(since), limit=PAGE
    )
    left = limit
    while left is None or left > 0:
        page = await connection.store.callbacks.questions(filter)
        for hashed, row in page:
            filter = msgspec.structs.replace(filter, after=(row.opened_at, hashed))
            info = question_info(row, now)
            if to is None or info.to == to:
                yield info
                left = None if left is None else left - 1
                if left == 0:
                    return
        if len(page) < PAGE:
            return


async def find_question(connection: Connection, id: str) -> QuestionInfo:
    """A question as it stands. Raises UnknownQuestionError."""
    return question_info(await _row(connection, id), connection.clock())


async def answer_question(
    connection: Connection, id: str, value: Any, *, by: str | None, via: str, digest: str | None
) -> QuestionInfo:
    """See Doors.answer."""
    data, plain = _plain(value, connection.max_payload)
    info = question_info(await _row(connection, id), connection.clock())
    if digest is not None and digest != info.digest:
        msg = (
            f"question {info.id} of run {info.run!r} isn't about what the answer was given for: its digest is "
            f"{info.digest}, and the answer's {digest}. Look at the question as it is now, and answer that"
        )
        raise QuestionClosedError(msg, question=info.id, run_id=info.run)
    if problems := info.check(plain):
        raise invalid(info, problems)
    answer = await connection.store.callbacks.end(
        question_hash(id), result=data, answerer=Answerer(by, via), now=connection.clock()
    )
    connection.nudge()  # whoever is too late may have timed it out
    if answer.row is None:
        raise _unknown(id)
    info = question_info(answer.row, connection.clock())
    repeated = answer.verdict is CallbackVerdict.ENDED and _same(info.answer, plain)
    if answer.verdict is not CallbackVerdict.DONE and not repeated:
        _refuse(info, answer.verdict, answer.row)
    return info


async def question_of(connection: Connection, run: str) -> QuestionInfo:
    """The one question that a run asks at the moment."""
    row = await connection.row(run)
    found = [
        item async for item in list_questions(connection, open=True, run=run, to=None, since=None, limit=None)
    ]
    if len(found) > 1:
        told = "".join(f"\n  {item.id}: {item.text}" for item in found)
        msg = f"run {run!r} asks several questions; say which one is answered:{told}"
        raise UsageError(msg)
    if not found:
        msg = (
            f"run {run!r} asks nothing at the moment ({row.status}): the question isn't asked yet, was answered, or "
            "its time is over. Look with `perdure show`"
        )
        raise UnknownQuestionError(msg, run_id=run)
    return found[0]


def question_info(row: CallbackRow, now: float) -> QuestionInfo:
    """From a store's row to what users see."""
    assert row.question is not None
    question = unpack_question(row.question)
    verdict = standing(row)
    if verdict is CallbackVerdict.DONE and is_over(row, now):
        verdict = CallbackVerdict.EXPIRED
    answered = None if row.answer is None else view_event(row.answer)
    if not isinstance(answered, QuestionAnswered):
        answered = None
    return QuestionInfo(
        id=question.id,
        run=row.run_id,
        generation=row.generation,
        workflow=row.workflow,
        op=row.op,
        text=question.text,
        schema=msgspec.json.decode(question.form),
        details=_read(question.details),
        default=_read(question.default),
        to=question.to,
        digest=question.digest,
        step=question.step,
        problem=question.problem,
        asked_at=moment_of(row.opened_at),
        expires_at=None if row.expires_at is None else moment_of(row.expires_at),
        state=_STATES[verdict],
        answer=None if answered is None else _read(answered.result),
        answered_by=None if answered is None else answered.by,
        answered_at=None if answered is None else moment_of(answered.answered_at),
        via=None if answered is None else answered.via,
    )


def invalid(info: QuestionInfo, problems: Mapping[str, str]) -> InvalidAnswerError:
    """The error for an answer that doesn't fit."""
    told = "; ".join(f"{field}: {problem}" if field else problem for field, problem in problems.items())
    msg = f"that is no answer to {info.text!r} ({info.id}): {told}. Nothing was changed"
    return InvalidAnswerError(msg, problems=problems, question=info.id, run_id=info.run)


async def _row(connection: Connection, id: str) -> CallbackRow:
    connection.check()
    row = await connection.store.callbacks.get(question_hash(id))
    if row is None or row.question is None:
        raise _unknown(id)
    return row


def _unknown(id: str) -> UnknownQuestionError:
    msg = f"no question in this database has the id {id!r}: look it up with `perdure questions`"
    return UnknownQuestionError(msg, question=id)


def _refuse(info: QuestionInfo, verdict: CallbackVerdict, row: CallbackRow) -> NoReturn:
    which = f"question {info.id} of run {info.run!r}"
    match verdict:
        case CallbackVerdict.ENDED:
            by = f" by {info.answered_by}" if info.answered_by else ""
            msg = f"{which} was answered already{by}, {_at(info.answered_at)}, with something else. Nothing was changed"
            raise QuestionAnsweredError(msg, question=info.id, run_id=info.run)
        case CallbackVerdict.EXPIRED:
            msg = (
                f"the time for {which} was over {_at(info.expires_at)}, and the run goes on without an answer"
            )
        case CallbackVerdict.WITHDRAWN:
            msg = f"{which} was withdrawn {_at(moment_of(row.ended_at or 0.0))}: the run doesn't wait for it any more"
        case _:
            msg = f"{which} can't be answered any more: the run has ended ({row.run_status})"
    raise QuestionClosedError(msg, question=info.id, run_id=info.run)


def _plain(value: Any, max_payload: int) -> tuple[bytes, Any]:
    """An answer as JSON, and as plain data."""
    data = _ANY.encode(value)
    if (problem := non_finite(value)) is not None:
        raise cannot_carry(_ANSWER, problem)
    check_size(data, max_payload, _ANSWER)
    return data, msgspec.json.decode(data)


def _same(one: Any, other: Any) -> bool:
    return msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(
        other, order="deterministic"
    )


def _read(data: bytes | None) -> Any:
    return None if data is None else msgspec.json.decode(data)


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f"at {moment:%Y-%m-%d %H:%M:%S} UTC"
