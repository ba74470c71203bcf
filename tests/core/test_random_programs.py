"""Random programs: whatever asyncio code is put together from, its histories replay.

Hypothesis grows trees of gather, task groups, timeouts, shields, sleeps, queues, generators, children and failing
steps; each is run live in a random order of completion (and perhaps cancelled), replayed from every prefix, and
its operations must keep their ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import perdure
from helpers.simulation import (
    Bang,
    Boom,
    Nudge,
    Simulation,
    check_replay,
    child,
    do,
    message,
    other,
    see,
    simulate,
)
from perdure.core import events as ev
from perdure.core.timeline import set_aside

_takes = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 3.5, 7.0])
_leaf = st.one_of(
    st.tuples(st.just("step"), _takes, st.sampled_from(["", "", "", "Boom", "Bang"]), st.integers(1, 3)),
    st.tuples(st.just("other"), _takes),
    st.tuples(st.just("sleep"), _takes),
    st.tuples(st.just("spin"), st.integers(0, 3)),
    st.tuples(st.just("child"), _takes, st.sampled_from(["", "", "Boom"])),
    st.tuples(st.just("raise"), st.sampled_from(["Boom", "Bang"])),
    st.tuples(st.just("cancel self")),
)


def _grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("sequence"), some),
        st.tuples(st.just("gather"), some, st.booleans()),
        st.tuples(st.just("group"), some),
        st.tuples(
            st.just("wait"), some, st.sampled_from(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
        ),
        st.tuples(st.just("as_completed"), some),
        st.tuples(st.just("timeout"), _takes, inner),
        st.tuples(st.just("wait_for"), _takes, inner),
        st.tuples(st.just("shield"), inner),
        st.tuples(st.just("try"), inner),
        st.tuples(st.just("finally"), inner, inner),
        st.tuples(st.just("background"), inner),
        st.tuples(st.just("cancel later"), _takes, inner),
        st.tuples(st.just("generator"), some, st.integers(0, 3)),
        st.tuples(st.just("lock"), some),
    )


_programs = st.recursive(_leaf, _grow, max_leaves=12)

_waits = st.one_of(
    st.tuples(st.just("receive"), st.sampled_from("ab"), _takes),
    st.tuples(st.just("until"), st.integers(1, 8), _takes),
)
_conversations = st.recursive(st.one_of(_waits, _waits, _leaf), _grow, max_leaves=10)
_messages = st.lists(st.tuples(_takes, st.sampled_from("ab")), max_size=5)


class Interpreter:
    """Runs one program; `numbers` label what it does."""

    def __init__(self) -> None:
        self.number = 0
        self.background: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()

    def label(self) -> str:
        self.number += 1
        return str(self.number)

    async def run(self, node: Any) -> Any:
        kind, *given = node
        result = await getattr(self, "_" + kind.replace(" ", "_"))(*given)
        see(kind, str(result))
        return result

    async def _step(self, takes: float, fails: str, tries: int) -> Any:
        return await do(self.label(), takes, fails, tries)

    async def _other(self, takes: float) -> Any:
        return await other(self.label(), takes)

    async def _sleep(self, takes: float) -> Any:
        await asyncio.sleep(takes)
        return perdure.now().timestamp()

    async def _spin(self, rounds: int) -> Any:
        for _ in range(rounds):
            await asyncio.sleep(0)

    async def _child(self, takes: float, fails: str) -> Any:
        return await child(self.label(), takes, fails)

    async def _receive(self, name: str, takes: float) -> Any:
        number = await perdure.receive(name, int, timeout=takes)
        see("received", number)
        return number

    async def _until(self, number: int, takes: float) -> Any:
        await perdure.until(lambda: self.number >= number, timeout=takes)
        assert self.number >= number

    async def _raise(self, name: str) -> Any:
        raise {"Boom": Boom, "Bang": Bang}[name](self.label())

    async def _cancel_self(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def _sequence(self, inner: list[Any]) -> Any:
        return [await self.run(node) for node in inner]

    async def _gather(self, inner: list[Any], returned: bool) -> Any:
        found = await asyncio.gather(*(self.run(node) for node in inner), return_exceptions=returned)
        return [type(item).__name__ if isinstance(item, BaseException) else item for item in found]

    async def _group(self, inner: list[Any]) -> Any:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(self.run(node)) for node in inner]
        return [task.result() for task in made]

    async def _wait(self, inner: list[Any], how: str) -> Any:
        tasks = {asyncio.create_task(self.run(node)) for node in inner}
        done, pending = await asyncio.wait(tasks, return_when=getattr(asyncio, how))
        for task in done:
            see("done", task.cancelled() or repr(task.exception()))
        for task in pending:
            task.cancel()
        return len(done)

    async def _as_completed(self, inner: list[Any]) -> Any:
        return [await one for one in asyncio.as_completed([self.run(node) for node in inner])]

    async def _timeout(self, takes: float, inner: Any) -> Any:
        async with asyncio.timeout(takes):
            return await self.run(inner)

    async def _wait_for(self, takes: float, inner: Any) -> Any:
        return await asyncio.wait_for(self.run(inner), takes)

    async def _shield(self, inner: Any) -> Any:
        task = asyncio.ensure_future(self.run(inner))
        self.background.append(task)
        return await asyncio.shield(task)

    async def _try(self, inner: Any) -> Any:
        try:
            return await self.run(inner)
        except Exception as error:
            return type(error).__name__

    async def _finally(self, inner: Any, last: Any) -> Any:
        try:
            return await self.run(inner)
        finally:
            await self.run(last)

    async def _background(self, inner: Any) -> Any:
        self.background.append(asyncio.create_task(self.run(inner)))

    async def _cancel_later(self, takes: float, inner: Any) -> Any:
        task = asyncio.create_task(self.run(inner))
        await asyncio.sleep(takes)
        task.cancel()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        return type(found).__name__

    async def _generator(self, inner: list[Any], taken: int) -> Any:
        async def items() -> AsyncIterator[Any]:
            try:
                for node in inner:
                    yield await self.run(node)
            finally:
                await do(self.label())

        out: list[Any] = []
        async for item in items():
            out.append(item)
            if len(out) >= taken:
                break
        return out

    async def _lock(self, inner: list[Any]) -> Any:
        async def one(node: Any) -> Any:
            if self.lock.locked():
                await asyncio.sleep(0)
                return None
            async with self.lock:
                return await self.run(node)

        return await asyncio.gather(*(one(node) for node in inner))


@settings(max_examples=150)
@given(program=_programs, cancel_at=st.none() | _takes, again=st.none() | _takes)
def test_a_random_program_replays_from_every_prefix(
    program: Any, cancel_at: float | None, again: float | None
) -> None:
    async def main() -> Any:
        return await Interpreter().run(program)

    nudges = [Nudge(at) for at in (cancel_at, again) if at is not None]
    live = simulate(main, nudges=nudges)
    assert live.ending is not None, "it doesn't end"
    assert len(live.asked) == len(set(live.asked))
    check_replay(lambda: main, live, nudges=nudges)


def _sent(messages: list[tuple[float, str]]) -> list[Nudge]:
    """Even numbers can be read, odd ones are texts."""
    nudges = []
    for number, (at, name) in enumerate(sorted(messages)):
        payload = f"{number}" if number % 2 == 0 else f'"{number}"'
        nudges.append(message(at, name, payload.encode()))
    return nudges


def _came(history: list[ev.Event]) -> list[int]:
    return [int(event.payload.strip(b'"')) for event in history if isinstance(event, ev.MessageReceived)]


@settings(max_examples=150)
@given(program=_conversations, cancel_at=st.none() | _takes, messages=_messages)
def test_a_random_conversation_replays_and_loses_no_message(
    program: Any, cancel_at: float | None, messages: list[tuple[float, str]]
) -> None:
    """Each message is received once, or set aside, or left; also when its receiver is cancelled as it comes."""

    async def main() -> Any:
        return await Interpreter().run(program)

    nudges = _sent(messages) + ([] if cancel_at is None else [Nudge(cancel_at)])
    simulation = Simulation(main, nudges=nudges)
    simulation.begin()
    live = simulation.go_on()
    machine = simulation.machine
    left = [number for number, _ in machine.mailbox.unread()] if machine.mailbox is not None else []
    left += [number for number, _ in set_aside(live.history)]
    left += [int(op.rpartition(":")[2]) for op in machine._records or ()]  # set aside in its last turn
    machine.close()
    received = [sight[1] for sight in live.sights if sight[0] == "received"]
    assert sorted(received + _came([live.history[number - 1] for number in left])) == _came(live.history)
    assert live.ending is not None, "it doesn't end"
    check_replay(lambda: main, live, nudges=nudges)
