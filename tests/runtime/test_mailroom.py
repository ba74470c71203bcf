"""The mailroom: which look is for whom, and that none is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.errors import StoreUnavailableError
from perdure.runtime import mailroom
from perdure.runtime.driver import Driver
from perdure.runtime.mailroom import Mailroom
from perdure.storage.records import Mail


class Run:
    """A driver, as far as the mailroom knows one. Like those it has a number from the moment at which it is made."""

    def __init__(self) -> None:
        Driver.made += 1
        self.number = Driver.made
        self.got: list[int] = []

    def take_mail(self, items: Sequence[tuple[int, ev.Event]]) -> None:
        self.got += [number for number, _ in items]


class Inboxes:
    """A store whose looks take until they are let go on; each tells what was in the inboxes when it began."""

    def __init__(self) -> None:
        self.items: list[Mail] = []
        self.looks = 0
        self.let_go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def mail(self, worker: int) -> list[Mail]:
        self.looks += 1
        found = list(self.items)
        await self.let_go.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return found


def letter(number: int, run: int = 1) -> Mail:
    data = encode_event(ev.MessageReceived(1.0, name="word", payload=b"1", sender=None))
    return Mail(id=number, run=run, data=data, kind="message")


def in_a_mailroom(test: Callable[[Mailroom, Inboxes, dict[int, Any]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        store, drivers = Inboxes(), dict[int, Any]()
        tasks: list[asyncio.Task[None]] = []
        room: Any = Mailroom(
            store,  # type: ignore[arg-type]
            lambda: 1,
            drivers,
            lambda work: tasks.append(asyncio.ensure_future(work)),
        )
        await test(room, store, drivers)
        for task in tasks:
            await asyncio.wait_for(task, 30)

    asyncio.run(main())


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_look_that_began_before_a_run_came_is_not_for_it() -> None:
    """It has read its inbox itself; by now it may have taken what the look has seen, and forgotten that."""

    async def test(room: Mailroom, store: Inboxes, drivers: dict[int, Any]) -> None:
        before = drivers[2] = Run()
        store.items = [letter(7), letter(8, run=2)]
        room.look_soon()
        await turns()
        assert store.looks == 1
        late = drivers[1] = Run()
        store.let_go.release()
        await turns()
        assert (before.got, late.got) == ([8], [])
        room.look_soon()
        store.let_go.release()
        await turns()
        assert late.got == [7]

    in_a_mailroom(test)


def test_mail_that_comes_amid_a_look_is_looked_for_again() -> None:
    async def test(room: Mailroom, store: Inboxes, drivers: dict[int, Any]) -> None:
        run = drivers[1] = Run()
        room.look_soon()
        await turns()
        store.items = [letter(7)]
        for _ in range(3):
            room.look_soon()  # several hints, one more look
        store.let_go.release()
        store.let_go.release()
        await turns()
        assert run.got == [7]
        assert store.looks == 2

    in_a_mailroom(test)


def test_a_store_that_cannot_be_read_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom, "RETRY_EVERY", 0.001)

    async def test(room: Mailroom, store: Inboxes, drivers: dict[int, Any]) -> None:
        run = drivers[1] = Run()
        store.items = [letter(7)]
        store.error = StoreUnavailableError("a test says so")
        room.look_soon()
        store.let_go.release()
        store.let_go.release()
        async with asyncio.timeout(30):
            while not run.got:
                await asyncio.sleep(0.001)
        assert run.got == [7]

    in_a_mailroom(test)
