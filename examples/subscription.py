"""A subscription that lives for years: an entity that pays every month, changes its plan, and can be asked at any time.

    python examples/subscription.py [seconds of a month]

A month lasts a tenth of a second here. Between payments the subscription is a row in the database and nothing else: no
thread, no memory, no process that has to be up. Each generation has a year's payments, so the history stays short.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile

import perdure
from perdure import Engine, step, workflow

PRICES = {"basic": 5, "plus": 9}


@step
async def charge(customer: str, month: int, plan: str) -> int:
    """The key is the same for all attempts of this month, so the bank charges once."""
    perdure.idempotency_key()
    return PRICES[plan]


@workflow
async def subscription(
    customer: str, plan: str, month: float, paid: int = 0, months: int = 0
) -> dict[str, int]:
    ended = False

    @perdure.on_query
    def account() -> dict[str, str | int]:
        return {"plan": plan, "months": months, "paid": paid}

    def known(to: str) -> None:
        if to not in PRICES:
            raise ValueError(f"there is no plan {to!r}; there are {', '.join(PRICES)}")

    @perdure.on_update(validator=known)
    def change_plan(to: str) -> str:
        nonlocal plan
        plan = to
        return f"{plan} from the next month on"

    @perdure.on_update
    def end() -> None:
        nonlocal ended
        ended = True

    for _ in range(12):
        months += 1
        paid += await charge(customer, months, plan)
        with contextlib.suppress(TimeoutError):  # a month has gone by
            await perdure.until(lambda: ended, timeout=month)
        if ended:
            break
    else:
        perdure.continue_as(subscription(customer, plan, month, paid, months))
    return {"months": months, "paid": paid}


async def after(handle: perdure.Handle[dict[str, int]], months: int) -> dict[str, str | int]:
    """Ask until so many months are over."""
    while (account := await handle.query("account"))["months"] < months:  # noqa: ASYNC110 - it is elsewhere
        await asyncio.sleep(0.02)
    return dict(account)


async def main(url: str, month: float) -> None:
    async with Engine(url) as engine:
        handle = await engine.start(subscription("ada", "basic", month), id="subscription-ada")
        await after(handle, 14)
        print(await handle.update("change_plan", "plus", key="request-1"))
        try:
            await handle.update("change_plan", "gold", key="request-2")
        except perdure.UpdateRejected as error:
            print("rejected:", error)
        print(await after(handle, 26))
    print("nobody is there for a while")
    async with Engine(url) as engine:
        handle = engine.get("subscription-ada")
        await handle.update("end", key="request-3")
        result = await handle.result()
        info = await handle.info()
        print(f"ended after {result['months']} months; generation {info.generation} has {info.events} events")


if __name__ == "__main__":
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(f"sqlite:///{place}/subscriptions.db", length))
