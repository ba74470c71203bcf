"""Absurd at work, on PostgreSQL.

Its workers look for tasks every `poll_interval` seconds, and its clients for results ever more seldom; here both look
every few milliseconds. Tasks are executed by sync workers in threads, each with a connection of its own: one async
worker has a single connection for all its tasks. A task's events are named by number, since the first event of a name
stands for ever.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from absurd_sdk import Absurd, TaskContext

from benchmarks.engines.measuring import (
    Figures,
    Sizes,
    die,
    growth,
    main,
    rate,
    resident_bytes,
    spread,
    stopwatch,
)

POLL = 0.002
WORKERS = 6  # more were slower on two cores, and fewer

stamps: list[float] = []
holding = False
ended = threading.Semaphore(0)

Parameters = dict[str, Any]


def count(parameters: Parameters, context: TaskContext) -> int:
    number = 0
    for _ in range(parameters["steps"]):
        number = context.step("increment", lambda number=number: number + 1)  # type: ignore[misc]
        if parameters.get("stamp"):
            stamps.append(time.perf_counter())
    if parameters.get("hold"):
        context.step("hold", _hold)
        ended.release()
    return number


class Left(BaseException):
    """The worker is gone, in the middle of a step."""


def _hold() -> None:
    """Goes on only in the second process."""
    if holding:
        raise Left


def produce(parameters: Parameters, context: TaskContext) -> None:
    for _ in range(parameters["steps"]):
        context.step("produce", lambda: "x" * parameters["size"])


def answer(parameters: Parameters, context: TaskContext) -> None:
    for number in range(-10, parameters["messages"]):
        found = context.await_event(f"ask {number}")
        context.emit_event(f"answer {number}", found)


def ask(parameters: Parameters, context: TaskContext) -> None:
    """The other side: clients can't wait for events, tasks can."""
    for number in range(-10, parameters["messages"]):
        context.emit_event(f"ask {number}", number)
        context.await_event(f"answer {number}")
        stamps.append(time.perf_counter())  # again whenever the task is driven from its beginning


def sleep_until(parameters: Parameters, context: TaskContext) -> None:
    context.sleep_until("sleep", parameters["due"])
    stamps.append(time.time() - parameters["due"])


TASKS = [count, produce, answer, ask, sleep_until]


def client(url: str) -> Absurd:
    found = Absurd(url, queue_name="bench")
    for task in TASKS:
        found.register_task(task.__name__, default_max_attempts=1000)(task)
    return found


@contextmanager
def workers(url: str, number: int = WORKERS, claim: int = 120) -> Iterator[Absurd]:
    """So many workers, and a client that isn't one."""
    mine = client(url)
    if "bench" not in mine.list_queues():
        mine.create_queue()
    theirs = [client(url) for _ in range(number)]
    for one in theirs:
        arguments = {"poll_interval": POLL, "claim_timeout": claim}
        threading.Thread(target=one.start_worker, kwargs=arguments, daemon=True).start()
    yield mine
    for one in theirs:
        one.stop_worker()
    time.sleep(0.1)


def start(mine: Absurd, task: Callable[..., Any], **parameters: Any) -> str:
    return mine.spawn(task.__name__, parameters)["task_id"]


def result(mine: Absurd, id: str) -> Any:
    """Wait for a task; `await_task_result` looks less and less often, so this looks itself."""
    while True:
        found = mine.fetch_task_result(id)
        if found is not None and found.state in ("completed", "failed", "cancelled"):
            assert found.state == "completed", found
            return found.result
        time.sleep(POLL)


def sequential(url: str, sizes: Sizes) -> Figures:
    with workers(url, 1) as mine:
        result(mine, start(mine, count, steps=20))
        with stopwatch() as seconds:
            assert result(mine, start(mine, count, steps=sizes["steps"])) == sizes["steps"]
    return rate(sizes["steps"], seconds())


def many(url: str, sizes: Sizes) -> Figures:
    runs, steps = sizes["runs"], sizes["steps"]
    with workers(url) as mine:
        result(mine, start(mine, count, steps=20))
        with stopwatch() as seconds:
            tasks = [start(mine, count, steps=steps) for _ in range(runs)]
            for task in tasks:
                assert result(mine, task) == steps
    return rate(runs * steps, seconds())


def latency(url: str, sizes: Sizes) -> Figures:
    found = []
    with workers(url, 1) as mine:
        for number in range(-10, sizes["times"]):
            began = time.perf_counter()
            result(mine, start(mine, count, steps=1))
            if number >= 0:
                found.append(time.perf_counter() - began)
    return spread(found)


def message(url: str, sizes: Sizes) -> Figures:
    """Two tasks talk; the mean is told as the median, since a task that wakes begins anew and stamps twice."""
    times = sizes["times"]
    with workers(url, 2) as mine:
        start(mine, answer, messages=times)
        with stopwatch() as seconds:
            result(mine, start(mine, ask, messages=times))
    return {"p50_ms": seconds() / (times + 10) * 1e3}


def timers(url: str, sizes: Sizes) -> Figures:
    number = sizes["timers"]
    with workers(url) as mine:
        begin = time.time() + sizes["lead"]
        for n in range(number):
            start(mine, sleep_until, due=begin + n / number)
        _wait_for_sleepers(mine, number)
        assert time.time() < begin - 0.5, "they weren't asleep in time"
        while len(stamps) < number:
            time.sleep(0.05)
    return spread(stamps)


def recovery(url: str, sizes: Sizes) -> Figures:
    return _go_on(url, 1)


def recovery_before(url: str, sizes: Sizes) -> Figures:
    return _interrupt(url, 1, sizes["steps"])


def restart(url: str, sizes: Sizes) -> Figures:
    return _go_on(url, sizes["runs"])


def restart_before(url: str, sizes: Sizes) -> Figures:
    return _interrupt(url, sizes["runs"], sizes["steps"])


def _go_on(url: str, runs: int) -> Figures:
    """The claims of the worker that is gone have run out, so that waiting for that doesn't count."""
    with client(url)._conn as connection:
        connection.execute("UPDATE absurd.r_bench SET claim_expires_at = now() - interval '1 second'")
    with stopwatch() as seconds, workers(url):
        for _ in range(runs):
            ended.acquire()
        took = seconds()
    return {"seconds": took}


def _interrupt(url: str, runs: int, steps: int) -> Figures:
    """Have runs driven until each is in the step after its last recorded one, and leave them claimed."""
    global holding
    holding = True
    with workers(url, 0) as mine:
        for _ in range(runs):
            start(mine, count, steps=steps, hold=True)
        for _ in range(runs):
            (task,) = mine.claim_tasks(claim_timeout=3600)
            with contextlib.suppress(Left):
                mine._execute_task(task, 3600)
    return {}


def sleepers(url: str, sizes: Sizes) -> Figures:
    before = resident_bytes()
    with stopwatch() as seconds, workers(url, 1):
        while not stamps:
            time.sleep(0.001)
        took = seconds()
        time.sleep(1.0)
        memory = resident_bytes()
    return {"first_wake_ms": took * 1e3, "rss_mb": memory / 1e6, "rss_grown_mb": (memory - before) / 1e6}


def sleepers_before(url: str, sizes: Sizes) -> Figures:
    """Have them all sleep, the one that will be overdue last, and die."""
    tomorrow = time.time() + 86_400
    with workers(url) as mine:
        for _ in range(sizes["runs"]):
            start(mine, sleep_until, due=tomorrow)
        _wait_for_sleepers(mine, sizes["runs"])
        start(mine, sleep_until, due=time.time() + 2)
        _wait_for_sleepers(mine, sizes["runs"] + 1)
    time.sleep(1.5)
    assert not stamps
    die()


def _wait_for_sleepers(mine: Absurd, number: int) -> None:
    query = "SELECT count(*) FROM absurd.t_bench WHERE state = 'sleeping'"
    while mine._conn.execute(query).fetchone() != (number,):
        time.sleep(0.05)


def payloads(url: str, sizes: Sizes) -> Figures:
    with workers(url, 1) as mine:
        result(mine, start(mine, produce, steps=5, size=sizes["bytes"]))
        with stopwatch() as seconds:
            result(mine, start(mine, produce, steps=sizes["steps"], size=sizes["bytes"]))
    return rate(sizes["steps"], seconds())


def growing(url: str, sizes: Sizes) -> Figures:
    with workers(url, 1, claim=3600) as mine:
        result(mine, start(mine, count, steps=20))
        result(mine, start(mine, count, steps=sizes["steps"], stamp=True))
    return growth(stamps, (100, 1_000, 10_000, 100_000))


if __name__ == "__main__":
    main(
        sequential,
        many,
        latency,
        message,
        timers,
        recovery_before,
        recovery,
        restart_before,
        restart,
        sleepers_before,
        sleepers,
        payloads,
        growing,
    )
