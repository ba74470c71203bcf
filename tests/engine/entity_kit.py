"""Entities for tests, with states of every kind, and a workflow that calls them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import perdure
from perdure import step, workflow

#: Hears of every step's body: (run id, step id).
HEARD: list[tuple[str, str]] = []


@step
async def prices(item: str) -> int:
    info = perdure.step_info()
    HEARD.append((info.run_id, info.step_id))
    await asyncio.sleep(0)
    return len(item)


@workflow
async def lingers(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0.05)
    return "done"


@dataclass
class CartState:
    items: list[str] = field(default_factory=list)
    total: int = 0


class OutOfStock(Exception):
    pass


@perdure.entity
class Cart:
    state: CartState
    key: str

    async def add(self, item: str) -> int:
        """Changes before and after a step."""
        self.state.items.append(item)
        self.state.total += await prices(item)
        return self.state.total

    async def refuse(self, item: str) -> None:
        self.state.items.append(item)
        await prices(item)
        raise OutOfStock(item)

    async def empty(self) -> list[str]:
        items, self.state = self.state.items, CartState()
        return items

    async def twice(self, item: str) -> list[str]:
        """Random numbers, times and concurrent steps, as workflow code has them."""
        both = await asyncio.gather(prices(item), prices(item + item))
        self.state.items.append(f"{perdure.uuid4()} {perdure.now().isoformat()} {both}")
        await asyncio.sleep(0.002)
        return self.state.items

    def touch(self) -> str:
        """A plain function, which is a call all the same."""
        self.state.total += 1
        return f"{self.key} touched"

    async def break_state(self) -> None:
        self.state.items.append(object())  # type: ignore[arg-type]

    async def answer_nonsense(self) -> int:
        self.state.total = 99
        return object()  # type: ignore[return-value]

    async def gives_up(self) -> str:
        """What it gave up waiting for ends later, amid another call or none."""
        try:
            async with asyncio.timeout(0.15):
                await asyncio.gather(lingers(60), prices("quick"), asyncio.sleep(60))
        except TimeoutError:
            return "gave up"
        return "never"

    async def parent(self) -> str:
        return await lingers(0.01)

    async def patches(self) -> bool:
        return perdure.patched("change")

    async def leaves_a_task(self) -> None:
        asyncio.create_task(prices("forgotten"))
        await asyncio.sleep(0)

    @perdure.read
    def items(self) -> list[str]:
        return self.state.items

    @perdure.read
    def total(self) -> int:
        self.state.total += 1000  # lost
        return self.state.total - 1000

    @perdure.read
    async def acts(self) -> int:
        return 1


@perdure.entity(name="counts")
class Counts:
    state: dict[str, int]

    async def count(self, name: str, by: int = 1) -> int:
        self.state[name] = self.state.get(name, 0) + by
        return self.state[name]

    @perdure.read
    def of(self, name: str) -> int:
        return self.state.get(name, 0)


@workflow
async def shops(user: str) -> list[int | str]:
    """Calls an entity from workflow code, more than once and beside each other."""
    cart = perdure.entity(Cart, user)
    totals: list[int | str] = [await cart.add("apple"), await cart.add("fig")]
    try:
        await cart.refuse("snake")
    except OutOfStock as error:
        totals.append(f"no {error}")
    counts = perdure.entity(Counts, "all")
    totals += await asyncio.gather(counts.count("a"), counts.count("b", by=5))
    totals.append(await perdure.entity(Cart, user).total())
    return totals
