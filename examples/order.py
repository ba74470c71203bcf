"""An order: steps that are retried, a child run, a durable sleep, and a cancellation that tidies up.

    python examples/order.py [database]

Two orders are placed. The first one is delivered, although the card service fails twice. The second one is
cancelled by the customer while it waits for its delivery date, and gives back what it took.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from decimal import Decimal

import perdure
from perdure import Engine, Retry, step, workflow


@dataclass
class Order:
    """What the customer wants."""

    item: str
    price: Decimal
    deliver_in: float


class CardServiceError(Exception):
    """Worth another try."""


@step
async def reserve(item: str) -> str:
    print(f"  {item}: reserved")
    return f"reservation of {item}"


@step
async def release(reservation: str) -> None:
    print(f"  {reservation}: released")


@step(retry=Retry(max_attempts=5, initial=0.1, on=(CardServiceError,)))
def charge(price: Decimal) -> str:
    """A sync step runs in a thread. The key is the same for all attempts, so the card is charged once."""
    attempt = perdure.step_info().attempt
    print(f"  charge {price}: attempt {attempt}")
    if attempt < 3:
        raise CardServiceError("503")
    return f"receipt {perdure.idempotency_key()[:8]}"


@step
async def refund(receipt: str) -> None:
    print(f"  {receipt}: refunded")


@step
async def ship(item: str) -> str:
    print(f"  {item}: shipped")
    return f"parcel with {item}"


@workflow
async def delivery(item: str, wait: float) -> str:
    """A child run: it has a history of its own, and could run on another machine."""
    await asyncio.sleep(wait)  # may be days; holds no thread, no connection
    return await ship(item)


@workflow
async def order(wanted: Order) -> str:
    reservation = await reserve(wanted.item)
    receipt = await charge(wanted.price)
    try:
        return await delivery(wanted.item, wanted.deliver_in)
    except asyncio.CancelledError:
        await refund(receipt)
        await release(reservation)
        raise


async def main(url: str) -> None:
    async with Engine(url) as engine:
        print("order 1 is delivered:")
        print(" ", await engine.run(order(Order("teapot", Decimal("19.90"), deliver_in=1.0)), id="order-1"))

        print("order 2 is cancelled:")
        handle = await engine.start(order(Order("piano", Decimal(4200), deliver_in=86_400)), id="order-2")
        await asyncio.sleep(1.0)  # long enough to have paid; the delivery is due tomorrow
        await handle.cancel("changed my mind")
        try:
            await handle.result()
        except perdure.RunCancelled as error:
            print(" ", error)


if __name__ == "__main__":
    database = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/orders.db"
    asyncio.run(main(f"sqlite:///{database}"))
