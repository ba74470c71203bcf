"""A timer that can be put off while it runs: a reminder that waits for its moment, whatever that becomes meanwhile.

python examples/updatable_timer.py
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta

import perdure
from perdure import Engine, step, workflow


@step
async def remind(what: str) -> str:
    return f"remember: {what}"


@workflow
async def reminder(what: str, due: datetime) -> str:
    @perdure.on_query
    def left() -> float:
        return (due - perdure.now()).total_seconds()

    def later(moment: datetime) -> None:
        if moment <= perdure.now():
            raise ValueError("that moment is over")

    @perdure.on_update(validator=later)
    def put_off(moment: datetime) -> None:
        nonlocal due
        due = moment

    def is_put_off(from_then: datetime) -> Callable[[], bool]:
        return lambda: due != from_then

    while (wait := (due - perdure.now()).total_seconds()) > 0:
        with contextlib.suppress(TimeoutError):
            await perdure.until(is_put_off(due), timeout=wait)
    return await remind(what)


async def main(url: str) -> None:
    async with Engine(url) as engine:
        soon = datetime.now().astimezone() + timedelta(days=1)
        handle = await engine.start(reminder("water the moss", soon), id="reminder-1")
        print(f"due in {await handle.query('left') / 3600:.0f} hours")
        await handle.update("put_off", soon + timedelta(days=6), key="later")
        print(f"put off: due in {await handle.query('left') / 86_400:.0f} days")
        try:
            await handle.update("put_off", datetime(2020, 1, 1).astimezone(), key="past")
        except perdure.UpdateRejected as error:
            print("rejected:", error)
        await handle.update("put_off", datetime.now().astimezone() + timedelta(seconds=0.3), key="now")
        print(await handle.result())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(f"sqlite:///{place}/reminders.db"))
