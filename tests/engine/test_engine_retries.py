"""Failing steps are tried again as their policy says: counted durably, waits kept over a restart."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from engine_kit import Place, bury, crash, of_kind, reaches, run, says, until, works

import perdure
from perdure import Permanent, Retry, Retryable, RunFailed, events, step, workflow

CALLS: Counter[str] = Counter()
CANCELLED: list[str] = []


class Response:
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers


class HTTPStatusError(Exception):
    """Shaped like those of HTTP clients."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        self.response = Response(status, {name.replace("_", "-"): value for name, value in headers.items()})


def error_of(how: str) -> Exception:
    made: dict[str, Exception] = {
        "os": OSError("gone"),
        "connection": ConnectionResetError("reset"),
        "timeout": TimeoutError("late"),
        "missing": FileNotFoundError("no file"),
        "denied": PermissionError("no"),
        "value": ValueError("bad"),
        "type": TypeError("wrong"),
        "retryable": Retryable("not ready", after=0.01),
        "permanent": Permanent("never"),
    }
    return made[how] if how in made else HTTPStatusError(int(how))


@step
async def by_default(how: str) -> str:
    """The default policy's first wait is 0.5 to 1 s, so tests look at what is recorded, not at the end."""
    CALLS[how] += 1
    raise error_of(how)


@workflow
async def fails_by_default(how: str) -> str:
    return await by_default(how)


@pytest.mark.parametrize(
    "how", ["os", "connection", "timeout", "408", "425", "429", "500", "503", "retryable"]
)
def test_by_default_transient_errors_are_tried_again(memory: Place, how: str) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(fails_by_default(how))

            async def recorded_attempt() -> bool:
                return bool(await of_kind(handle, events.StepAttemptFailed))

            await until(recorded_attempt)
            (first, *_) = await of_kind(handle, events.StepAttemptFailed)
            assert first.attempt == 1
            assert first.retry_at - first.at >= (0.01 if how == "retryable" else 0.5)
            (wait, *_) = (await handle.info()).waiting_for
            assert wait.kind == "retry"
            assert wait.until == first.retry_at
            assert "attempt 1 failed" in wait.detail
            await handle.terminate()

    run(main)


@pytest.mark.parametrize("how", ["missing", "denied", "value", "type", "400", "404", "permanent"])
def test_by_default_mistakes_fail_at_once(memory: Place, how: str) -> None:
    async def main() -> None:
        CALLS.clear()
        async with memory.engine() as engine:
            with pytest.raises(RunFailed):
                await engine.run(fails_by_default(how))
        assert CALLS[how] == 1

    run(main)


@step(retry=Retry(max_attempts=4, initial=0.01, jitter=False))
async def explicit(how: str, good_at: int) -> int:
    CALLS[how] += 1
    if CALLS[how] < good_at:
        raise error_of(how)
    return perdure.step_info().attempt


@step(retry=Retry(max_attempts=5, initial=0.0, on=(ValueError, OSError), never=(TimeoutError,)))
def narrowed(how: str) -> int:
    CALLS[how] += 1
    raise error_of(how)


@workflow
async def explicitly(how: str, good_at: int) -> int:
    return await explicit(how, good_at)


@workflow
async def narrowly(how: str) -> int:
    return await narrowed(how)


def test_an_explicit_policy_covers_everything_but_permanent(place: Place) -> None:
    async def main() -> None:
        CALLS.clear()
        async with place.engine() as engine:
            handle = await engine.start(explicitly("value", 4), id="a")
            assert await handle.result() == 4
            failed = await of_kind(handle, events.StepAttemptFailed)
            assert [event.attempt for event in failed] == [1, 2, 3]
            waits = [round(event.retry_at - event.at, 6) for event in failed]
            assert waits == [0.01, 0.02, 0.04]
            with pytest.raises(RunFailed, match="wrong"):
                await engine.run(explicitly("type", 9), id="b")
            assert CALLS["type"] == 4
            with pytest.raises(RunFailed, match="never"):
                await engine.run(explicitly("permanent", 9), id="c")
            assert CALLS["permanent"] == 1

    run(main)


def test_on_and_never_narrow_a_policy(place: Place) -> None:
    async def main() -> None:
        CALLS.clear()
        async with place.engine() as engine:
            for how in ("value", "os", "timeout", "type"):
                with pytest.raises(RunFailed):
                    await engine.run(narrowly(how))
        assert CALLS == {"value": 5, "os": 5, "timeout": 1, "type": 1}

    run(main)


@step
async def told_to_wait(kind: str) -> None:
    CALLS[kind] += 1
    later = datetime.now(UTC) + timedelta(seconds=100)
    raise {
        "seconds": lambda: HTTPStatusError(429, Retry_After="100"),
        "date": lambda: HTTPStatusError(503, retry_after=format_datetime(later, usegmt=True)),
        "nonsense": lambda: HTTPStatusError(503, retry_after="soon"),
        "retryable": lambda: Retryable(after=timedelta(seconds=100)),
    }[kind]()


@workflow
async def waits_as_told(kind: str) -> None:
    await told_to_wait(kind)


@pytest.mark.parametrize(
    ("kind", "least"), [("seconds", 100), ("date", 98), ("nonsense", 0.5), ("retryable", 100)]
)
def test_what_the_server_asks_for_is_a_minimum(memory: Place, kind: str, least: float) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(waits_as_told(kind))

            async def there() -> bool:
                return bool(await of_kind(handle, events.StepAttemptFailed))

            await until(there)
            (first,) = await of_kind(handle, events.StepAttemptFailed)
            assert least <= first.retry_at - first.at <= least + 3
            await handle.terminate()

    run(main)


@step(retry=Retry(max_attempts=100, initial=10.0, jitter=False), deadline=5.0)
async def bounded() -> None:
    raise ValueError("bounded")


@workflow
async def meets_a_deadline() -> int:
    try:
        await bounded()
    except ValueError as error:
        found = perdure.failure(error)
        assert found is not None
        return found.attempts
    return 0


def test_no_attempt_starts_after_the_deadline(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(meets_a_deadline()) == 1

    run(main)


@step(retry=Retry(max_attempts=3, initial=0.25, backoff=1.0, jitter=False))
async def flaky() -> int:
    CALLS["flaky"] += 1
    if perdure.step_info().attempt < 3:
        raise OSError("not yet")
    return perdure.step_info().attempt


@workflow
async def over_restarts() -> int:
    await says("first")
    return await flaky()


@pytest.mark.parametrize("how", ["close", "crash"])
def test_attempts_and_waits_are_kept_over_a_restart(place: Place, how: str) -> None:
    async def main() -> None:
        CALLS.clear()
        for number in (1, 2):
            async with place.engine() as engine:
                handle = await engine.start(over_restarts(), id="a")
                await until(lambda n=number: CALLS["flaky"] == n)
                await until(lambda e=engine: not any(d.busy() for d in e._worker.drivers.values()))
                if how == "crash":
                    await crash(engine)
            if how == "crash":
                await bury(place)
        async with place.engine() as engine:
            handle = engine.get("a")
            assert await handle.result() == 3
            assert CALLS["flaky"] == 3
            first, second = await of_kind(handle, events.StepAttemptFailed)
            (done,) = [
                event for event in await of_kind(handle, events.StepCompleted) if "flaky" in event.step
            ]
            assert (first.attempt, second.attempt, done.attempt) == (1, 2, 3)
            assert second.started_at >= first.retry_at  # never early
            assert done.started_at >= second.retry_at

    run(main)


def test_a_retry_wait_survives_eviction(place: Place) -> None:
    async def main() -> None:
        CALLS.clear()
        async with place.engine(evict_after=0.0) as engine:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("perdure.runtime.residency.EVICT_MARGIN", 0.0)
                handle = await engine.start(over_restarts(), id="a")
                assert await handle.result() == 3
            assert CALLS["flaky"] == 3

    run(main)


@step(timeout=0.05, retry=Retry(max_attempts=2, initial=0.0))
async def slow() -> str:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        CANCELLED.append("async")
        raise
    return "never"


@step(timeout=0.05, retry=Retry(max_attempts=2, initial=0.0))
def slow_in_a_thread() -> str:
    info = perdure.step_info()
    deadline = time.monotonic() + 60
    while not info.cancelled and time.monotonic() < deadline:
        time.sleep(0.005)
    CANCELLED.append(f"sync {info.attempt} {info.cancelled}")
    return "too late to count"


@step(timeout=0.05)
async def stubborn() -> str:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "finished all the same"
    return "never"


@workflow
async def too_slow() -> list[Any]:
    told: list[Any] = []
    for call in (slow, slow_in_a_thread):
        try:
            await call()
        except TimeoutError as error:
            found = perdure.failure(error)
            assert found is not None
            told += [str(error), found.attempts]
    return [*told, await stubborn()]


def test_each_attempt_has_its_own_timeout(place: Place) -> None:
    async def main() -> None:
        CANCELLED.clear()
        async with place.engine() as engine:
            told = await engine.run(too_slow(), id="a")
            await until(lambda: len(CANCELLED) == 4)
            assert sorted(CANCELLED) == ["async", "async", "sync 1 True", "sync 2 True"]
            assert "attempt 2" in told[0]
            assert "longer than its timeout of 0.05 s" in told[2]
            assert (told[1], told[3], told[4]) == (2, 2, "finished all the same")
            await works(engine)

    run(main)


def test_terminating_a_run_ends_its_retries(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(fails_by_default("os"), id="a")
            await until(lambda: any(d.seq > 1 for d in engine._worker.drivers.values()))  # type: ignore[union-attr]
            await handle.terminate("enough")
            await reaches(handle, "terminated")
            with pytest.raises(perdure.RunTerminated, match="enough"):
                await handle.result()
            with pytest.raises(perdure.RunConflictError, match="ended already"):
                await handle.terminate()

    run(main)
