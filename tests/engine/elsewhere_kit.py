"""What the tests of steps in other queues share: engines for each side, and steps that wait at gates."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine_kit import Place, of_kind, until

from perdure import Engine, Handle, Retry, events, step, workflow
from perdure.storage.protocol import Store

GATES: dict[str, asyncio.Event] = {}
BODIES: Counter[str] = Counter()
SEEN: list[Any] = []
RELEASED = threading.Event()
QUICK = Retry(max_attempts=3, initial=0.001)


def fresh() -> None:
    GATES.clear()
    BODIES.clear()
    SEEN.clear()
    RELEASED.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


@step(queue="gpu")
async def gated(label: str) -> str:
    """Goes on when its gate opens."""
    BODIES[label] += 1
    try:
        await gate(label).wait()
    except asyncio.CancelledError:
        SEEN.append(f"{label} interrupted")
        raise
    SEEN.append(f"{label} ended")
    return label


@workflow
async def waits(label: str) -> str:
    return await gated(label)


def here(place: Place, wrap: Callable[[Store], Any] | None = None, **options: Any) -> Engine:
    """An engine that drives the runs and carries out no errand."""
    return place.engine(wrap, **{"queues": ("default",), "name": "here", **options})


def there(place: Place, wrap: Callable[[Store], Any] | None = None, **options: Any) -> Engine:
    """An engine that does nothing but errands."""
    return place.engine(wrap, **{"queues": ("gpu",), "name": "there", "grace": 0.0, **options})


def both(place: Place, **options: Any) -> Engine:
    """One that does both."""
    return place.engine(**{"queues": ("default", "gpu"), **options})


async def begun(label: str, times: int = 1) -> None:
    """Wait until bodies with this label have begun."""
    await until(lambda: BODIES[label] >= times)


async def sent(handle: Handle[Any]) -> list[events.StepSent]:
    return await of_kind(handle, events.StepSent)


async def errand_of(engine: Engine, handle: Handle[Any]) -> Handle[Any]:
    """The run that carries out the newest step sent by this one."""

    async def is_sent() -> bool:
        return bool(await sent(handle))

    await until(is_sent)
    return engine.get((await sent(handle))[-1].run)


async def bury_all_but(engine: Engine, *, max_recoveries: int = 10) -> None:
    """Declare the other workers dead, as this one does when their leases have run out."""
    assert engine._worker is not None
    for worker in await engine._store.workers():
        if worker.id != engine._worker.id:
            await engine._store.bury(
                worker.id, worker.lease_until, now=engine._settings.clock(), max_recoveries=max_recoveries
            )
    engine._worker.poke()
