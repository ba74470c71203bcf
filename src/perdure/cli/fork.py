"""`perdure fork`: a run of its own that goes on from what another one has done, with changes."""

from __future__ import annotations

import asyncio
import shlex
from enum import StrEnum
from typing import Annotated, Any, cast

import msgspec
import typer

from perdure.api.editing import Args, Change
from perdure.api.forkplans import ForkPlan
from perdure.api.handle import Handle
from perdure.api.spending import Usage
from perdure.cli.control import IdArgument
from perdure.cli.cost import money, usage_facts
from perdure.cli.database import UrlOption, reader
from perdure.cli.inputs import parse
from perdure.cli.loading import load_module
from perdure.cli.operating import existing
from perdure.cli.output import out, print_json, printable, tell
from perdure.cli.trouble import Trouble


class Effects(StrEnum):
    """How a fork deals with effects."""

    RUN = "run"
    REUSE = "reuse"
    STUB = "stub"


class Refused(StrEnum):
    """What becomes of an effect that is refused."""

    BLOCK = "block"
    FAIL = "fail"


def _pairs(name: str, metavar: str, help: str) -> Any:
    return typer.Option(name, metavar=metavar, help=f"{help}; may be repeated.", show_default=False)


AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="SEQ|STEP",
        help="Take nothing over from this event, or this step's end, on.",
        show_default=False,
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="JSON", help="Other arguments for the run, as for perdure run.", show_default=False
    ),
]
ChangeInputOption = Annotated[
    str | None,
    typer.Option(
        "--change-input", metavar="JSON", help="Other parts of the run's arguments.", show_default=False
    ),
]
EffectsOption = Annotated[
    Effects, typer.Option("--effects", help="reuse, stub: act on nobody; what writes is refused or stubbed.")
]
RefusedOption = Annotated[
    Refused, typer.Option("--refused", help="What a step does that would act and has no stub.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Start nothing; tell what would be taken over, run, and cost.")
]
ModuleOption = Annotated[
    str | None,
    typer.Option(
        "--module",
        metavar="MODULE",
        help="Where the workflow's code is, to check edits and try it.",
        show_default=False,
    ),
]
EDIT = _pairs("--edit", "STEP=JSON", "Another result for a step")
ARGS = _pairs("--args", "STEP=JSON", "Other arguments for a step: an array, or an object")
CHANGE = _pairs(
    "--change", "STEP=JSON", 'Other parts of what all steps of a name are given: {"model": "..."}'
)
TEXT = _pairs("--text", "STEP=JSON", 'Other words in what they are given: {"old": "new"}')
STUB = _pairs("--stub", "STEP=JSON", "What stands in for a step that would act")


def fork(
    id: IdArgument,
    at: AtOption = None,
    edits: Annotated[list[str] | None, EDIT] = None,
    arguments: Annotated[list[str] | None, ARGS] = None,
    parts: Annotated[list[str] | None, CHANGE] = None,
    text: Annotated[list[str] | None, TEXT] = None,
    input: InputOption = None,
    change_input: ChangeInputOption = None,
    effects: EffectsOption = Effects.RUN,
    stubs: Annotated[list[str] | None, STUB] = None,
    refused: RefusedOption = Refused.BLOCK,
    new_id: Annotated[str | None, typer.Option("--id", help="The new run's id.", show_default=False)] = None,
    dry_run: DryRunOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan of a dry run, as a JSON object.")] = False,
    module: ModuleOption = None,
    url: UrlOption = None,
) -> None:
    """Start a run of its own that goes on from what this one has done."""
    if module is not None:
        load_module(module)
    wish: dict[str, Any] = {
        "at": int(at) if at is not None and at.isdigit() else at,
        "edits": _edits(edits or (), arguments or (), parts or (), text or ()),
        "input": _input(input, change_input),
        "effects": effects.value,
        "stubs": dict(_pair(stub, "--stub") for stub in stubs or ()) or None,
        "refused": refused.value,
        "id": new_id,
    }
    asyncio.run(_fork(url, id, wish, dry_run, as_json))


def _pair(text: str, option: str) -> tuple[str, Any]:
    step, sign, value = text.partition("=")
    if not sign or not step:
        raise Trouble(f"{option} {text!r} names no step: give STEP=JSON, such as {option} 'app.price#1=99'.")
    return step, _json(value, f"{option} {text!r}: the part after =")


def _json(text: str, what: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise Trouble(f"{what} isn't JSON: {error}. Texts need double quotes.") from None


def _edits(results: Any, arguments: Any, parts: Any, text: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(_pair(edit, "--edit") for edit in results)
    for given in arguments:
        step, _ = _pair(given, "--args")
        args, kwargs = parse(given.partition("=")[2], f"--args {given!r}")
        found[step] = Args(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})
    changes: dict[str, dict[str, Any]] = {}
    for option, name, several in (("--change", "parts", parts), ("--text", "text", text)):
        for given in several:
            step, value = _pair(given, option)
            if not isinstance(value, dict):
                raise Trouble(f"{option} {given!r}: the part after = isn't a JSON object.")
            changes.setdefault(step, {})[name] = value
    return {**found, **{step: Change(**change) for step, change in changes.items()}}


def _plain(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def _input(whole: str | None, changed: str | None) -> Args | Change | None:
    if whole is not None and changed is not None:
        raise Trouble("Give --input or --change-input, not both.")
    if whole is not None:
        args, kwargs = parse(whole, "--input")
        return Args(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})
    if changed is None:
        return None
    parts = _json(changed, "--change-input")
    if not isinstance(parts, dict):
        raise Trouble('--change-input isn\'t a JSON object: give {"argument": value}.')
    return Change(cast("dict[str, Any]", parts))


async def _fork(url: str | None, id: str, wish: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    async with reader(url) as engine:
        handle = await existing(engine, id)
        if dry_run:
            plan = await handle.fork(**wish, dry_run=True)
            if as_json:
                print_json(_facts(plan))
            else:
                _show(plan)
            return
        made = cast("Handle[Any]", await handle.fork(**wish))
    out().print(printable(made.id), soft_wrap=True)
    to = shlex.quote(made.id)
    tell(f"Run {made.id} goes on from run {id}: perdure show {to}, perdure diff {shlex.quote(id)} {to}")


def _facts(plan: ForkPlan) -> dict[str, Any]:
    lists = ("reused", "edited", "runs", "later", "stubbed", "refused")
    usages = ("saved", "cost", "cost_later")
    return {
        **{name: list(getattr(plan, name)) for name in lists},
        "exact": plan.exact,
        **{name: usage_facts(getattr(plan, name)) for name in usages},
    }


def _show(plan: ForkPlan) -> None:
    console = out()
    for step in plan.reused:
        note = "  (edited)" if step in plan.edited else ""
        console.print(f"taken over  {printable(step)}{note}", soft_wrap=True)
    for step in plan.runs:
        what = "stubbed" if step in plan.stubbed else "refused" if step in plan.refused else "runs"
        console.print(f"{what:10}  {printable(step)}", soft_wrap=True)
    for step in plan.later:
        console.print(f"may follow  {printable(step)}", soft_wrap=True)
    for what, usage in (("saves", plan.saved), ("costs about", plan.cost), ("at most more", plan.cost_later)):
        if usage.calls:
            console.print(f"{what}: {_bill(usage)}", soft_wrap=True)
    if not plan.exact:
        tell("This is what the history tells; with --module the workflow's code is tried.")


def _bill(usage: Usage) -> str:
    calls = "1 call" if usage.calls == 1 else f"{usage.calls:,} calls"
    unpriced = f", {usage.unpriced_calls:,} of them of unknown price" if usage.unpriced_calls else ""
    return f"{money(usage.cost)} USD, {calls}, {usage.total_tokens:,} tokens{unpriced}"
