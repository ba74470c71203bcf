"""`perdure questions` and `perdure answer`: what runs ask of people, and answering it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from perdure.api.engine import Engine
from perdure.api.forms import Form, FormField
from perdure.api.questions import QuestionInfo
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.ls import since_when
from perdure.cli.output import ago, clock_time, err, one_line, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.cli.who import login
from perdure.errors import InvalidAnswerError, UnknownRunError
from perdure.runtime.tokens import QUESTION

_YES = {"yes": True, "y": True, "no": False, "n": False}


def questions(
    id: Annotated[
        str | None, typer.Argument(help="Show one question, or what this run asks.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    to: Annotated[
        str | None, typer.Option("--to", help="Only those for this one.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="2h|DATE", help="Only asked since: 45s, 30m, 2h, 7d, or a date."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List what runs ask of people, oldest first; or show one question, with its form."""
    start = None if since is None else since_when(since, datetime.now(UTC))
    found = asyncio.run(_find(url, id, to=to, since=start, limit=limit, open=not everything))
    now = datetime.now(UTC)
    if as_json:
        print_json([_facts(item) for item in found])
    elif id is not None and len(found) == 1:
        out().print(_whole(found[0], now))
    elif found:
        out().print(_table(found, now))
    else:
        tell("Nobody is asked anything." if id is None else f"Run {id} asks nothing at the moment.")


def answer(
    id: Annotated[str, typer.Argument(help="The question's id; or the run's, if that asks one question.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUE...]",
            help="The answer as JSON, or its fields as FIELD=VALUE, or yes, or no. Without it each field is asked for.",
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who answers; your login name by default.", show_default=False)
    ] = None,
    url: UrlOption = None,
) -> None:
    """Answer a question; once, so look twice."""
    question, told = asyncio.run(_answer(url, id, list(values or ()), by or login()))
    tell(f"{told} Run {question.run} goes on when a worker is up: perdure show {question.run}")


async def _find(url: str | None, id: str | None, **filters: Any) -> list[QuestionInfo]:
    async with reader(url) as engine:
        if id is not None and id.startswith(QUESTION):
            return [await engine.question(id)]
        return [item async for item in engine.questions(run=id, **filters)]


async def _answer(url: str | None, id: str, values: list[str], by: str | None) -> tuple[QuestionInfo, str]:
    async with reader(url) as engine:
        question = await _meant(engine, id)
        value = _given(question, values)
        try:
            answered = await engine.answer(question.id, value, by=by, via="cli", digest=question.digest)
        except InvalidAnswerError as error:
            raise Trouble(_problems(question, error.problems)) from None
        return answered, f"{printable(question.text)} is answered: {_shown(answered.answer, 80)}."


async def _meant(engine: Engine, id: str) -> QuestionInfo:
    if id.startswith(QUESTION):
        return await engine.question(id)
    try:
        await engine.get(id).status()
    except UnknownRunError as error:
        raise await unknown(engine, error) from None
    found = [item async for item in engine.questions(run=id)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Trouble(f"Run {id} asks nothing at the moment. What runs ask: perdure questions")
    told = "".join(f"\n  {item.id}  {one_line(item.text, 100)}" for item in found)
    raise Trouble(f"Run {id} asks several questions. Give the id of one:{told}")


# -- from the command line to a value -------------------------------------------------------------------


def _given(question: QuestionInfo, values: list[str]) -> Any:
    form = question.form
    if not values:
        return _asked_for(question, form)
    first = values[0]
    if len(values) == 1 and (first.startswith(("{", "[")) or _is_json_text(first)):
        try:
            return msgspec.json.decode(first.encode(errors="surrogateescape"))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Trouble(f"The answer isn't JSON: {error}.\n{_fields(form)}") from None
    texts: dict[str, str] = {}
    decision = _decision(form)
    for place, text in enumerate(values):
        name, equals, value = text.partition("=")
        if place == 0 and decision is not None and text.lower() in _YES:
            texts[decision] = text
        elif _is_one(form):
            texts[""] = text if not texts else f"{texts['']} {text}"
        elif equals:
            texts[name] = value
        else:
            raise Trouble(f"{text!r} is no FIELD=VALUE.\n{_fields(form)}")
    value, problems = form.read(texts)
    if problems:
        raise Trouble(_problems(question, problems))
    return value


def _is_json_text(text: str) -> bool:
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


def _is_one(form: Form) -> bool:
    return len(form.fields) == 1 and form.fields[0].name == ""


def _decision(form: Form) -> str | None:
    """The field that a bare yes or no is for: the only required one."""
    required = [field for field in form.fields if field.required]
    return required[0].name if len(required) == 1 and required[0].kind == "boolean" else None


def _asked_for(question: QuestionInfo, form: Form) -> Any:
    """Ask for each field on the terminal."""
    if not sys.stdin.isatty():
        raise Trouble(f"Give the answer.\n{_fields(form)}")
    err().print(_whole(question, datetime.now(UTC)))
    texts: dict[str, str] = {}
    for field in form.fields:
        shown = "" if field.value is None else _shown(field.value, None).strip('"')
        text = typer.prompt(_prompt(field), default=shown, show_default=bool(shown), err=True)
        if text or field.required:
            texts[field.name] = text
    value, problems = form.read(texts)
    if problems:
        raise Trouble(_problems(question, problems))
    return value


def _prompt(field: FormField) -> str:
    kind = " or ".join(map(str, field.choices)) if field.choices else _TOLD.get(field.kind, "")
    title = printable(field.title or "Answer")
    return f"{title} ({kind})" if kind else title


_TOLD = {"boolean": "yes or no", "list": "JSON, or with commas", "json": "JSON", "date-time": "a moment"}


def _problems(question: QuestionInfo, problems: dict[str, str]) -> str:
    told = "\n".join(
        f"  {field}: {problem}" if field else f"  {problem}" for field, problem in problems.items()
    )
    return printable(f"That is no answer to {question.text!r}:\n{told}\n{_fields(question.form)}")


def _fields(form: Form) -> str:
    if _is_one(form):
        (field,) = form.fields
        return f"The answer is one value: {_kind(field)}."
    lines = [f"  {field.name}: {_kind(field)}" for field in form.fields]
    return printable("\n".join(["The fields of the answer, as FIELD=VALUE:", *lines]))


def _kind(field: FormField) -> str:
    kind = " or ".join(map(str, field.choices)) if field.choices else _TOLD.get(field.kind, field.kind)
    parts = [kind, *([] if field.required else ["may be left out"])]
    if field.value is not None:
        parts.append(f"{_shown(field.value, 60)} at first")
    return ", ".join(parts) + (f". {field.description}" if field.description else "")


# -- from questions to lines ----------------------------------------------------------------------------


def _table(found: list[QuestionInfo], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("id", "run", "to", "asked", "until", "state"):
        table.add_column(title, no_wrap=True)
    table.add_column("question", overflow="fold")
    for item in found:
        until = "" if item.expires_at is None else ago(item.expires_at, now)
        state = item.state + (f" by {printable(item.answered_by)}" if item.answered_by else "")
        text = one_line(item.text, 80) + ("" if item.details is None else f" {_shown(item.details, 60)}")
        cells = (
            item.id,
            printable(item.run),
            printable(item.to or ""),
            ago(item.asked_at, now),
            until,
            state,
            text,
        )
        table.add_row(*map(Text, cells))
    return table


def _whole(item: QuestionInfo, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("question", Text(printable(item.text), style="bold"))
    grid.add_row("id", Text(item.id))
    grid.add_row("run", Text(printable(f"{item.run} ({item.workflow}, {item.op})")))
    if item.step is not None:
        grid.add_row("to approve", Text(printable(item.step)))
    if item.to is not None:
        grid.add_row("to", Text(printable(item.to)))
    if item.problem is not None:
        grid.add_row("again, since", Text(printable(item.problem), style="yellow"))
    if item.details is not None:
        shown = msgspec.json.format(msgspec.json.encode(item.details)).decode()
        grid.add_row("details", Text(printable(shown)))
    grid.add_row("asked", Text(f"{clock_time(item.asked_at)} ({ago(item.asked_at, now)})"))
    if item.expires_at is not None:
        grid.add_row("until", Text(f"{clock_time(item.expires_at)} ({ago(item.expires_at, now)})"))
    grid.add_row("state", Text(item.state))
    if item.answered_at is not None:
        by = printable(item.answered_by or "somebody")
        grid.add_row("answer", Text(_shown(item.answer, None)))
        told = f"by {by}, through {printable(item.via or '')}, {clock_time(item.answered_at)}"
        grid.add_row("answered", Text(told))
    else:
        for field in item.form.fields:
            grid.add_row(printable(field.name) or "answer", Text(printable(_kind(field)), style="cyan"))
    return grid


def _facts(item: QuestionInfo) -> dict[str, Any]:
    moments = ("asked_at", "expires_at", "answered_at")
    facts = {name: getattr(item, name) for name in item.__slots__}
    return {
        name: value.isoformat() if name in moments and value is not None else value
        for name, value in facts.items()
    }


def _shown(value: Any, limit: int | None) -> str:
    return one_line(msgspec.json.encode(value).decode(errors="replace"), limit)
