"""The dialog that forks a run: from where, with what changed, and what that would do."""

from __future__ import annotations

from typing import Any

import msgspec
from nicegui import ui

from perdure.core import events as ev
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Refused, run_path
from perdure.web.dashboard.formfields import JsonField
from perdure.web.dashboard.run.watch import Watch
from perdure.web.views.runlog import input_of

_EFFECTS = {
    "run": "It does what its code says",
    "reuse": "It acts on nobody: steps that write are refused, or have their stub",
    "stub": "It acts on nobody: steps that write have the result that was recorded",
}
_SHOWN = 12


def ask(watch: Watch, *, at: int | None = None, step: str = "") -> None:
    """Open it.

    Args:
        at: take nothing over from this event on; None = take over whatever there is.
        step: the step whose result or arguments may be edited.
    """
    _Fork(watch, at, step).open()


class _Fork:
    def __init__(self, watch: Watch, at: int | None, step: str) -> None:
        self._watch = watch
        self._step = step
        ended = _last_end(watch, step)
        with ui.dialog() as self._dialog, parts.card("Fork this run").classes("pd-dialog pd-wide-dialog"):
            ui.label("A new run goes on from what this one has done. This one isn't touched.")
            self._at = ui.number("From event", value=at, min=1, max=len(watch.log.events) + 1, format="%d")
            self._at.props("outlined dense stack-label clearable").props(
                'hint="Nothing from this event on is taken over. Empty: whatever there is"'
            )
            choices = {"": "as it was", "input": "other arguments for the run"}
            if step:
                choices["result"] = "another result of this step"
                choices["arguments"] = "other arguments for this step"
            start = "result" if ended is not None else ""
            self._what = ui.select(choices, value="", label="Changed", on_change=self._change)
            self._what.props("outlined dense stack-label")
            given = None if ended is None else ended.input
            self._fields = {
                "input": JsonField("Arguments of the run", input_of(watch.log.events), hint=_ARGUMENTS),
                "result": JsonField(f"Result of {step}", None if ended is None else ended.result),
                "arguments": JsonField(f"Arguments of {step}", given, hint=_ARGUMENTS),
            }
            self._effects = ui.select(_EFFECTS, value="run", label="Effects").props(
                "outlined dense stack-label"
            )
            self._id = ui.input("Id of the new run").props(
                "outlined dense stack-label clearable maxlength=1000"
            )
            self._id.props('hint="Made from this one if it is empty"')
            self._plan = ui.element("div").classes("pd-plan").props('aria-live="polite"')
            with parts.row().classes("pd-right"):
                parts.button("Leave it", self._dialog.close)
                parts.button("What would it do?", self._preview)
                parts.button("Fork", self._fork, main=True, allowed=watch.desk.operates)
        self._what.value = start
        self._change()

    def open(self) -> None:
        self._dialog.open()

    def _change(self) -> None:
        for name, field in self._fields.items():
            field.element.set_visibility(name == self._what.value)
        # What is edited has to be asked for: a place before it would leave that to chance.
        self._at.set_visibility(self._what.value in ("", "input"))

    def _body(self) -> dict[str, Any] | None:
        body: dict[str, Any] = {"effects": self._effects.value}
        if self._at.value:
            body["at"] = int(self._at.value)
        if self._id.value:
            body["id"] = str(self._id.value).strip()
        what = str(self._what.value or "")
        if not what:
            return body
        value, good = self._fields[what].read()
        if not good:
            return None
        if what == "result":
            body["edits"] = {self._step: value}
            body.pop("at", None)
            return body
        if not _is_call(value):
            self._fields[what].element.error = _ARGUMENTS
            return None
        call = {"args": value[0], "kwargs": value[1]}
        if what == "input":
            body["input"] = call
        else:
            body["inputs"] = {self._step: call}
            body.pop("at", None)
        return body

    async def _send(self, *, dry_run: bool) -> dict[str, Any] | None:
        body = self._body()
        if body is None:
            return None
        try:
            found: dict[str, Any] = await self._watch.desk.send(
                "POST", run_path(self._watch.id, "fork"), {**body, "dry_run": dry_run}
            )
        except Refused as error:
            self._plan.clear()
            with self._plan:
                parts.trouble(str(error))
            return None
        return found

    async def _preview(self) -> None:
        found = await self._send(dry_run=True)
        if found is None:
            return
        self._plan.clear()
        plan: dict[str, Any] = found["plan"]
        cost = plan["cost"]["cost"]
        pairs = [
            ("Taken over", _list(plan["reused"])),
            ("Edited", _list(plan["edited"])),
            ("Runs", _list(plan["runs"])),
            ("Perhaps again", _list(plan["later"])),
            ("Stubbed", _list(plan["stubbed"])),
            ("Refused", _list(plan["refused"])),
            ("Saves", f"${plan['saved']['cost']}" if float(plan["saved"]["cost"]) else ""),
            ("Costs about", f"${cost}" if float(cost) else ""),
        ]
        with self._plan:
            parts.facts([(name, text) for name, text in pairs if text])
            if not plan["exact"]:
                ui.label(
                    "Nobody here has the workflow's code, so this is what the history alone tells."
                ).classes("pd-dim")

    async def _fork(self) -> None:
        found = await self._send(dry_run=False)
        if found is not None:
            self._dialog.close()
            ui.navigate.to(run_path(str(found["id"])))


_ARGUMENTS = "JSON: [[by position, ...], {by name}]"


def _is_call(value: Any) -> bool:
    try:
        msgspec.convert(value, tuple[list[Any], dict[str, Any]])
    except msgspec.ValidationError:
        return False
    return True


def _list(steps: list[str]) -> str:
    more = f" and {len(steps) - _SHOWN:,} more" if len(steps) > _SHOWN else ""
    return ", ".join(steps[:_SHOWN]) + more


def _last_end(watch: Watch, step: str) -> ev.StepCompleted | None:
    found = (
        [event for _, event in watch.log.about(step) if isinstance(event, ev.StepCompleted)] if step else []
    )
    return found[-1] if found else None
