"""What simulated runs can do beside the instructions of `torture.workshop`, and the workflows that events start.

Steps give their tags back first, as those of the workshop do, so that the observer knows them in histories.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

import perdure
from perdure import CallbackFailed, Event, Retry, step, workflow
from perdure.core.queues import QueueSettings
from perdure.runtime import definitions
from perdure.runtime import queues as defined_queues
from perdure.runtime.definitions import define_workflow
from perdure.runtime.queues import Queue
from perdure.testing.simulation.books import books
from perdure.testing.simulation.scenario import ELSEWHERE
from perdure.testing.torture import workshop
from perdure.testing.torture.programs import value_of

STREAM: Final = "out"
SAID, FOLLOWED, TOLD, BATCHED, DEBOUNCED = "said", "followed", "told", "told.batch", "told.debounce"
BATCH: Final = 3  #: payloads in a batch at most


# -- steps in a queue -----------------------------------------------------------------------------------


@step(name="perdure.simulation.elsewhere", queue=ELSEWHERE)
async def works_elsewhere(tag: str, milliseconds: int) -> tuple[str, int]:
    workshop.note("begin", tag)
    await asyncio.sleep(milliseconds / 1000)
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(
    name="perdure.simulation.third_elsewhere",
    queue=ELSEWHERE,
    retry=Retry(max_attempts=50, initial=0.01, jitter=False),
)
async def comes_third_elsewhere(tag: str) -> tuple[str, int]:
    workshop.note("begin", tag)
    await asyncio.sleep(0)
    if perdure.step_info().attempt < 3:
        raise ConnectionError("not yet")
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(name="perdure.simulation.fails_elsewhere", queue=ELSEWHERE)
async def fails_elsewhere(tag: str) -> None:
    workshop.note("begin", tag)
    await asyncio.sleep(0)
    raise ValueError(tag)


async def _elsewhere(tag: str, more: Any) -> int:
    return _seen(await works_elsewhere(tag, more))


async def _elsewhere_flaky(tag: str, more: Any) -> int:
    return _seen(await comes_third_elsewhere(tag))


async def _elsewhere_fails(tag: str, more: Any) -> int:
    try:
        await fails_elsewhere(tag)
    except ValueError as error:
        return _seen((str(error), value_of(str(error))))
    raise AssertionError("a step that fails has a result")


async def _elsewhere_given_up(tag: str, more: Any) -> int:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(more / 1000):
            await works_elsewhere(tag, 3_600_000)
    return value_of(tag)


def _seen(outcome: tuple[str, int]) -> int:
    workshop.books.sees(outcome[0])
    return outcome[1]


# -- child runs in queues with limits -------------------------------------------------------------------


async def _queued(tag: str, more: Any) -> int:
    queue, key, program = more
    child = await perdure.start(workshop.runs(program, 0), queue=queue, key=key)
    return await child.result()


# -- published events -----------------------------------------------------------------------------------


async def _hears(tag: str, since: float | None) -> int:
    said = await perdure.event(SAID, where={"tag": tag}, since=since)
    books().followed(tag, [said["number"]], 1)
    return value_of(tag)


async def _follows(tag: str, more: Any) -> int:
    count, how = more

    async def one() -> int:
        event = await perdure.event(FOLLOWED, where={"tag": tag}, since=3600)
        return int(event["number"])

    got: list[int] = []
    if how == "together":
        got = sorted(await asyncio.gather(*(one() for _ in range(count))))
    else:
        for number in range(count):
            if how == "impatient":
                task = asyncio.create_task(one())
                await workshop.works(f"{tag}/{number}", 5)
                if not task.done():
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    got.append(await task)
                    continue
            got.append(await one())
    books().followed(tag, got, count)
    return value_of(tag)


@step(name="perdure.simulation.tells", retry=Retry(max_attempts=50, initial=0.01, jitter=False))
async def tells(tag: str, kind: str) -> tuple[str, int]:
    """Publishes with its result, at its second attempt: what the first one publishes doesn't count."""
    workshop.note("begin", tag)
    perdure.publish(kind, {"tag": tag, "attempt": perdure.step_info().attempt})
    await asyncio.sleep(0)
    if perdure.step_info().attempt < 2:
        raise ConnectionError("not yet")
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _publishes(tag: str, how: str) -> int:
    kind = (TOLD, BATCHED, DEBOUNCED)[value_of(tag) % 3]
    if how == "step":
        return _seen(await tells(tag, kind))
    perdure.publish(kind, {"tag": tag, "attempt": 2})
    return value_of(tag)


async def hears_told(told: dict[str, Any]) -> int:
    """Is started by each event."""
    return _seen(await workshop.works(f"{told['tag']}/heard", 1))


async def hears_batch(told: list[dict[str, Any]]) -> int:
    """Is started by some events."""
    return sum([_seen(await workshop.works(f"{one['tag']}/heard", 1)) for one in told])


async def hears_last(told: dict[str, Any]) -> int:
    """Is started by the last of some events."""
    return _seen(await workshop.works(f"{told['tag']}/heard", 1))


SUBSCRIBERS: Final[dict[str, tuple[Callable[..., Any], Event]]] = {
    "perdure.simulation.told": (hears_told, Event(TOLD)),
    "perdure.simulation.batch": (hears_batch, Event(BATCHED, batch=BATCH, within=0.5)),
    "perdure.simulation.debounce": (hears_last, Event(DEBOUNCED, debounce=0.2)),
}


# -- schedules ------------------------------------------------------------------------------------------


@workflow(name="perdure.simulation.scheduled")
async def scheduled(milliseconds: int) -> int:
    """What schedules start."""
    return _seen(await workshop.works(perdure.info().id, milliseconds))


# -- callbacks ------------------------------------------------------------------------------------------


@step(name="perdure.simulation.hands_out")
async def hands_out(tag: str, token: str) -> tuple[str, int]:
    workshop.note("begin", tag)
    books().promised(tag, token)
    await asyncio.sleep(0)
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _promised(tag: str, more: Any) -> int:
    timeout, heartbeat = more
    callback = perdure.callback(str, timeout=timeout, heartbeat=heartbeat)
    impatient = asyncio.ensure_future(_outcome(callback))
    _seen(await hands_out(tag, callback.token))
    impatient.cancel()  # giving up a wait leaves the callback open
    with contextlib.suppress(asyncio.CancelledError):
        books().kept(tag, await impatient)
    for _ in range(2):
        books().kept(tag, await _outcome(callback))
    return value_of(tag)


async def _outcome(callback: perdure.Callback[str]) -> str:
    try:
        return f"completed {await callback}"
    except CallbackFailed as error:
        return f"failed {error}"
    except TimeoutError:
        return "expired"


# -- streams --------------------------------------------------------------------------------------------


@step(name="perdure.simulation.puts_out", retry=Retry(max_attempts=50, initial=0.01, jitter=False))
async def puts_out(tag: str, count: int) -> tuple[str, int]:
    """Puts items out; its first attempts fail midway."""
    workshop.note("begin", tag)
    books().emitting[tag] = count
    for number in range(count):
        perdure.emit(STREAM, [tag, number, count])
        await asyncio.sleep(value_of(f"{tag}/{number}") % 20 / 1000)
        if perdure.step_info().attempt < 3 and number == count // 2:
            raise ConnectionError("not yet")
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _emits(tag: str, count: int) -> int:
    return _seen(await puts_out(tag, count))


async def _puts_out(tag: str, count: int) -> int:
    for number in range(count):
        perdure.emit(STREAM, [tag, number, count])
        if number % 3 == 2:
            await asyncio.sleep(0.001)
    books().emitting[tag] = count
    return value_of(tag)


# -- together -------------------------------------------------------------------------------------------

workshop.others.update(
    {
        "elsewhere": _elsewhere,
        "elsewhere flaky": _elsewhere_flaky,
        "elsewhere fails": _elsewhere_fails,
        "elsewhere given up": _elsewhere_given_up,
        "queued": _queued,
        "hears": _hears,
        "follows": _follows,
        "publishes": _publishes,
        "promised": _promised,
        "emits": _emits,
        "puts out": _puts_out,
    }
)


@contextlib.contextmanager
def defined(queues: Mapping[str, QueueSettings], *, subscribers: bool) -> Generator[None, None, None]:
    """Define queues, and the workflows that events start, for a while: each engine that opens makes them known.

    Args:
        queues: their limits, by name.
    """
    tables: list[dict[str, Any]] = [definitions._workflows, defined_queues._queues]
    kept = [dict(table) for table in tables]
    try:
        for name, limits in queues.items():
            Queue(name, **{field: getattr(limits, field) for field in limits.__struct_fields__})
        if subscribers:
            for name, (function, on) in SUBSCRIBERS.items():
                define_workflow(function, name, guard=True, on=on)
        yield
    finally:
        for table, before in zip(tables, kept, strict=True):
            table.clear()
            table.update(before)
