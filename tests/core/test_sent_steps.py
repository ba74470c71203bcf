"""Steps that are sent to a queue, as the machine sees them: given up live and on replay, before and after the note."""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Generator
from typing import Any

import pytest

from perdure.core import events as ev
from perdure.core.commands import CancelOperation, Command, Finish, RunStep
from perdure.core.errands import errand_workflow, step_of
from perdure.core.finding import fingerprint
from perdure.core.machine import Machine
from perdure.core.timeline import waits
from perdure.errors import NonDeterminismError

STEP = "app.render#1"
STARTED = ev.RunStarted(at=1.0, workflow="w", input=b"", seed=b"s" * 32)
SENT = ev.StepSent(at=2.0, step=STEP, attempt=1, queue="gpu", run="r/x@1", fingerprint=fingerprint(b"in"))
FAILED = ev.StepAttemptFailed(3.0, STEP, 1, ev.Failure("builtins.OSError", "gone"), 4.0, 2.0)
CANCEL = ev.CancelRequested(at=5.0)
DROPPED = ev.OperationDropped(at=6.0, operation=STEP)


class Render:
    """A call of a step that is executed elsewhere."""

    def __init__(self, input: bytes = b"in") -> None:
        self.input = input

    def __await__(self) -> Generator[Any, Any, Any]:
        loop: Any = _get_running_loop()
        wait = loop.owner.step(STEP, "app.render", self, self.input, bytes.decode)
        loop.owner.send_elsewhere(STEP)
        return wait  # type: ignore[no-any-return]


def step_error(failure: ev.Failure, *, step: str, attempts: int) -> BaseException:
    return OSError(failure.message)


def child_error(event: ev.ChildEnded, run_id: str) -> BaseException:
    return OSError(run_id)


def machine_of(input: bytes = b"in") -> Machine:
    async def main() -> Any:
        try:
            return await Render(input)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    made = Machine("r", "w", lambda _: main(), step_error, child_error, 1000)
    made.begin(STARTED, 1.0)
    return made


def live(*events: ev.Event) -> list[Command]:
    """What the code asks for after the last of these, if what it asked for before was carried out."""
    machine = machine_of()
    for event in events:
        for command in machine.take_commands():
            if isinstance(command, RunStep) and isinstance(event, ev.StepSent):
                command.sent = event  # as the runtime does
        machine.feed(event)
    return machine.take_commands()


def replayed(*events: ev.Event, input: bytes = b"in") -> list[Command]:
    """What is left to do after a history."""
    machine = machine_of(input)
    machine.replaying = True
    for event in events:
        machine.feed(event)
    machine.replaying = False
    return machine.take_commands()


def cancelled(commands: list[Command]) -> list[str]:
    """The errands that are to be stopped."""
    found = [command.operation for command in commands if isinstance(command, CancelOperation)]
    return [op.sent.run for op in found if isinstance(op, RunStep) and op.sent is not None]


def steps(commands: list[Command]) -> list[RunStep]:
    return [command for command in commands if isinstance(command, RunStep)]


def test_what_was_sent_is_on_its_way_after_a_replay() -> None:
    (step,) = steps(replayed(SENT))
    assert (step.elsewhere, step.sent) == (True, SENT)
    (step,) = steps(replayed(SENT, FAILED))
    assert (step.sent, step.failed_attempts, step.retry_at) == (None, 1, 4.0)
    (step,) = steps(replayed())
    assert step.sent is None


def test_what_the_code_gives_up_is_stopped() -> None:
    assert cancelled(live(SENT, CANCEL)) == ["r/x@1"]
    assert cancelled(live(CANCEL)) == []  # it was never sent


@pytest.mark.parametrize("history", [(SENT, CANCEL), (CANCEL, SENT)], ids=["after", "before"])
def test_on_replay_it_is_stopped_unless_that_is_noted(history: tuple[ev.Event, ...]) -> None:
    """The note may have been on its way to the log when the code gave the step up."""
    assert cancelled(replayed(*history)) == ["r/x@1"]
    assert cancelled(replayed(*history, DROPPED)) == []
    assert steps(replayed(*history)) == []


def test_a_failed_attempt_leaves_nothing_to_stop() -> None:
    assert cancelled(replayed(SENT, FAILED, CANCEL)) == []


def test_an_outcome_ends_it() -> None:
    done = ev.StepCompleted(at=3.0, step=STEP, attempt=1, started_at=2.0, result=b"out", input=b"in")
    (finish,) = replayed(SENT, done)
    assert isinstance(finish, Finish)
    assert finish.value == "out"


def test_other_arguments_than_were_sent_are_a_divergence() -> None:
    with pytest.raises(NonDeterminismError, match=r"sent to queue 'gpu'"):
        replayed(SENT, input=b"other")


def test_a_report_is_no_part_of_a_history() -> None:
    with pytest.raises(NonDeterminismError):
        replayed(SENT, ev.ErrandEnded(3.0, STEP, "r/x@1", 1, 2.0, result=b"out"))


def test_waits_tell_where_it_was_sent() -> None:
    (wait,) = waits([STARTED, SENT])
    assert (wait.kind, wait.id, wait.run, wait.detail) == (
        "step",
        STEP,
        "r/x@1",
        "attempt 1, sent to queue 'gpu'",
    )
    assert [wait.kind for wait in waits([STARTED, SENT, FAILED])] == ["retry"]
    assert waits([STARTED, SENT, CANCEL, DROPPED]) == []


def test_workflows_of_errands_are_told_from_others() -> None:
    assert step_of(errand_workflow("app.render")) == "app.render"
    assert step_of("app.render") is None
