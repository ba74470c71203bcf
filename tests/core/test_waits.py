"""What a run waits for, read from its history alone."""

from __future__ import annotations

from helpers.shapes import SHAPES
from helpers.simulation import simulate
from perdure.core import events as ev
from perdure.core.timeline import waits

FAILURE = ev.Failure(type="builtins.OSError", message="gone")
START = ev.RunStarted(at=0.0, workflow="w", input=b"", seed=b"")


def test_each_kind_of_wait_appears_and_goes() -> None:
    history: list[ev.Event] = [
        START,
        ev.StepStarted(at=1.0, step="a#1", attempt=1),
        ev.TimerStarted(at=2.0, timer="sleep:1", due=50.0),
        ev.ChildStarted(at=3.0, child="c#1", run="r/c#1", workflow="c"),
    ]
    assert [(wait.kind, wait.id, wait.since) for wait in waits(history)] == [
        ("step", "a#1", 1.0),
        ("timer", "sleep:1", 2.0),
        ("child", "c#1", 3.0),
    ]
    assert waits(history)[1].until == 50.0
    assert waits(history)[2].detail == "r/c#1"
    history.append(
        ev.StepAttemptFailed(at=4.0, step="a#1", attempt=1, failure=FAILURE, retry_at=9.0, started_at=1.0)
    )
    (retry,) = [wait for wait in waits(history) if wait.kind == "retry"]
    assert retry.until == 9.0
    assert "builtins.OSError: gone" in retry.detail
    history += [
        ev.StepCompleted(at=10.0, step="a#1", attempt=2, started_at=9.0, result=b"1"),
        ev.TimerFired(at=50.0, timer="sleep:1"),
        ev.ChildEnded(at=51.0, child="c#1", status="completed", result=b"1"),
    ]
    assert waits(history) == []


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    waiting = ev.TimerStarted(at=2.0, timer="sleep:1", due=50.0)
    for final in (
        ev.RunCompleted(at=3.0, result=b"1"),
        ev.RunFailed(at=3.0, failure=FAILURE),
        ev.RunCancelled(at=3.0),
        ev.RunTerminated(at=3.0),
    ):
        assert waits([START, waiting, final]) == []


def test_no_shape_waits_for_an_operation_that_is_over() -> None:
    for shape in SHAPES.values():
        history = simulate(shape).history
        for cut in range(1, len(history) + 1):
            past = history[:cut]
            over = {
                getattr(event, "step", None)
                for event in past
                if isinstance(event, ev.StepCompleted | ev.StepFailed)
            }
            over |= {event.timer for event in past if isinstance(event, ev.TimerFired)}
            over |= {event.child for event in past if isinstance(event, ev.ChildEnded)}
            assert not over & {wait.id for wait in waits(past)}
