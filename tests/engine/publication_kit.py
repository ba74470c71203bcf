"""What the tests of published events share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine_kit import Place, of_kind, until

import perdure
from perdure import Engine, events, workflow


@dataclass
class Order:
    id: str
    total: int = 0


@workflow(name="pub.waits")
async def waits(name: str, where: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
    return await perdure.event(name, where=where, timeout=timeout)


@workflow(name="pub.loops")
async def loops(name: str, count: int, where: dict[str, Any] | None = None) -> list[Any]:
    return [await perdure.event(name, where=where) for _ in range(count)]


async def listening(engine: Engine, id: str, count: int = 1) -> None:
    """A run is known to wait: so many of its waits have reached the store."""

    async def there() -> bool:
        return len(await of_kind(engine.get(id), events.PublicationAwaited)) >= count

    await until(there)


async def all_settled(engine: Engine) -> bool:
    return all([one.settled async for one in engine.publications()])


async def waiting_rows(place: Place) -> list[tuple[str, str, int]]:
    store = place.store()
    await store.open()
    try:
        return await store.publications.waiting()
    finally:
        await store.close()
