"""A corpus of workflow shapes: everything of plain asyncio that an agent's code is likely to do.

Each is a coroutine function without arguments; `SHAPES` holds them by name. They `see()` what they do, in the
order in which they do it. `CANCELLABLE` ones are also cancelled at every point in other tests.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import perdure
from helpers.simulation import Bang, Boom, child, do, other, see

Shape = Callable[[], Coroutine[Any, Any, Any]]
SHAPES: dict[str, Shape] = {}


def shape(function: Shape) -> Shape:
    SHAPES[function.__name__] = function
    return function


# -- one after the other -----------------------------------------------------------------------------


@shape
async def nothing() -> None:
    return None


@shape
async def sequence() -> list[str]:
    return [await do("a"), await do("b", 5.0), await other("c"), await do("a")]


@shape
async def fails_at_once() -> None:
    raise Boom("first line")


@shape
async def failing_step() -> str:
    try:
        await do("a", fails="Boom")
    except Boom as error:
        see("caught", str(error))
        see("failure", perdure.failure(error).step)  # type: ignore[union-attr]
    return await do("b")


@shape
async def failing_step_uncaught() -> None:
    try:
        await do("a", fails="Bang")
    finally:
        see(await do("cleaning"))


@shape
async def retried_step() -> str:
    return await do("a", tries=3) + await do("b", 4.0, tries=2)


@shape
async def keyed_steps() -> list[str]:
    return await asyncio.gather(
        do.with_options(key="x")("a", 2.0),
        do.with_options(key="y")("b", 1.0),
        do.with_options(key="z")("c", 3.0),
    )


@shape
async def loop_with_condition() -> int:
    rounds = 0
    while await do(f"look {rounds}") != "look 3":
        rounds += 1
        await asyncio.sleep(10 * rounds)
    return rounds


# -- gather ------------------------------------------------------------------------------------------


@shape
async def gather_steps() -> list[str]:
    return await asyncio.gather(do("a", 3.0), do("b", 1.0), do("c", 2.0))


@shape
async def gather_native_coroutines() -> list[str]:
    async def branch(name: str, takes: float) -> str:
        first = await do(name + "1", takes)
        see(first)
        await asyncio.sleep(takes)
        return first + await do(name + "2", takes)

    return await asyncio.gather(branch("a", 3), branch("b", 1), branch("c", 2))


@shape
async def gather_exceptions_returned() -> list[str]:
    found = await asyncio.gather(
        do("a", fails="Boom"), do("b", 2.0), do("c", fails="Bang"), return_exceptions=True
    )
    return [str(item) for item in found]


@shape
async def gather_first_error_others_go_on() -> str:
    async def later() -> None:
        see(await do("later", 5.0))

    try:
        await asyncio.gather(do("a", 1.0, fails="Boom"), later())
    except Boom:
        see("gather failed")
    await asyncio.sleep(20)
    return "the other one went on"


@shape
async def gather_nested_and_empty() -> list[Any]:
    inner = asyncio.gather(do("a"), asyncio.sleep(3, "slept"))
    return [await asyncio.gather(inner, do("b")), await asyncio.gather()]


@shape
async def gather_cancelled_by_timeout() -> str:
    async def stubborn() -> None:
        try:
            await do("long", 100.0)
        finally:
            see(await do("stubborn cleans", 2.0))

    try:
        async with asyncio.timeout(5):
            await asyncio.gather(stubborn(), do("longer", 200.0), stubborn())
    except TimeoutError:
        see("timed out")
    return await do("after")


# -- task groups -------------------------------------------------------------------------------------


@shape
async def group() -> list[str]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(do(name, takes)) for name, takes in (("a", 3.0), ("b", 1.0), ("c", 2.0))]
    return [task.result() for task in made]


@shape
async def group_with_error() -> str:
    async def patient(name: str) -> None:
        try:
            await do(name, 50.0)
        except asyncio.CancelledError:
            see(name, "cancelled")
            await do(name + " says goodbye")
            raise

    try:
        async with asyncio.TaskGroup() as tasks:
            for name in "abcdefgh":
                tasks.create_task(patient(name))
            tasks.create_task(do("x", 2.0, fails="Boom"))
    except* Boom as group:
        see([str(error) for error in group.exceptions])
    return await do("after")


@shape
async def group_with_two_errors() -> list[str]:
    caught = []
    try:
        async with asyncio.TaskGroup() as tasks:

            async def fails_late() -> None:
                try:
                    await asyncio.sleep(100)
                finally:
                    raise Bang("late")

            tasks.create_task(fails_late())
            tasks.create_task(do("x", 2.0, fails="Boom"))
    except* Boom as group:
        caught += [str(error) for error in group.exceptions]
    except* Bang as group:
        caught += [str(error) for error in group.exceptions]
    return caught


@shape
async def group_error_uncaught() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(do("x", 2.0, fails="Boom"))
        tasks.create_task(asyncio.sleep(50))


@shape
async def groups_nested() -> list[str]:
    out: list[str] = []

    async def inner(name: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(do(f"{name}{number}", 3.0 - number)).add_done_callback(
                    lambda task: out.append(task.result())
                )

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inner("a"))
        tasks.create_task(inner("b"))
    return out


@shape
async def group_body_raises() -> str:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(do("a", 30.0))
            await do("b")
            raise Boom("body")
    except* Boom:
        see("boom")
    return await do("c")


# -- wait, as_completed ------------------------------------------------------------------------------


async def _waits(how: str) -> list[list[str]]:
    tasks = [asyncio.create_task(do(name, takes)) for name, takes in (("a", 3.0), ("b", 1.0), ("c", 2.0))]
    tasks.append(asyncio.create_task(do("d", 1.5, fails="Boom")))
    rounds = []
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=how)
        rounds.append([str(task.exception() or task.result()) for task in done])
        see(rounds[-1], len(pending))
        if len(rounds) > 10:
            break
    return rounds


@shape
async def wait_first_completed() -> Any:
    return await _waits(asyncio.FIRST_COMPLETED)


@shape
async def wait_first_exception() -> Any:
    return await _waits(asyncio.FIRST_EXCEPTION)


@shape
async def wait_all_completed() -> Any:
    return await _waits(asyncio.ALL_COMPLETED)


@shape
async def wait_with_timeout() -> list[str]:
    tasks = {asyncio.create_task(do(str(number), float(number))) for number in range(1, 30)}
    done, pending = await asyncio.wait(tasks, timeout=10.5)
    for task in pending:
        task.cancel()
    see([task.result() for task in done])
    await asyncio.gather(*pending, return_exceptions=True)
    return [task.result() for task in done]


@shape
async def as_completed_calls() -> list[str]:
    return [
        await next_done
        for next_done in asyncio.as_completed([do("a", 3.0), do("b", 1.0), other("c", 2.0), do("d", 1.0)])
    ]


@shape
async def as_completed_native_coroutines() -> list[str]:
    async def branch(name: str, takes: float) -> str:
        return await do(name, takes) + await do(name + "'", 1.0)

    return [
        await one for one in asyncio.as_completed([branch(name, 5.0 - i) for i, name in enumerate("abcd")])
    ]


@shape
async def as_completed_tasks_with_timeout() -> list[str]:
    out = []
    tasks = [asyncio.create_task(do(str(number), float(number))) for number in range(1, 9)]
    try:
        for one in asyncio.as_completed(tasks, timeout=5.5):
            out.append(await one)
            see(out[-1])
    except TimeoutError:
        see("timeout")
    return out


@shape
async def as_completed_same_moment() -> list[str]:
    async def at_once(name: str) -> str:
        return name

    return [await one for one in asyncio.as_completed([at_once(name) for name in "abcdefghijklmnop"])]


# -- time --------------------------------------------------------------------------------------------


@shape
async def sleeps() -> list[float]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.sleep(10)
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    await asyncio.sleep(-1)
    await perdure.sleep(86_400 * 365)
    return [loop.time() - start, (perdure.now().timestamp() - start)]


@shape
async def wait_for_in_time() -> str:
    return await asyncio.wait_for(do("a", 1.0), 5) + await asyncio.wait_for(do("b"), None)


@shape
async def wait_for_too_late() -> str:
    for _ in range(2):
        try:
            await asyncio.wait_for(do("a", 10.0), 5)
        except TimeoutError:
            see("late")
    return await do("b")


@shape
async def wait_for_native_coroutine() -> list[str]:
    async def two() -> str:
        return await do("a") + await do("b")

    async def sleepy() -> str:
        await asyncio.sleep(100)
        return await do("never")

    first = await asyncio.wait_for(two(), 5)
    try:
        await asyncio.wait_for(sleepy(), 5)
    except TimeoutError:
        see("late")
    task = asyncio.create_task(two())
    return [first, await asyncio.wait_for(task, 50), await do("c")]


@shape
async def wait_for_zero() -> str:
    for awaitable in (do("a"), asyncio.sleep(5)):
        try:
            await asyncio.wait_for(awaitable, 0)
        except TimeoutError:
            see("no time")
    return await do("b")


@shape
async def timeout_in_time() -> str:
    async with asyncio.timeout(5) as limit:
        found = await do("a")
    return f"{found} {limit.expired()} " + await do("b")


@shape
async def timeout_expires() -> str:
    try:
        async with asyncio.timeout(5):
            await do("a", 50.0)
    except TimeoutError:
        see("timeout")
    try:
        async with asyncio.timeout(0):
            await do("b")
    except TimeoutError:
        see("timeout 0")
    return await do("c")


@shape
async def timeout_at_moment() -> str:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(loop.time() + 7):
            await do("a", 3.0)
            await do("b", 10.0)
    except TimeoutError:
        return "late"
    return "in time"


@shape
async def timeouts_nested() -> list[str]:
    out = []
    try:
        async with asyncio.timeout(10):
            try:
                async with asyncio.timeout(3):
                    await do("a", 50.0)
            except TimeoutError:
                out.append("inner")
            try:
                async with asyncio.timeout(100):
                    await do("b", 50.0)
            except TimeoutError:
                out.append("never")
    except TimeoutError:
        out.append("outer")
    return out


@shape
async def timeout_rescheduled() -> list[Any]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(2) as limit:
        await do("a", 1.0)
        limit.reschedule(loop.time() + 30)
        await do("b", 10.0)
        limit.reschedule(None)
        await do("c", 100.0)
    try:
        async with asyncio.timeout(None) as limit:
            limit.reschedule(loop.time() + 1)
            await do("d", 5.0)
    except TimeoutError:
        return ["late", limit.expired()]
    return []


@shape
async def call_later_and_at_and_soon() -> list[str]:
    out: list[str] = []
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(5, out.append, "later 5")
    loop.call_at(loop.time() + 2, out.append, "at 2")
    loop.call_soon(out.append, "soon")
    dropped = loop.call_later(3, out.append, "cancelled")
    loop.call_later(9, done.set_result, None)
    loop.call_later(0, out.append, "at once")
    never = loop.call_later(0, out.append, "cancelled before its turn")
    never.cancel()
    await asyncio.sleep(1)
    dropped.cancel()
    see(dropped.cancelled(), never.cancelled())
    await done
    return out


@shape
async def timer_callback_starts_tasks() -> list[str]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def branch(name: str) -> None:
        await queue.put(await do(name))

    tasks: list[Any] = []
    loop.call_later(5, lambda: tasks.append(loop.create_task(branch("a"))))
    loop.call_later(5, lambda: tasks.append(asyncio.ensure_future(do("b"))))
    loop.call_soon(lambda: tasks.append(loop.create_task(branch("c"))))
    return [await queue.get(), await queue.get(), await tasks[-1]]


@shape
async def many_timers_of_one_moment() -> list[int]:
    out: list[int] = []

    async def branch(number: int) -> None:
        await asyncio.sleep(7)
        out.append(number)

    await asyncio.gather(*(branch(number) for number in range(25)))
    return sorted(out)


# -- shield and cancellation -------------------------------------------------------------------------


@shape
async def shield_survives() -> str:
    inner = asyncio.create_task(do("a", 10.0))
    try:
        async with asyncio.timeout(3):
            await asyncio.shield(inner)
    except TimeoutError:
        see("stopped waiting")
    return await inner


@shape
async def shield_of_native_coroutine() -> str:
    async def work() -> None:
        await do("a", 5.0)
        see("done all the same")

    try:
        await asyncio.wait_for(asyncio.shield(work()), 1)
    except TimeoutError:
        see("late")
    await asyncio.sleep(10)
    return await do("b")


@shape
async def child_tasks_cancelled() -> str:
    async def patient(name: str) -> str:
        try:
            await do(name, 100.0)
        except asyncio.CancelledError as error:
            see(name, error.args)
            await asyncio.sleep(2)
            return "swallowed"
        return "never"

    first = asyncio.create_task(patient("a"), name="first")
    second = asyncio.create_task(do("b", 100.0), name="second")
    unstarted = asyncio.create_task(do("c"))
    unstarted.cancel()
    await asyncio.sleep(5)
    first.cancel("enough")
    second.cancel()
    see(await asyncio.gather(first, unstarted, return_exceptions=True) == ["swallowed", None])
    see(first.get_name(), second.get_name(), second.cancelled(), unstarted.cancelled())
    return await do("d")


@shape
async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await do("a")
    except asyncio.CancelledError:
        see("cancelled", task.uncancel())
    return await do("b")


@shape
async def leftover_tasks_are_cancelled() -> str:
    async def background(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(10)
                see(name, "ticks")
        finally:
            see(name, "stops")
            await do(name + " cleans")
            see(name, "cleaned")

    tasks = [asyncio.create_task(background(name)) for name in "ab"]
    unstarted = asyncio.create_task(do("unstarted", 1000.0))
    await asyncio.sleep(25)
    see(len(tasks), unstarted.done())
    return await do("result")


@shape
async def leftover_tasks_of_leftover_tasks() -> str:
    async def heartbeat() -> None:
        while True:
            await asyncio.sleep(1)

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            see("one more")
            asyncio.create_task(heartbeat())

    task = asyncio.create_task(background())
    await do("a")
    see(task.done())
    return "result"


@shape
async def leftover_timer() -> str:
    asyncio.get_running_loop().call_later(1000, see, "never")
    await do("a")
    asyncio.get_running_loop().call_later(1000, see, "never")
    return "result"


@shape
async def leftover_task_fails() -> str:
    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise Bang("nobody hears me")

    task = asyncio.create_task(background())
    await do("a")
    see(task.done())
    return "result"


# -- synchronisation ---------------------------------------------------------------------------------


async def _pipeline(queue: asyncio.Queue[Any]) -> list[Any]:
    out: list[Any] = []

    async def produce(name: str) -> None:
        for number in range(4):
            await do(f"{name}{number}", 1.0 + number)
            await queue.put((-number, name))

    async def consume() -> None:
        while True:
            item = await queue.get()
            out.append(item)
            await do(f"used {item}", 2.0)
            queue.task_done()

    async with asyncio.TaskGroup() as tasks:
        consumers = [tasks.create_task(consume()) for _ in range(2)]
        producers = [tasks.create_task(produce(name)) for name in "ab"]
        await asyncio.wait(producers)
        await queue.join()
        for consumer in consumers:
            consumer.cancel()
    return out


@shape
async def queue_fifo() -> list[Any]:
    return await _pipeline(asyncio.Queue(maxsize=2))


@shape
async def queue_priority() -> list[Any]:
    return await _pipeline(asyncio.PriorityQueue())


@shape
async def queue_lifo() -> list[Any]:
    return await _pipeline(asyncio.LifoQueue())


@shape
async def locks() -> list[str]:
    lock = asyncio.Lock()
    out: list[str] = []

    async def branch(name: str) -> None:
        async with lock:
            out.append(await do(name))

    await asyncio.gather(*(branch(name) for name in "abcd"))
    return out


@shape
async def events() -> list[str]:
    event = asyncio.Event()
    out: list[str] = []

    async def branch(name: str) -> None:
        await event.wait()
        out.append(name)
        out.append(await do(name))

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(branch(name))
        await asyncio.sleep(5)
        event.set()
    return out


@shape
async def conditions() -> list[str]:
    condition = asyncio.Condition()
    ready: list[str] = []
    out: list[str] = []

    async def consumer(name: str) -> None:
        async with condition:
            await condition.wait_for(lambda: bool(ready))
            out.append(name + ready.pop())

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(consumer(name))
        for number in range(3):
            got = await do(str(number))
            async with condition:
                ready.append(got)
                condition.notify()
    return out


@shape
async def semaphores() -> list[str]:
    out: list[str] = []
    semaphore, bounded = asyncio.Semaphore(2), asyncio.BoundedSemaphore(3)

    async def branch(number: int) -> None:
        async with semaphore, bounded:
            out.append(await do(str(number), 1.0 + number % 3))

    await asyncio.gather(*(branch(number) for number in range(8)))
    return out


@shape
async def semaphore_with_timeouts() -> list[str]:
    semaphore = asyncio.Semaphore(1)
    out: list[str] = []

    async def branch(name: str) -> None:
        try:
            async with asyncio.timeout(3), semaphore:
                out.append(await do(name, 2.0))
        except TimeoutError:
            out.append(name + " gave up")

    await asyncio.gather(*(branch(name) for name in "abcd"))
    return out


@shape
async def barriers() -> list[int]:
    barrier = asyncio.Barrier(3)
    out: list[int] = []

    async def branch(number: int) -> None:
        await do(str(number), float(number))
        out.append(await barrier.wait())
        await do(f"{number} after")

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(branch(number))
    return out


# -- async generators --------------------------------------------------------------------------------


async def _pages(name: str, count: int = 3) -> AsyncIterator[str]:
    try:
        for number in range(count):
            yield await do(f"{name} page {number}")
    finally:
        see(name, "closing")
        await do(f"{name} closed")
        see(name, "closed")


@shape
async def generator_exhausted() -> list[str]:
    return [page async for page in _pages("a")] + [await do("b")]


@shape
async def generator_broken_out_of() -> str:
    async for page in _pages("a"):
        see(page)
        break
    return await do("b", 5.0)


@shape
async def generator_dropped_by_refcount() -> str:
    pages = _pages("a")
    see(await anext(pages))
    del pages
    return await do("b", 5.0)


@shape
async def generator_closed_by_hand() -> str:
    pages = _pages("a")
    see(await anext(pages))
    await pages.aclose()  # type: ignore[attr-defined]
    return await do("b")


@shape
async def generator_never_started() -> str:
    pages = _pages("a")
    see(pages is not None)
    return await do("b")


@shape
async def generators_open_at_the_end() -> str:
    pages = [_pages("a"), _pages("b")]
    for one in pages:
        see(await anext(one))
    return await do("c")


@shape
async def generator_open_in_a_leftover_task() -> str:
    async def reader() -> None:
        async for page in _pages("a", 100):
            see(page)

    task = asyncio.create_task(reader())
    await do("b", 2.5)
    see(task.done())
    return "result"


@shape
async def generator_raises_into_loop() -> str:
    async def failing() -> AsyncIterator[int]:
        yield 1
        await do("x", fails="Boom")
        yield 2

    try:
        async for number in failing():
            see(number)
    except Boom:
        see("boom")
    return await do("b")


@shape
async def generator_in_a_cycle() -> str:
    async def reads() -> None:
        pages = _pages("a")
        see(await anext(pages))
        try:
            raise Boom("x")
        except Boom as error:
            kept = error  # this frame, its exception and the generator hold each other
        see(kept is not None)

    await reads()
    await do("b")
    return await do("c")


# -- context variables, names ------------------------------------------------------------------------

_colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@shape
async def context_variables() -> list[str]:
    out: list[str] = []

    async def branch(name: str) -> None:
        _colour.set(name)
        await do(name, 2.0)
        out.append(_colour.get())

    out.append(_colour.get())
    _colour.set("root")
    await asyncio.gather(branch("red"), branch("blue"))
    out.append(_colour.get())
    given = contextvars.Context()
    given.run(_colour.set, "given")

    async def reads() -> str:
        await asyncio.sleep(1)
        return _colour.get()

    out.append(await asyncio.create_task(reads(), context=given))
    await asyncio.sleep(5)
    out.append(_colour.get())
    return out


@shape
async def task_names() -> list[str]:
    async def branch() -> str:
        await do("x")
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    tasks = [
        asyncio.create_task(branch()),
        asyncio.create_task(branch(), name="mine"),
        asyncio.create_task(do("a")),
    ]
    return [*(await asyncio.gather(*tasks)), tasks[2].get_name(), asyncio.current_task().get_name()]  # type: ignore[union-attr]


@shape
async def all_tasks_in_order() -> list[str]:
    for name in "abcdefghijkl":
        asyncio.create_task(do(name, 3.0), name=name)
    await asyncio.sleep(0)
    return [task.get_name() for task in sorted(asyncio.all_tasks(), key=hash)]


# -- sets of tasks, chance ---------------------------------------------------------------------------


@shape
async def set_of_tasks() -> list[str]:
    tasks = {asyncio.create_task(do(str(number), 1.0 + number * 7 % 11)) for number in range(20)}
    order = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            order.append(task.result())
            await do(f"after {task.result()}")
    return order


@shape
async def chance() -> list[Any]:
    first = perdure.random()
    await do("a")
    return [first, str(perdure.uuid4()), perdure.random(), perdure.now().isoformat(), perdure.info().id]


# -- children ----------------------------------------------------------------------------------------


@shape
async def children() -> list[Any]:
    out: list[Any] = list(await asyncio.gather(child("a", 3.0), child("b", 1.0)))
    try:
        await child("c", fails="Boom")
    except perdure.RunFailed as error:
        out.append(type(error.__cause__).__name__)
    return out


@shape
async def child_given_up() -> str:
    try:
        async with asyncio.timeout(5):
            await child("a", 100.0)
    except TimeoutError:
        see("late")
    return await do("b", 5.0)


@shape
async def child_started_and_left() -> list[Any]:
    handle = await perdure.start(child("a", 10.0), on_parent_close="abandon")
    named = await perdure.start(child("b", 5.0), id="named")
    see(handle.id, named.id)
    first = await named.result()
    await handle.cancel()
    try:
        await handle.result()
    except perdure.RunCancelled:
        return [first, "cancelled"]
    return []


# -- exception groups --------------------------------------------------------------------------------


@shape
async def exception_groups() -> list[str]:
    out = []
    try:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(do("a", fails="Boom"))
        finally:
            out.append(await do("cleaning"))
    except* OSError:
        out.append("never")
    except* Boom as group:
        out.append(str(group.exceptions[0]))
        out.append(await do("inside the handler"))
    return out


@shape
async def runs_an_event_loop() -> str:
    async def inner() -> None: ...

    coroutine = inner()
    try:
        asyncio.run(coroutine)
    except RuntimeError as error:
        coroutine.close()
        return type(error).__name__
    return "ran"


@shape
async def future_by_hand() -> str:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    task = asyncio.create_task(do("a"))
    task.add_done_callback(lambda done: future.set_result(done.result()))
    return await future
