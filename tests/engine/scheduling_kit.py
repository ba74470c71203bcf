"""What the tests of schedules share: a clock that moves when it is told to, workflows that end when told to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from engine_kit import Place, until

import perdure
from perdure import Engine, workflow

#: Where the clock stands at first: a whole hour.
START = 1_700_002_800.0

#: Runs that are going on until somebody lets them: by the workflow's argument.
GATES: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)  # whoever comes first makes one


class Clock:
    """Wall-clock time of a test's engines."""

    def __init__(self) -> None:
        self.now = START
        self.engines: list[Engine] = []

    def __call__(self) -> float:
        return self.now

    def moment(self, seconds: float = 0.0) -> datetime:
        return datetime.fromtimestamp(START + seconds, UTC)

    def engine(self, place: Place, wrap: Any = None, **options: Any) -> Engine:
        """An engine that believes this clock, and takes nobody for dead because of its leaps."""
        engine = place.engine(wrap, **{"lease": 1e10, **options})
        object.__setattr__(engine._settings, "clock", self)
        self.engines.append(engine)
        return engine

    def to(self, seconds: float) -> None:
        """Set the clock so many seconds after its start, and let all engines look."""
        self.now = START + seconds
        self.look()

    def look(self) -> None:
        for engine in self.engines:
            if engine._worker is not None and engine._connection is not None:
                engine._worker.scheduler.poke()

    async def until(self, condition: Any) -> None:
        """Wait for something to become true, while engines look again and again."""

        async def seen() -> Any:
            self.look()
            found = condition()
            return await found if asyncio.iscoroutine(found) else found

        await until(seen)


@workflow
async def notes(text: str) -> str:
    """Ends at once, with its slot."""
    context = perdure.info()
    return f"{text} {context.schedule} {'by hand' if context.slot is None else context.slot.isoformat()}"


@perdure.step
async def passes(gate: str) -> None:
    await GATES[gate].wait()


@workflow
async def lasts(gate: str) -> None:
    """Goes on until its gate is opened."""
    await passes(gate)


async def ids(engine: Engine, *statuses: str) -> list[str]:
    """The ids of all runs, in order."""
    return sorted([item.id async for item in engine.runs(limit=None, status=statuses or None)])


def slot_ids(name: str, *seconds: float) -> list[str]:
    return [f"{name}@{datetime.fromtimestamp(START + each, UTC):%Y-%m-%dT%H:%M:%S}Z" for each in seconds]
