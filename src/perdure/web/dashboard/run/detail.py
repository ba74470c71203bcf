"""What is shown of one operation or one event: its values and errors in full, and what can be done from there."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
from nicegui import ui

from perdure.api.facts import event_facts
from perdure.api.wording import duration
from perdure.core import events as ev
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import run_path
from perdure.web.dashboard.run import decide, forking
from perdure.web.dashboard.run.watch import Watch, focus_again
from perdure.web.views.gantt_rows import Row
from perdure.web.views.runlog import op_of
from perdure.web.views.values import call_markup, failure_markup, value_markup

_EVENTS_SHOWN = 40


class Detail:
    """A dialog beside the page, for one operation or event at a time."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._dialog = ui.dialog().props('position="right"')
        self._from = ("data-row", "")
        self._dialog.on("hide", lambda: focus_again(*self._from))
        with self._dialog:
            self._box = ui.element("section").classes("pd-card pd-detail").props('tabindex="0"')

    def show(self, *, op: str = "", seq: int = 0) -> None:
        """Open it for an operation, or for the event with a number."""
        log = self._watch.log
        self._box.clear()
        with self._box:
            if op and op in log.gantt.rows:
                self._operation(log.gantt.rows[op])
            elif 0 < seq <= len(log.events):
                self._event(seq, log.events[seq - 1])
            else:
                return
        if not self._dialog.value:
            self._from = ("data-row", op) if op else ("data-seq", str(seq))
        self._dialog.open()

    def _title(self, text: str, tone: str, told: str) -> None:
        with parts.bar():
            with ui.element("h2").classes("pd-h2 pd-mono"):
                ui.label(text)
            close = ui.button(icon="close", on_click=self._dialog.close, color=None)
            close.props('flat round dense aria-label="Close"')
        with ui.element("span").classes(f"pd-badge pd-{tone}"):
            ui.label(told)

    # -- an operation -----------------------------------------------------------------------------------

    def _operation(self, row: Row) -> None:
        watch, desk = self._watch, self._watch.desk
        self._dialog._props["aria-label"] = row.id
        self._title(row.id, row.tone, row.kind)
        if row.text:
            ui.label(row.text)
        start = watch.log.gantt.rows[""].start if "" in watch.log.gantt.rows else row.start
        end = watch.now if row.end is None else row.end
        pairs: list[tuple[str, Any]] = [
            ("Began", f"+{row.start - start:.3f} s"),
            ("Took", duration(max(0.0, end - row.start)) + ("" if row.end is not None else ", and goes on")),
        ]
        if row.attempts > 1:
            pairs.append(("Attempts", str(row.attempts)))
        if row.run:
            pairs.append(("Run", lambda: parts.link(desk.url(run_path(row.run)), row.run)))
        parts.facts(pairs)
        about = watch.log.about(row.id)
        self._actions(row, about)
        for name, html in _values([event for _, event in about]):
            parts.heading(name, level=3)
            ui.html(html, sanitize=False)
        if len(row.spans) > 1:
            parts.heading("Attempts and waits", level=3)
            parts.facts(
                [
                    (
                        span.kind,
                        f"{span.text} ({'goes on' if span.end is None else duration(span.end - span.start)})",
                    )
                    for span in row.spans[-_EVENTS_SHOWN:]
                ]
            )
        parts.heading("Events", level=3)
        with parts.row():
            for seq, event in about[-_EVENTS_SHOWN:]:
                kind = str(type(event).__struct_config__.tag).replace("_", " ")
                parts.button(f"{seq} {kind}", functools.partial(self.show, seq=seq))

    def _actions(self, row: Row, about: list[tuple[int, ev.Event]]) -> None:
        watch, desk = self._watch, self._watch.desk
        parked = next((each for _, each in reversed(about) if isinstance(each, ev.StepParked)), None)
        with parts.row():
            if row.end is None and parked is not None and parked.budget is None and row.tone == "hold":
                parts.button(
                    "Decide",
                    lambda: decide.step(watch, row.id, parked, self._dialog.close),
                    icon="gavel",
                    main=True,
                    allowed=desk.operates,
                )
            if row.question and row.end is None:
                parts.button(
                    "Answer",
                    lambda: decide.question(watch, row.question, self._dialog.close),
                    icon="rate_review",
                    main=True,
                    allowed=desk.operates,
                )
            if about:
                parts.button(
                    "Fork from here",
                    lambda: forking.ask(
                        watch, at=_fork_place(row, about), step=row.id if row.kind == "step" else ""
                    ),
                    icon="call_split",
                    allowed=desk.operates,
                )
                _travel(watch, about[-1][0])

    # -- an event ---------------------------------------------------------------------------------------

    def _event(self, seq: int, event: ev.Event) -> None:
        watch, desk = self._watch, self._watch.desk
        kind = str(type(event).__struct_config__.tag)
        self._dialog._props["aria-label"] = f"event {seq}"
        self._title(f"Event {seq:,}: {kind.replace('_', ' ')}", "idle", f"{seq} of {len(watch.log.events):,}")
        op = op_of(event)
        with parts.row():
            parts.button(
                "Before", lambda: self.show(seq=seq - 1), icon="chevron_left", allowed=seq > 1, needs=""
            )
            parts.button("Next", lambda: self.show(seq=seq + 1), icon="chevron_right")
            if op and op in watch.log.gantt.rows:
                parts.button("All of this operation", lambda: self.show(op=op))
        with parts.row():
            parts.button(
                "Fork from here",
                lambda: forking.ask(
                    watch, at=seq, step=op if isinstance(event, ev.StepCompleted | ev.StepFailed) else ""
                ),
                icon="call_split",
                allowed=desk.operates,
            )
            _travel(watch, seq)
        for name, html in _values([event]):
            parts.heading(name, level=3)
            ui.html(html, sanitize=False)
        parts.heading("As it is recorded", level=3)
        (facts,) = event_facts([event])
        plain = {**facts, "seq": seq}
        told = {
            name: value
            for name, value in plain.items()
            if name not in ("result", "failure", "input", "payload")
        }
        ui.html(value_markup(msgspec.json.encode(told)), sanitize=False)


def _fork_place(row: Row, about: list[tuple[int, ev.Event]]) -> int:
    """The event from which on a fork takes nothing over, so that this operation is done again."""
    ends = (ev.StepCompleted, ev.StepFailed, ev.TimerFired, ev.ChildEnded, ev.CallbackEnded)
    return next((seq for seq, event in about if isinstance(event, ends)), row.first)


def _travel(watch: Watch, seq: int) -> None:
    asked = f"?seq={seq}" + (f"&generation={watch.pinned}" if watch.pinned else "")
    with parts.link(watch.desk.url(run_path(watch.id, "travel") + asked)).classes("pd-button-link"):
        ui.icon("history").props('aria-hidden="true"')
        ui.label("Time travel to here")


def _values(events: list[ev.Event]) -> list[tuple[str, str]]:
    """Names and markup of what these events hold: inputs, results, failures."""
    found: dict[str, str] = {}
    for event in events:
        if (given := getattr(event, "input", None)) is not None:
            found["Input"] = call_markup(given)
        elif getattr(event, "fingerprint", None) is not None and "Input" not in found:
            told = json.dumps("larger than record_inputs=, so only its fingerprint is kept")
            found["Input"] = value_markup(told.encode())
        for name, title in (
            ("payload", "Value"),
            ("result", "Result"),
            ("item", "Item"),
            ("values", "Attributes"),
        ):
            if (data := getattr(event, name, None)) is not None:
                found[title] = value_markup(data)
        if (failure := getattr(event, "failure", None)) is not None:
            found[
                "Failure" if not isinstance(event, ev.StepAttemptFailed) else f"Attempt {event.attempt}"
            ] = failure_markup(failure)
        if isinstance(event, ev.QuestionAsked):
            found["Asked"] = value_markup(json.dumps(event.question.text).encode())
            if event.question.details is not None:
                found["Details"] = value_markup(event.question.details)
    return list(found.items())
