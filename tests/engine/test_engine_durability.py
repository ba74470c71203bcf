"""Durable before visible: while a commit is on its way, nobody sees what is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from engine_kit import Place, Wrapped, history, run, until

import perdure
from perdure import events, step, workflow
from perdure.codec.events import decode_event
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Stale

SEEN: list[str] = []


class Holding(Wrapped):
    """Lets appends with a certain kind of event wait at the door until the test opens it."""

    def __init__(self, inner: Store, kind: type[events.Event]) -> None:
        super().__init__(inner)
        self.kind = kind
        self.opened = asyncio.Event()
        self.held = 0

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        return asyncio.ensure_future(self._append(batch))

    async def _append(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        if any(
            isinstance(event, self.kind) for append in batch for event in map(decode_event, append.events)
        ):
            self.held += 1
            await self.opened.wait()
        return await self.inner.append(batch)


@step
async def does(label: str) -> str:
    SEEN.append(f"body of {label}")
    return label


@workflow
async def two_steps() -> str:
    SEEN.append(f"{await does('one')} is done")
    return await does("two")


@workflow
async def sleeps() -> None:
    await asyncio.sleep(0.01)
    SEEN.append("awake")


@workflow
async def listens() -> None:
    SEEN.append(await perdure.receive("word", str))


def held_back(place: Place, kind: type[events.Event], call: perdure.Call[Any], before: list[str]) -> None:
    """Nothing goes on as long as the first event of this kind isn't durable, and everything does afterwards."""

    async def main() -> None:
        SEEN.clear()
        door: list[Holding] = []

        def wrap(store: Store) -> Holding:
            door.append(Holding(store, kind))
            return door[0]

        async with place.engine(wrap) as engine:
            handle = await engine.start(call, id="r")
            if kind is events.MessageReceived:
                await handle.send("word", "hello")
            try:
                await until(lambda: door[0].held)
                for _ in range(20):  # turns of the event loop in which a hasty engine would go on
                    await asyncio.sleep(0.005)
                assert before == SEEN
                assert door[0].held == 1
                assert not [event for event in await history(handle) if isinstance(event, kind)]
            finally:
                door[0].opened.set()
            await handle.result()
            assert len(SEEN) > len(before)

    run(main)


def test_a_step_s_outcome_is_durable_before_the_code_sees_it(place: Place) -> None:
    held_back(place, events.StepCompleted, two_steps(), ["body of one"])


def test_a_timer_has_fired_in_the_log_before_the_code_wakes(place: Place) -> None:
    held_back(place, events.TimerFired, sleeps(), [])


def test_a_message_is_in_the_history_before_the_code_receives_it(place: Place) -> None:
    held_back(place, events.MessageReceived, listens(), [])


@workflow
async def hands_a_token_out() -> str:
    promise = perdure.callback(str)
    await does(promise.token)
    return await promise


def test_a_callback_is_known_before_its_token_leaves_the_run(place: Place) -> None:
    async def main() -> None:
        SEEN.clear()
        door: list[Holding] = []

        def wrap(store: Store) -> Holding:
            door.append(Holding(store, events.CallbackOpened))
            return door[0]

        async with place.engine(wrap) as engine:
            handle = await engine.start(hands_a_token_out(), id="r")
            try:
                await until(lambda: door[0].held)
                await asyncio.sleep(0.1)
                assert SEEN == []
            finally:
                door[0].opened.set()
            await until(lambda: SEEN)
            await engine.callbacks.complete(SEEN[0].removeprefix("body of "), "kept")
            assert await handle.result() == "kept"

    run(main)


def test_a_run_has_ended_in_the_log_before_anybody_gets_its_result(place: Place) -> None:
    async def main() -> None:
        door: list[Holding] = []

        def wrap(store: Store) -> Holding:
            door.append(Holding(store, events.RunCompleted))
            return door[0]

        async with place.engine(wrap) as engine:
            handle = await engine.start(two_steps(), id="r")
            result = asyncio.ensure_future(handle.result())
            try:
                await until(lambda: door[0].held)
                await asyncio.wait([result], timeout=0.1)
                assert not result.done()
            finally:
                door[0].opened.set()
            assert await result == "two"

    run(main)
