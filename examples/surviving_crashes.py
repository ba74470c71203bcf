"""A refund that would be paid twice, found before any machine had to die for it.

`crash_everywhere` runs the workflow, kills it at each point where a crash makes a difference, and lets it recover. The
careless refund is told of; the careful one, whose bank recognises a repeated payment by its key, passes. Nothing else
differs between the two.

    python examples/surviving_crashes.py
"""

import asyncio

import perdure
from perdure import step, workflow
from perdure.testing import CrashFailure, crash_everywhere


class Bank:
    """A service outside. It knows payments by the key that comes with them, if one does."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}

    def reset(self) -> None:
        self.paid.clear()

    def pay(self, customer: str, cents: int, key: str | None = None) -> str:
        receipt = key or f"payment {len(self.paid) + 1}"
        self.paid[receipt] = cents
        return f"{cents} paid to {customer}"

    def total(self) -> int:
        return sum(self.paid.values())


bank = Bank()


@step(effect="read")
async def owed(customer: str) -> int:
    return 100 * len(customer)


@step
async def pay(customer: str, cents: int) -> str:
    return bank.pay(customer, cents)


@step
async def pay_once(customer: str, cents: int) -> str:
    return bank.pay(customer, cents, key=perdure.idempotency_key())


@workflow
async def careless_refund(customer: str) -> str:
    cents = await owed(customer)
    await asyncio.sleep(3 * 86_400)  # days of grace, which take no time here
    return await pay(customer, cents)


@workflow
async def careful_refund(customer: str) -> str:
    cents = await owed(customer)
    await asyncio.sleep(3 * 86_400)
    return await pay_once(customer, cents)


async def main() -> None:
    try:
        await crash_everywhere(careless_refund("anna"), setup=bank.reset, look=bank.total)
    except CrashFailure as failed:
        print(failed)
    print()
    print(await crash_everywhere(careful_refund("anna"), setup=bank.reset, look=bank.total, twice=True))


if __name__ == "__main__":
    asyncio.run(main())
