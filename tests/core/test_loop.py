"""The workflow's event loop: what it refuses, and how timers, errors and interruption behave on it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import warnings
import weakref
from typing import Any

import pytest

from helpers.simulation import Boom, Simulation, describe, do, see, simulate
from perdure.core.commands import Ending
from perdure.core.forbidden import answered_at_once
from perdure.core.loop import WorkflowLoop
from perdure.errors import ForbiddenInWorkflowError, TurnLimitError


def _loop() -> Any:
    return asyncio.get_running_loop()


async def _blocking() -> None:
    await asyncio.to_thread(print)


FORBIDDEN = {
    "to_thread": (_blocking, "sync @step"),
    "run_in_executor": (lambda: _loop().run_in_executor(None, print), "sync @step"),
    "call_soon_threadsafe": (lambda: _loop().call_soon_threadsafe(print), "step"),
    "open_connection": (lambda: asyncio.open_connection("localhost", 1), "@step"),
    "start_server": (lambda: asyncio.start_server(print, "localhost", 1), "@step"),
    "open_unix_connection": (lambda: asyncio.open_unix_connection("x"), "@step"),
    "subprocess_exec": (lambda: asyncio.create_subprocess_exec("true"), "@step"),
    "subprocess_shell": (lambda: asyncio.create_subprocess_shell("true"), "@step"),
    "add_signal_handler": (lambda: _loop().add_signal_handler(2, print), "outside of the workflow"),
    "getaddrinfo": (lambda: _loop().getaddrinfo("localhost", 80), "@step"),
    "sock_recv": (lambda: _loop().sock_recv(None, 1), "@step"),
    "add_reader": (lambda: _loop().add_reader(0, print), "@step"),
    "run_until_complete": (lambda: _loop().run_until_complete(None), "await"),
    "set_task_factory": (lambda: _loop().set_task_factory(None), "task factory"),
    "stop": (lambda: _loop().stop(), "return"),
    "close": (lambda: _loop().close(), "return"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_can_not_replay_says_what_to_write_instead(name: str) -> None:
    act, advice = FORBIDDEN[name]

    async def main() -> None:
        await act()  # type: ignore[no-untyped-call]

    live = simulate(main)
    assert isinstance(live.error, ForbiddenInWorkflowError), live.error
    assert advice in str(live.error)


def test_what_known_frameworks_hand_to_threads_is_called_on_the_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def fails() -> None:
        raise ValueError("no")

    async def main() -> None:
        seen.append(await _loop().run_in_executor(None, int, "7"))
        with pytest.raises(ValueError, match="no"):
            await _loop().run_in_executor(None, fails)
        _loop().call_soon_threadsafe(seen.append, 8)
        await asyncio.sleep(0)
        await asyncio.to_thread(print)  # that is asyncio's module, not one of them

    monkeypatch.setattr("perdure.core.forbidden.called_on_the_spot", {__name__})
    monkeypatch.setattr("perdure.core.loop.called_on_the_spot", {__name__})
    live = simulate(main)
    assert seen == [7, 8]
    assert isinstance(live.error, ForbiddenInWorkflowError)


def test_tasks_that_are_made_while_the_code_is_unwound_never_begin() -> None:
    async def tidies() -> None:
        raise AssertionError("it began")

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.shield(asyncio.create_task(tidies()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulation = Simulation(main)
        simulation.begin()
        simulation.machine.close()
        del simulation
        gc.collect()


def test_nothing_of_the_event_loops_interface_is_left_unanswered() -> None:
    for name, member in inspect.getmembers(asyncio.AbstractEventLoop, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert getattr(WorkflowLoop, name) is not member, f"{name} would raise NotImplementedError"


def test_as_completed_of_a_generator_is_refused() -> None:
    async def main() -> None:
        made = [do(name) for name in "abc"]
        try:
            for one in asyncio.as_completed(call for call in made):
                await one
        finally:
            for call in made:
                call.close()

    live = simulate(main)
    if isinstance(live.error, TypeError):  # Python 3.13 and later may refuse it by themselves
        return
    assert isinstance(live.error, ForbiddenInWorkflowError)
    assert "as_completed([...])" in str(live.error)


def test_as_completed_of_a_set_of_coroutines_is_refused() -> None:
    async def main() -> None:
        async def native() -> None: ...

        made = {native(), native()}
        try:
            for one in asyncio.as_completed(made):
                await one
        finally:
            for coroutine in made:
                coroutine.close()

    assert isinstance(simulate(main).error, ForbiddenInWorkflowError)


def test_as_completed_of_foreign_awaitables_is_refused() -> None:
    class Foreign:
        def __await__(self) -> Any:
            return (yield from do("a").__await__())

    async def main() -> None:
        for one in asyncio.as_completed([Foreign(), Foreign()]):
            await one

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asyncio's wrappers, which are not awaited
        live = simulate(main)
        assert isinstance(live.error, ForbiddenInWorkflowError)
        assert "ensure_future" in str(live.error)
        live.error.__traceback__ = None
        gc.collect()


def test_a_timer_at_nan_is_refused() -> None:
    async def sleeps() -> None:
        await asyncio.sleep(float("nan"))

    async def limits() -> None:
        async with asyncio.timeout(float("nan")):
            await do("a")

    assert isinstance(simulate(sleeps).error, ValueError)
    assert isinstance(simulate(limits).error, ValueError)


def test_a_wait_without_end_asks_for_no_timer() -> None:
    async def main() -> None:
        await asyncio.sleep(float("inf"))

    live = simulate(main)
    assert live.ending is None
    assert live.asked == []


def test_a_cancelled_timer_asks_for_its_end() -> None:
    async def main() -> None:
        async with asyncio.timeout(100):
            await do("a")
        await do("b")

    assert simulate(main).cancelled == ["timeout:1"]


def test_an_error_in_a_callback_ends_only_the_callback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> str:
        def raises(error: BaseException) -> None:
            raise error

        _loop().call_soon(raises, Boom("x"))
        _loop().call_soon(raises, asyncio.CancelledError())
        _loop().call_soon(raises, GeneratorExit())
        _loop().call_later(1, raises, Boom("y"))
        await asyncio.sleep(5)
        return await do("a")

    with caplog.at_level(logging.ERROR):
        assert simulate(main).outcome == "a"
    assert len(caplog.records) == 4


def test_an_exception_handler_of_the_code_is_asked() -> None:
    async def main() -> None:
        _loop().set_exception_handler(lambda loop, context: see(context["message"]))

        def raises() -> None:
            raise Boom

        _loop().call_soon(raises)
        await asyncio.sleep(0)
        assert _loop().get_exception_handler() is not None

    assert simulate(main).sights == ["exception in a callback"]


def test_an_unheard_error_of_a_task_is_logged_live_and_not_on_replay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        asyncio.create_task(do("a", fails="Boom"))
        await asyncio.sleep(5)
        gc.collect()
        await do("b")

    with caplog.at_level(logging.ERROR):
        history = simulate(main).history
        gc.collect()
        assert [record.name for record in caplog.records] == ["perdure.workflow"]
        caplog.clear()
        simulation = Simulation(main)
        simulation.replay(history)
        gc.collect()
        assert not caplog.records
        simulation.machine.close()


@pytest.mark.parametrize("error", [SystemExit(3), SystemExit("bye")])
def test_system_exit_fails_the_run_and_not_the_process(error: SystemExit) -> None:
    async def main() -> None:
        asyncio.create_task(do("other", 50.0))
        await do("a")
        raise error

    live = simulate(main)
    assert live.ending is Ending.RAISED
    assert live.error is error


def test_keyboard_interrupt_is_the_processs_own() -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(main)


def test_an_interrupted_drain_raises_the_turn_limit_error() -> None:
    async def main() -> None:
        for number in range(10):
            await asyncio.sleep(0)
            if number == 5:
                _loop().interrupted = True

    simulation = Simulation(main)
    with pytest.raises(TurnLimitError):
        simulation.begin()
    simulation.machine.close()


def test_the_outer_loop_and_the_collector_are_as_before() -> None:
    async def outer() -> None:
        loop = asyncio.get_running_loop()

        async def inner() -> None:
            assert asyncio.get_running_loop() is not loop
            assert not gc.isenabled()
            await do("a")

        live = simulate(inner)
        assert live.ending is Ending.RETURNED, describe(live.error or Boom())
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is not None
        assert gc.isenabled()

    asyncio.run(outer())


def test_unwinding_runs_finally_blocks_without_effect() -> None:
    unwound: list[str] = []

    async def branch(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            unwound.append(name)
            await do("never asked for")
            unwound.append("never")

    async def pages() -> Any:
        try:
            yield await do("a")
            yield await do("b", 1000.0)
        finally:
            await do("never asked for either")

    async def main() -> None:
        asyncio.create_task(branch("a"))
        asyncio.create_task(branch("b"))
        try:
            async for _ in pages():
                pass
        finally:
            await branch("root")

    simulation = Simulation(main, notes=False, limit=2)
    simulation.begin()
    with pytest.raises(AssertionError, match="doesn't end"):
        simulation.go_on()
    simulation.machine.close()
    assert unwound == ["b", "a", "root"]
    assert simulation.machine.take_commands() == []


def test_tasks_that_are_made_while_code_is_unwound_never_begin() -> None:
    begun: list[str] = []

    async def cleans() -> None:
        begun.append("cleaning")

    async def main() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            asyncio.create_task(cleans())  # which asyncio would complain of, were it left as it is

    simulation = Simulation(main, notes=False, limit=1)
    simulation.begin()
    with pytest.raises(AssertionError, match="doesn't end"):
        simulation.go_on()
    simulation.machine.close()
    del simulation
    gc.collect()
    assert begun == []


def _resists(kind: str) -> Any:
    async def sleeping() -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except BaseException:
                pass

    async def calling() -> None:
        while True:
            try:
                await do("a", 1000.0)
            except BaseException:
                pass

    async def sleeping_between() -> None:
        while True:
            try:
                await do("a", 1000.0)
            except BaseException:
                await asyncio.sleep(1000)

    return {"sleeping": sleeping, "calling": calling, "sleeping between": sleeping_between}[kind]


@pytest.mark.parametrize("kind", ["sleeping", "calling", "sleeping between"])
def test_code_that_catches_everything_can_not_hold_up_the_process(kind: str) -> None:
    """The collector closes coroutines, too: this one must not come to life again there."""
    simulation = Simulation(_resists(kind))
    simulation.begin()
    simulation.machine.close()
    del simulation
    gc.collect()


def test_a_run_that_left_memory_is_collected() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(do("a", 100.0))
            await asyncio.sleep(1000)

    simulation = Simulation(main)
    simulation.begin()
    gone = weakref.ref(simulation.machine.loop)
    simulation.machine.close()
    del simulation
    gc.collect()
    assert gone() is None


def test_tasks_of_many_runs_have_different_hashes() -> None:
    """asyncio keeps the tasks of all loops in one table: equal hashes would make it a list."""
    seen = set()
    for number in range(100):
        loop = WorkflowLoop(f"run {number}", None)
        seen.add(hash(loop.create_future()))
    assert len(seen) == 100


def _looks() -> str:
    return "looked"


def test_what_only_looks_at_the_machine_may_be_asked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libraries do: it is answered on the spot."""
    monkeypatch.setitem(answered_at_once, (__name__, "_looks"), lambda: "known")

    async def main() -> None:
        see(await asyncio.to_thread(_looks))
        see(await _loop().run_in_executor(None, _looks))

    assert simulate(main).sights == ["known", "known"]


def test_a_loop_is_closed_once_its_run_is_over() -> None:
    """So that what others keep for each loop is let go."""
    loops: list[Any] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        assert not loops[0].is_closed()

    simulate(main)
    assert loops[0].is_closed()
