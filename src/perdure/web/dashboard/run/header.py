"""The top of a run's page: what it is, how it stands, and why it waits."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from perdure.api.runinfo import RunInfo, moment_of
from perdure.api.spending import Usage
from perdure.api.wording import duration
from perdure.codec.redaction import mask
from perdure.core.why import Cause
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import run_path
from perdure.web.dashboard.run import actions
from perdure.web.dashboard.run.watch import Watch

_CAUSES_SHOWN = 3
_STALE = 20.0  # seconds after which "5 s ago" isn't true any more
#: What is said to a run is said in the tab of messages.
_SAID = {"message": "Send it", "question": "Answer it"}


class Header:
    """The top of the page. What can be pressed is drawn anew only where it is another: somebody may be about to press.

    Args:
        after: called when something was done with the run.
        fork: called when somebody wants to fork it.
        go: called with the name of a tab that somebody wants to see.
        decide: called with the op id of a step about which somebody wants to decide.
    """

    def __init__(
        self,
        watch: Watch,
        after: Callable[[], Any],
        fork: Callable[[], Any],
        go: Callable[[str], Any],
        decide: Callable[[str], Any],
    ) -> None:
        self._watch = watch
        self._after = after
        self._go = go
        self._decide = decide
        self._status: object = None
        self._causes: object = None
        self._shown: object = None
        self._drawn_at = 0.0
        self._length: ui.label | None = None
        desk, id = watch.desk, watch.id
        with parts.bar():
            with parts.row():
                with ui.element("h1").classes("pd-h1 pd-mono-title"):
                    ui.label(id)
                self._badge = ui.element("span").props('aria-live="polite"')
            with parts.row():
                self._actions = ui.element("div").classes("pd-row")
                fork_button = parts.button("Fork", fork, icon="call_split", allowed=desk.operates)
                fork_button.props('data-key="f"').tooltip("Key: f")
                with (
                    parts.link(desk.url(run_path(id, "travel")))
                    .classes("pd-button-link")
                    .props('data-key="v"')
                ):
                    ui.icon("history").props('aria-hidden="true"')
                    ui.label("Time travel")
        self._facts = ui.element("dl").classes("pd-strip")
        self._why = ui.element("div").classes("pd-stack")

    def refresh(self) -> None:
        """Draw it as it is now."""
        watch, info = self._watch, self._watch.info
        if info.status != self._status:
            self._status = info.status
            self._badge.clear()
            with self._badge, parts.row():
                parts.status(info.status.value)
                if not info.status.final:
                    ui.label("live").classes("pd-live").tooltip("This page follows the run")
            self._actions.clear()
            if watch.pinned is None:
                with self._actions:
                    actions.buttons(watch.desk, info.id, info.status, self._after)
        facts = (info, watch.usage)
        if facts != self._shown:
            self._shown, self._drawn_at = facts, time.monotonic()
            self._facts.clear()
            with self._facts:
                self._length = _facts(watch)
        causes = (info.reason, info.warning, watch.trouble, watch.causes)
        if causes != self._causes:
            self._causes = causes
            self._why.clear()
            with self._why:
                self._draw_why()

    def tick(self) -> None:
        """Time goes on."""
        if time.monotonic() - self._drawn_at > _STALE:
            self._shown = self._causes = None
            self.refresh()
        if self._length is not None and not self._watch.info.status.final:
            self._length.set_text(_length(self._watch))

    def _draw_why(self) -> None:
        watch, info = self._watch, self._watch.info
        if info.warning:
            parts.text_block(info.warning)
        if watch.trouble:
            parts.trouble(watch.trouble)
        if watch.causes:
            with ui.element("div").classes("pd-why").props('role="status"'):
                for cause in watch.causes[:_CAUSES_SHOWN]:
                    self._cause(cause)
                if (more := len(watch.causes) - _CAUSES_SHOWN) > 0:
                    ui.label(f"… and {more} more things that it waits for").classes("pd-dim")
        elif info.reason:
            with ui.element("div").classes("pd-why"):
                ui.label(mask(info.reason))

    def _cause(self, cause: Cause) -> None:
        watch = self._watch
        with ui.element("div"):
            with parts.row():
                ui.label(cause.what[:1].upper() + cause.what[1:]).classes("pd-strong")
                if cause.since is not None:
                    ui.label("since").classes("pd-dim")
                    parts.when(moment_of(cause.since))
                if cause.kind in _SAID:
                    parts.button(_SAID[cause.kind], lambda: self._go("messages"), allowed=watch.desk.operates)
                for step in _undecided(watch.info, cause):
                    parts.button(
                        "Decide",
                        functools.partial(self._decide, step),
                        icon="gavel",
                        allowed=watch.desk.operates,
                    )
            if cause.todo and cause.kind not in _SAID:
                ui.label(cause.todo).classes("pd-mono pd-dim")
            if cause.child is not None:
                with parts.row():
                    ui.label("In").classes("pd-dim")
                    parts.link(watch.desk.url(run_path(cause.child.run)), cause.child.run)
                    for inner in cause.child.causes[:1]:
                        ui.label(inner.what).classes("pd-dim")


def _undecided(info: RunInfo, cause: Cause) -> list[str]:
    """The steps about which a cause says that they wait for a person."""
    if cause.kind not in ("decision", "refused"):
        return []
    return [wait.id for wait in info.waiting_for if wait.kind == cause.kind and repr(wait.id) in cause.what]


def _facts(watch: Watch) -> ui.label:
    """Draw what is known of the run. Returns what tells how long it takes, which changes by itself."""
    info, desk = watch.info, watch.desk
    pairs: list[tuple[str, Any]] = [("Workflow", lambda: parts.mono(info.workflow))]
    key = f" · key {info.key}" if info.key else ""
    pairs.append(("Queue", f"{info.queue}{key}" + (f" · priority {info.priority}" if info.priority else "")))
    pairs.append(("Created", info.created_at))
    lengths: list[ui.label] = []
    pairs.append(("Took" if info.ended_at else "So far", lambda: lengths.append(ui.label(_length(watch)))))
    pairs.append(("Events", f"{info.events:,}"))
    if info.worker is not None:
        pairs.append(("Worker", info.worker))
    if info.recoveries:
        pairs.append(("Workers lost", f"{info.recoveries} in a row"))
    if info.version is not None:
        pairs.append(("Version", info.version + (", pinned" if info.pinned else "")))
    if info.generation > 1:
        pairs.append(("Generation", lambda: _generations(watch)))
    if info.parent is not None:
        parent = info.parent
        pairs.append(("Parent", lambda: parts.link(desk.url(run_path(parent)), parent)))
    started = watch.log.started
    if started is not None and started.donor is not None and started.donor.run != info.id:
        origin = started.donor.run
        pairs.append(("Fork of", lambda: parts.link(desk.url(run_path(origin)), origin)))
    if watch.usage != Usage():
        pairs.append(("Cost", money(watch.usage)))
    for name, value in info.attributes.items():
        pairs.append((name, value.isoformat() if isinstance(value, datetime) else str(value)))
    for name, value in pairs:
        with ui.element("div"):
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                if callable(value):
                    value()
                elif isinstance(value, datetime):
                    parts.when(value)
                else:
                    ui.label(str(value))
    return lengths[0]


def _length(watch: Watch) -> str:
    info = watch.info
    began = info.started_at or info.created_at
    end = info.ended_at or datetime.now(UTC)
    return duration(max(0.0, (end - began).total_seconds()))


def _generations(watch: Watch) -> None:
    info = watch.info
    with parts.row():
        ui.label(str(info.generation))
        before = watch.desk.url(f"{run_path(info.id)}?generation={info.generation - 1}")
        parts.link(before, "the one before")


def money(usage: Usage) -> str:
    """What was spent, in a few words.

    Example:
        >>> from decimal import Decimal
        >>> money(Usage(calls=2, cost=Decimal("0.0123"), unpriced_calls=1))
        '$0.0123 + 1 call of unknown price'
    """
    text = f"${usage.cost.normalize():f}" if usage.cost else "$0"
    if usage.unpriced_calls:
        text += f" + {usage.unpriced_calls} call{'s' if usage.unpriced_calls > 1 else ''} of unknown price"
    if usage.unknown_calls:
        text += f" + {usage.unknown_calls} of unknown outcome"
    return text
