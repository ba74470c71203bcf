"""The corpus of shapes, continued: anyio on top of the workflow's event loop. Empty where anyio isn't installed."""

from __future__ import annotations

from typing import Any

from helpers.shapes import Shape
from helpers.simulation import Boom, do, see

ANYIO_SHAPES: dict[str, Shape] = {}

try:
    import anyio
except ImportError:
    pass


def shape(function: Shape) -> Shape:
    if "anyio" in globals():
        ANYIO_SHAPES[function.__name__] = function
    return function


@shape
async def anyio_group() -> list[str]:
    out: list[str] = []

    async def branch(name: str, takes: float) -> None:
        out.append(await do(name, takes))
        await anyio.sleep(takes)
        out.append(name + " slept")

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(branch, str(number), 4.0 - number)
    return out


@shape
async def anyio_start_soon_takes_steps() -> str:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(do, "a", 2.0)
        tasks.start_soon(do, "b", 1.0)
    return await do("c")


@shape
async def anyio_group_with_error() -> list[str]:
    async def patient(name: str) -> None:
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            see(name, "cancelled")
            with anyio.CancelScope(shield=True):
                await do(name + " cleans", 2.0)
            raise

    async def failing() -> None:
        await do("x", 2.0)
        raise Boom("x")

    out = []
    try:
        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(patient, name)
            tasks.start_soon(failing)
    except* Boom as group:
        out = [str(error) for error in group.exceptions]
    return [*out, await do("after")]


@shape
async def anyio_error_uncaught() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 100)
        await do("x", fails="Boom")


@shape
async def anyio_move_on_after() -> list[Any]:
    with anyio.move_on_after(5) as scope:
        await do("a", 50.0)
        see("never")
    with anyio.move_on_after(5) as other:
        await do("b", 1.0)
    return [scope.cancelled_caught, other.cancelled_caught, await do("c")]


@shape
async def anyio_fail_after() -> str:
    try:
        with anyio.fail_after(5):
            await do("a", 50.0)
    except TimeoutError:
        see("late")
    return await do("b")


@shape
async def anyio_scopes_nested() -> list[Any]:
    out: list[Any] = []
    with anyio.move_on_after(10) as outer:
        with anyio.move_on_after(3) as inner:
            await do("a", 50.0)
        out.append(inner.cancelled_caught)
        with anyio.move_on_after(100) as never:
            await do("b", 50.0)
        out.append("never")
    out += [outer.cancelled_caught, never.cancelled_caught]
    return [*out, await do("c")]


@shape
async def anyio_shielded_scope() -> list[Any]:
    with anyio.move_on_after(3) as outer:
        with anyio.CancelScope(shield=True):
            see(await do("a", 10.0))
        see("shield is over")
        await do("b", 10.0)
        see("never")
    return [outer.cancelled_caught, await do("c")]


@shape
async def anyio_scope_cancelled_from_inside() -> list[Any]:
    async with anyio.create_task_group() as tasks:

        async def waits(name: str) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                see(name, "stops")

        for name in "abc":
            tasks.start_soon(waits, name)
        await do("a")
        tasks.cancel_scope.cancel()
        try:
            await do("b", 100.0)
        finally:
            see("body stops")
    return [await do("c")]


@shape
async def anyio_cancelled_again_and_again() -> list[Any]:
    rounds = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        while rounds < 5:
            try:
                await do(f"round {rounds}", 10.0)
            except anyio.get_cancelled_exc_class():
                rounds += 1
        await anyio.sleep(1)
    return [rounds, scope.cancelled_caught, await do("after")]


@shape
async def anyio_streams() -> list[Any]:
    out: list[Any] = []
    send, receive = anyio.create_memory_object_stream[str](1)

    async def produce(name: str, stream: Any) -> None:
        async with stream:
            for number in range(3):
                await stream.send(await do(f"{name}{number}", 1.0 + number))

    async def consume() -> None:
        async with receive:
            async for item in receive:
                out.append(item)
                await do("used " + item, 2.0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        async with send:
            for name in "ab":
                tasks.start_soon(produce, name, send.clone())
    return out


@shape
async def anyio_events_and_limiters() -> list[str]:
    event, lock, limiter = anyio.Event(), anyio.Lock(), anyio.Semaphore(2)
    out: list[str] = []

    async def branch(name: str) -> None:
        await event.wait()
        async with limiter:
            await do(name + "1")
            async with lock:
                out.append(await do(name + "2"))

    async with anyio.create_task_group() as tasks:
        for name in "abcd":
            tasks.start_soon(branch, name)
        await anyio.sleep(3)
        event.set()
    return out


@shape
async def anyio_start_waits_for_started() -> list[str]:
    out: list[str] = []

    async def server(*, task_status: Any) -> None:
        out.append(await do("listening"))
        task_status.started("port 1")
        await do("serving", 20.0)

    async with anyio.create_task_group() as tasks:
        out.append(await tasks.start(server))
        out.append(await do("used"))
    return out


@shape
async def anyio_native_task_cancelled() -> str:
    import asyncio

    async def inner() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 1000)
            with anyio.move_on_after(500):
                await do("a", 1000.0)

    task = asyncio.create_task(inner())
    await asyncio.sleep(5)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        see("cancelled")
    return await do("b")
