"""Messages and conditions on a bare machine: order, cancellation, what is set aside, and replay from every event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import perdure
from helpers.simulation import (
    START,
    Nudge,
    Recorded,
    Simulation,
    check_replay,
    child,
    do,
    message,
    replayed,
    see,
    simulate,
)
from perdure.core import events as ev
from perdure.core.commands import Ending
from perdure.core.timeline import set_aside, unread, waits
from perdure.errors import NonDeterminismError, UndecodableError


def numbers(name: str, *moments: float) -> list[Nudge]:
    """Messages 1, 2, 3, ... at these moments."""
    return [message(at, name, str(number).encode()) for number, at in enumerate(moments, 1)]


def check(make: Any, nudges: list[Nudge], outcome: Any, **options: Any) -> Recorded:
    """Live and from every prefix, with notes and without."""
    for notes in (True, False):
        live = simulate(make, nudges=nudges, notes=notes, **options)
        assert (live.ending, live.outcome) == (Ending.RETURNED, outcome)
        check_replay(lambda: make, live, nudges=nudges, notes=notes, **options)
    return simulate(make, nudges=nudges, **options)


# -- order --------------------------------------------------------------------------------------------


def test_messages_of_one_name_come_in_their_order() -> None:
    async def main() -> list[Any]:
        await do("work", 5.0)
        return [await perdure.receive("m") for _ in range(4)]

    check(main, numbers("m", 1, 1, 7, 9), [1, 2, 3, 4])


def test_receivers_of_one_name_are_served_in_their_order() -> None:
    async def take(label: str) -> None:
        see(label, await perdure.receive("m"))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for label in "abc":
                group.create_task(take(label))

    live = check(main, numbers("m", 1, 1, 8), None)
    assert live.sights == [("a", 1), ("b", 2), ("c", 3)]


def test_a_newcomer_waits_behind_those_who_wait() -> None:
    async def take(label: str) -> str:
        return f"{label}{await perdure.receive('m')}"

    async def main() -> list[str]:
        first = asyncio.create_task(take("a"))
        await asyncio.sleep(1)
        return list(await asyncio.gather(take("b"), first))

    check(main, numbers("m", 2, 3), ["b2", "a1"])


def test_a_name_is_forgotten_when_nothing_of_it_is_left() -> None:
    async def main() -> None:
        for number in range(20):
            await perdure.receive(f"m{number}")

    simulation = Simulation(main, nudges=[message(n, f"m{n}", b"0") for n in range(20)])
    simulation.begin()
    simulation.go_on()
    assert simulation.finish is not None
    assert simulation.machine.mailbox is not None
    assert simulation.machine.mailbox._lines == {}


# -- together with other waits ------------------------------------------------------------------------


def test_the_first_of_message_timer_and_child() -> None:
    async def main() -> list[str]:
        won = []
        for moment in (2, 6, 10):
            tasks = {
                "message": asyncio.create_task(perdure.receive("m")),
                "timer": asyncio.create_task(asyncio.sleep(moment)),
                "child": asyncio.ensure_future(child("c", 5.0)),
            }
            done, rest = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            won.append(next(name for name, task in tasks.items() if task in done))
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        return won

    check(main, numbers("m", 7.5), ["timer", "child", "message"])


def test_a_message_among_the_first_completed() -> None:
    async def main() -> Any:
        tasks = [asyncio.create_task(perdure.receive(name)) for name in ("a", "b")]
        done, rest = await asyncio.wait(
            [*tasks, asyncio.create_task(asyncio.sleep(9))], return_when="FIRST_COMPLETED"
        )
        assert rest
        (winner,) = done
        value = winner.result()
        for task in rest:
            task.cancel()
        return [value, await perdure.receive("a")]

    check(main, [message(1, "b", b'"b"'), message(2, "a", b'"a"')], ["b", "a"])


def test_timeouts_of_all_kinds() -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        for wait in (
            lambda: perdure.receive("m", timeout=2),
            lambda: asyncio.wait_for(perdure.receive("m"), 2),
            lambda: perdure.receive("m", timeout=0),
        ):
            try:
                got.append(await wait())
            except TimeoutError:
                got.append("late")
        async with asyncio.timeout(60):
            got.append(await perdure.receive("m"))
        return got

    check(main, numbers("m", 10), ["late", "late", "late", 1])
    check(main, numbers("m", 1, 10), [1, "late", "late", 2])


def test_a_time_out_once_recorded_stays() -> None:
    """Also for a message that came at the same moment, but after it."""

    async def main() -> list[Any]:
        try:
            await perdure.receive("m", timeout=2)
        except TimeoutError as error:
            see(str(error))
        await asyncio.sleep(5)
        return [await perdure.receive("m")]

    live = check(main, numbers("m", 2.0001), [1])
    assert live.sights == ["no message 'm' has come within 2 s"]


# -- cancellation -------------------------------------------------------------------------------------


def test_a_receiver_cancelled_between_its_waking_and_its_turn_leaves_the_message() -> None:
    seen: list[Any] = []
    tasks: list[asyncio.Task[Any]] = []

    async def take(label: str) -> None:
        seen.append((label, await perdure.receive("m")))

    async def main() -> None:
        tasks.extend(asyncio.create_task(take(label)) for label in "ab")
        await asyncio.wait(tasks)

    simulation = Simulation(main)
    simulation.begin()
    machine = simulation.machine
    machine.open_mailbox().put(2, ev.MessageReceived(at=START, name="m", payload=b"1"))  # wakes a
    machine.loop.enter()
    tasks[0].cancel()
    machine.loop.leave()
    machine._settle()
    assert seen == [("b", 1)]
    assert tasks[0].cancelled()


def test_given_up_waits_are_dropped_and_leave_messages_to_others() -> None:
    async def main() -> list[Any]:
        waiting = [asyncio.create_task(perdure.receive("m")) for _ in range(3)]
        await asyncio.sleep(5)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.sleep(5)
        return [await waiting[2]]

    live = check(main, numbers("m", 7), [1])
    assert {event.operation for event in live.history if isinstance(event, ev.OperationDropped)} == set()
    assert len(live.cancelled) == 2


def test_a_cancelled_run_that_waits() -> None:
    async def main() -> Any:
        try:
            await perdure.receive("m")
        except asyncio.CancelledError:
            return await perdure.receive("m", timeout=3)

    check(main, [Nudge(1), message(2, "m", b"7")], 7)


# -- set aside ----------------------------------------------------------------------------------------

WANTED: list[Any] = [int]


async def takes_typed() -> list[Any]:
    """Receives two of what WANTED says, with a step after each."""
    got = []
    for _ in range(2):
        got.append(await perdure.receive("m", WANTED[0]))
        await do("next", 1.0)
    return got


MIXED = [message(1, "m", b'"x"'), message(2, "m", b"1"), message(9, "m", b"null"), message(9, "m", b"2")]


@pytest.fixture
def wanted() -> Any:
    yield WANTED
    WANTED[0] = int


def test_what_cant_be_read_is_set_aside() -> None:
    live = check(takes_typed, MIXED, [1, 2])
    found = set_aside(live.history)
    assert [type(live.history[number - 1]) for number, _ in found] == [ev.MessageReceived] * 2
    assert found[0][1] == "it can't be read as `int`: Expected `int`, got `str`"


def replay_all(history: list[ev.Event], **options: Any) -> Recorded:
    """As the runtime replays: knowing what the history sets aside."""
    simulation = Simulation(takes_typed, **options)
    simulation.machine.look_ahead = lambda: dict(set_aside(history))
    simulation.replay(history)
    recorded = simulation.go_on()
    simulation.machine.close()
    return recorded


def test_what_was_set_aside_is_so_again_when_the_type_can_read_it(wanted: list[Any]) -> None:
    live = simulate(takes_typed, nudges=MIXED)
    wanted[0] = None
    for cut in range(1, len(live.history) + 1):
        history = live.history[:cut]
        aside = set_aside(history)
        again = replay_all(history, nudges=MIXED)
        # from where the history ends, the new type counts
        assert set_aside(again.history)[: len(aside)] == aside
        assert again.ending is Ending.RETURNED
    assert again.outcome == [1, 2]


def test_what_was_received_is_never_skipped(wanted: list[Any]) -> None:
    """A type that can't read it any more stops the replay, as soon as the history proves that it was received."""
    live = simulate(takes_typed, nudges=MIXED, notes=False)
    wanted[0] = list[int]
    outcomes = []
    for cut in range(1, len(live.history) + 1):
        try:
            again = replay_all(
                live.history[:cut],
                nudges=[*MIXED, message(20, "m", b"[3]"), message(21, "m", b"[4]")],
                notes=False,
            )
        except UndecodableError as error:
            outcomes.append(
                "refused" if "message 'm' (event 4) was received by this run" in str(error) else ""
            )
        else:
            assert again.outcome == [[3], [4]]
            outcomes.append("read")
    first = next(n for n, event in enumerate(live.history) if isinstance(event, ev.StepCompleted))
    assert outcomes == ["read"] * first + ["refused"] * (len(live.history) - first)


def test_a_crash_before_the_record_sets_aside_again() -> None:
    live = simulate(takes_typed, nudges=MIXED)
    record = next(n for n, event in enumerate(live.history) if isinstance(event, ev.MessageSetAside))
    again = replay_all(live.history[:record], nudges=MIXED)
    assert again.outcome == [1, 2]
    assert set_aside(again.history) == set_aside(live.history)


def test_a_record_that_the_code_doesnt_write_is_a_divergence() -> None:
    live = simulate(takes_typed, nudges=MIXED)

    async def takes_nothing() -> None:
        await asyncio.sleep(60)

    with pytest.raises(NonDeterminismError):
        replayed(takes_nothing, [event for event in live.history if not isinstance(event, ev.MessageAwaited)])


# -- what people see ----------------------------------------------------------------------------------


def test_waits_follow_the_messages() -> None:
    async def main() -> None:
        await asyncio.gather(perdure.receive("a", int), perdure.receive("b", int), perdure.receive("a", int))

    nudges = [message(1, "a", b'"x"'), message(2, "a", b"1"), message(3, "b", b"1"), message(4, "a", b"1")]
    live = simulate(main, nudges=nudges)
    seen = [sorted(wait.id for wait in waits(live.history[:cut])) for cut in range(1, len(live.history) + 1)]
    noted = seen.index(["a", "a", "b"])
    assert seen[noted:] == [
        ["a", "a", "b"],  # noted
        ["a", "b"],  # the first of a, which can't be read
        ["a", "a", "b"],  # so it is set aside
        ["a", "b"],
        ["a"],
        [],
    ]


def test_unread_messages_are_counted_in_their_order() -> None:
    async def main() -> None:
        await do("work", 5.0)
        await perdure.receive("b")

    simulation = Simulation(main, nudges=[*numbers("a", 1, 3), *numbers("b", 2, 4)])
    simulation.begin()
    simulation.go_on()
    assert simulation.machine.mailbox is not None
    left = simulation.machine.mailbox.unread()
    assert [(event.name, event.payload) for _, event in left] == [("a", b"1"), ("a", b"2"), ("b", b"2")]
    assert all(simulation.history[number - 1] == event for number, event in left)
    assert unread([ev.RunCompleted(START, b"null", (2, 3))]) == (2, 3)


# -- until --------------------------------------------------------------------------------------------


def test_until_waits_for_what_other_tasks_do() -> None:
    async def main() -> list[str]:
        done: list[str] = []

        async def work(label: str, takes: float) -> None:
            done.append(await do(label, takes))

        async with asyncio.TaskGroup() as group:
            for label, takes in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
                group.create_task(work(label, takes))
            await perdure.until(lambda: len(done) == 2)
            see(list(done))
        await perdure.until(lambda: len(done) == 3)
        return done

    live = check(main, [], ["b", "c", "a"])
    assert live.sights == [["b", "c"]]


def test_until_waits_for_what_messages_bring() -> None:
    async def main() -> Any:
        total = 0

        async def counts() -> None:
            nonlocal total
            while True:
                total += await perdure.receive("m", int)

        counting = asyncio.create_task(counts())
        await perdure.until(lambda: total >= 6, timeout=60)
        counting.cancel()
        return total

    check(main, numbers("m", 1, 2, 3, 4), 6)


def test_until_has_its_time() -> None:
    async def main() -> str:
        try:
            await perdure.until(lambda: False, timeout=4)
        except TimeoutError as error:
            return str(error)
        return "never"

    check(main, [], "what until() waits for hasn't come true within 4 s")


def test_what_until_waited_for_is_true_when_it_returns() -> None:
    """Many wait for one thing: each sees it, one after the other."""

    async def main() -> list[int]:
        free = 0
        took: list[int] = []

        async def takes(number: int) -> None:
            nonlocal free
            await perdure.until(lambda: free > 0)
            free -= 1
            assert free >= 0
            took.append(number)

        tasks = [asyncio.create_task(takes(number)) for number in range(5)]
        for _ in range(5):
            await do("more")
            free += 1
        await asyncio.wait(tasks)
        return took

    check(main, [], [0, 1, 2, 3, 4])


def test_until_that_is_true_already_doesnt_wait() -> None:
    async def main() -> str:
        await perdure.until(lambda: 1, timeout=3)  # type: ignore[arg-type, return-value]
        return "done"

    live = check(main, [], "done")
    assert len(live.history) == 1


async def _later() -> bool:
    return True


@pytest.mark.parametrize(
    ("predicate", "told"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: next(iter(())), "RuntimeError"),
        (_later, "whose answer has to be awaited"),
        (lambda: asyncio.create_task(asyncio.sleep(1)), "started a task"),
        (lambda: asyncio.get_running_loop().call_later(1, print), "started a timer"),
        (lambda: asyncio.get_running_loop().create_future(), "made a future"),
        (lambda: do("x").send(None), "asked for something durable"),
        (lambda: asyncio.get_running_loop().call_soon(print), "woke up something"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_predicate_only_looks(predicate: Any, told: str, at_once: bool) -> None:
    """What it raises is raised in the code that waits, which can go on."""

    async def main() -> str:
        started = at_once
        waiting = asyncio.create_task(perdure.until(lambda: started and predicate()))
        if not at_once:
            await do("work")
            started = True
            await do("work")
        try:
            await waiting
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    live = simulate(main)
    assert told in live.outcome
    check_replay(lambda: main, live)


def test_a_cancelled_until_is_forgotten() -> None:
    async def main() -> str:
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            return False

        waiting = asyncio.create_task(perdure.until(look, timeout=50))
        await do("a")
        waiting.cancel()
        await asyncio.wait([waiting])
        before = looks
        await do("b")
        assert looks == before
        return "done"

    check(main, [], "done")


def test_nothing_else_waits_counts_as_stuck() -> None:
    async def main() -> None:
        await perdure.until(lambda: False)

    async def receives() -> None:
        await perdure.receive("m")

    for make, stuck in ((main, True), (receives, False)):
        simulation = Simulation(make)
        simulation.begin()
        assert (simulation.machine.stuck() is not None) is stuck
        simulation.machine.close()
