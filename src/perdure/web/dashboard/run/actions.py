"""What can be done with a run as a whole: each is asked about first, with what it means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from nicegui import ui

from perdure.core.status import Status
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, run_path


class Action(NamedTuple):
    """Something that can be done.

    Attributes:
        label: the verb, on the button.
        verb: the last part of the API's path.
        means: what it does, in a sentence.
        done: what is said afterwards.
        key: presses it.
        reason: somebody may say why.
    """

    label: str
    icon: str
    verb: str
    means: str
    done: str
    key: str = ""
    danger: bool = False
    reason: bool = False


RESUME = Action("Resume", "play_arrow", "resume", "It goes on from where it stands.", "Resumed.", "p")
PAUSE = Action(
    "Pause",
    "pause",
    "pause",
    "Steps that execute go on to their end; nothing new begins until it is resumed.",
    "Paused.",
    "p",
    reason=True,
)
RETRY = Action(
    "Retry",
    "replay",
    "retry",
    "It goes on from its failed step. What succeeded is kept, and isn't executed again.",
    "It goes on in its next generation.",
    "a",
)
CANCEL = Action(
    "Cancel",
    "cancel",
    "cancel",
    "Its code is told by CancelledError, and may tidy up before it ends.",
    "It is asked to cancel.",
    "c",
    danger=True,
    reason=True,
)
TERMINATE = Action(
    "Terminate",
    "dangerous",
    "terminate",
    "It ends at once. None of its code runs any more, also nothing that would tidy up.",
    "Terminated.",
    danger=True,
    reason=True,
)


def actions_for(status: Status) -> list[Action]:
    """What can be done with a run in a status, the most likely first.

    Example:
        >>> [action.verb for action in actions_for(Status.FAILED)]
        ['retry']
    """
    if status is Status.FAILED:
        return [RETRY]
    if status.final:
        return []
    return [RESUME if status is Status.PAUSED else PAUSE, CANCEL, TERMINATE]


async def ask(desk: Desk, id: str, action: Action) -> bool:
    """Ask about an action, and do it. Returns whether it was done."""
    with ui.dialog() as dialog, parts.card(f"{action.label} this run?").classes("pd-dialog"):
        ui.label(id).classes("pd-mono")
        ui.label(action.means)
        reason: ui.input | None = None
        if action.reason:
            reason = ui.input("Why (its history keeps it)").props("outlined dense stack-label maxlength=2000")
        with parts.row().classes("pd-right"):
            parts.button("Leave it", lambda: dialog.submit(False))
            parts.button(action.label, lambda: dialog.submit(True), main=True, danger=action.danger)
    answer = await dialog
    given = str(reason.value or "").strip() if reason is not None else ""
    dialog.delete()
    if not answer:
        return False
    body: dict[str, Any] | None = {"reason": given or None} if action.reason else None
    return await desk.act(action.done, "POST", run_path(id, action.verb), body)


def buttons(desk: Desk, id: str, status: Status, after: Callable[[], Awaitable[None]]) -> None:
    """A button for each action.

    Args:
        after: called when something was done.
    """
    for action in actions_for(status):

        async def press(action: Action = action) -> None:
            if await ask(desk, id, action):
                await after()

        made = parts.button(
            action.label, press, icon=action.icon, danger=action.danger, allowed=desk.operates
        )
        if action.key:
            made.props(f'data-key="{action.key}"').tooltip(f"Key: {action.key}")
