"""Callbacks: opened with an append, ended once by whoever comes first, and out of reach when they are over."""

from __future__ import annotations

import asyncio

from perdure.codec.events import decode_event
from perdure.core.events import CallbackEnded, Failure
from perdure.storage.callbacks import CallbackAnswer, CallbackState, CallbackVerdict, OpenCallback
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import NOW, Bench, Check

HASH = bytes(range(32))
FAILURE = Failure(type="perdure.errors.CallbackFailed", message="no")


async def opened(
    bench: Bench,
    *,
    token_hash: bytes = HASH,
    id: str = "r",
    op: str = "callback:1",
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> RunRow:
    """A run with an open callback, opened at NOW; a worker drives it."""
    row = await bench.make(id, owner=await bench.worker())
    return await bench.put(row, b"opened", effects=[_effect(token_hash, op, timeout, heartbeat)])


def _effect(
    token_hash: bytes, op: str = "callback:1", timeout: float | None = None, heartbeat: float | None = None
) -> OpenCallback:
    expires_at = None if timeout is None else NOW + timeout
    return OpenCallback(token_hash, op, opened_at=NOW, expires_at=expires_at, heartbeat=heartbeat)


async def ends_told(bench: Bench, row: RunRow) -> list[CallbackEnded]:
    """What the run's inbox tells of its callbacks."""
    events = [decode_event(data) for data in await bench.inbox(row)]
    return [event for event in events if isinstance(event, CallbackEnded)]


def verdict(answer: CallbackAnswer) -> str:
    return answer.verdict.value


async def a_callback_is_completed_once(bench: Bench) -> None:
    """The run gets the result by mail; who comes later is told what happened, and changes nothing."""
    row = await opened(bench)
    callbacks = bench.store.callbacks
    answer = await callbacks.end(HASH, result=b"[1]", now=NOW + 5)
    assert verdict(answer) == "done"
    assert answer.row is not None
    assert (answer.row.run, answer.row.run_id, answer.row.op) == (row.run, "r", "callback:1")
    assert await ends_told(bench, row) == [CallbackEnded(NOW + 5, "callback:1", result=b"[1]")]
    for again in (
        await callbacks.end(HASH, result=b"[2]", now=NOW + 6),
        await callbacks.end(HASH, failure=FAILURE, now=NOW + 6),
        await callbacks.heartbeat(HASH, now=NOW + 6),
    ):
        assert verdict(again) == "ended"
        assert again.row is not None
        assert (again.row.state, again.row.ended_at) == (CallbackState.COMPLETED, NOW + 5)
    assert await callbacks.time_out(HASH, now=NOW + 99) is None
    assert len(await ends_told(bench, row)) == 1


async def a_callback_is_failed_once(bench: Bench) -> None:
    """The same with a failure in the place of a result."""
    row = await opened(bench)
    assert verdict(await bench.store.callbacks.end(HASH, failure=FAILURE, now=NOW + 5)) == "done"
    assert await ends_told(bench, row) == [CallbackEnded(NOW + 5, "callback:1", failure=FAILURE)]
    again = await bench.store.callbacks.end(HASH, result=b"1", now=NOW + 6)
    assert again.row is not None
    assert (verdict(again), again.row.state) == ("ended", CallbackState.FAILED)


async def tokens_that_nobody_gave_out_are_unknown(bench: Bench) -> None:
    """And do nothing."""
    row = await opened(bench)
    callbacks, other = bench.store.callbacks, bytes(32)
    assert await callbacks.end(other, result=b"1", now=NOW) == CallbackAnswer(CallbackVerdict.UNKNOWN)
    assert await callbacks.heartbeat(other, now=NOW) == CallbackAnswer(CallbackVerdict.UNKNOWN)
    assert await callbacks.time_out(other, now=NOW) is None
    assert await ends_told(bench, row) == []


async def a_callback_is_opened_with_its_append(bench: Bench) -> None:
    """Not by one that is stale, and not twice by one that is repeated, or by another run."""
    row = await bench.make("r", owner=await bench.worker())
    stale = bench.change(row, b"opened", effects=[_effect(HASH)], expected=7)
    await bench.store.append([stale])
    assert verdict(await bench.store.callbacks.heartbeat(HASH, now=NOW)) == "unknown"
    change = bench.change(row, b"opened", effects=[_effect(HASH)])
    for _ in range(2):
        await bench.store.append([change])
    assert verdict(await bench.store.callbacks.heartbeat(HASH, now=NOW)) == "done"
    await opened(bench, id="other", op="callback:9")
    answer = await bench.store.callbacks.end(HASH, result=b"1", now=NOW)
    assert answer.row is not None
    assert (answer.row.run_id, answer.row.op) == ("r", "callback:1")


async def from_its_deadline_on_a_callback_is_over(bench: Bench) -> None:
    """Also if nobody has noted it yet: whoever comes too late notes it, and the run is told once."""
    for number, (late, timeout, heartbeat, word) in enumerate(
        [
            ("complete", 60.0, None, "timeout of 60 s"),
            ("fail", 60.0, 70.0, "timeout of 60 s"),
            ("heartbeat", None, 60.0, "60 s, its heartbeat"),
            ("time_out", 70.0, 60.0, "60 s, its heartbeat"),
        ]
    ):
        key = bytes([number]) * 32
        row = await opened(bench, token_hash=key, id=late, timeout=timeout, heartbeat=heartbeat)
        callbacks = bench.store.callbacks
        assert await callbacks.time_out(key, now=NOW + 59.9) == NOW + 60
        assert await ends_told(bench, row) == []
        if late == "complete":
            assert verdict(await callbacks.end(key, result=b"1", now=NOW + 60)) == "expired"
        elif late == "fail":
            assert verdict(await callbacks.end(key, failure=FAILURE, now=NOW + 60)) == "expired"
        elif late == "heartbeat":
            assert verdict(await callbacks.heartbeat(key, now=NOW + 60)) == "expired"
        assert await callbacks.time_out(key, now=NOW + 60) is None
        (told,) = await ends_told(bench, row)
        assert (told.callback, told.timed_out, told.result) == ("callback:1", True, None)
        assert told.failure is not None
        assert word in told.failure.message
        again = await callbacks.end(key, result=b"1", now=NOW + 59)  # by a clock that is behind
        assert again.row is not None
        assert (verdict(again), again.row.state) == ("expired", CallbackState.EXPIRED)


async def a_heartbeat_puts_the_deadline_off(bench: Bench) -> None:
    """But not the timeout, and never back; a callback without limits can be kept alive, too."""
    row = await opened(bench, timeout=100, heartbeat=30)
    callbacks = bench.store.callbacks
    assert verdict(await callbacks.heartbeat(HASH, now=NOW + 20)) == "done"
    assert await callbacks.time_out(HASH, now=NOW + 31) == NOW + 50
    assert verdict(await callbacks.heartbeat(HASH, now=NOW + 10)) == "done"
    assert await callbacks.time_out(HASH, now=NOW + 31) == NOW + 50
    for moment in (45, 70, 95):
        assert verdict(await callbacks.heartbeat(HASH, now=NOW + moment)) == "done"
    assert await callbacks.time_out(HASH, now=NOW + 99) == NOW + 100
    assert await ends_told(bench, row) == []
    await opened(bench, token_hash=bytes(32), id="free")
    assert verdict(await callbacks.heartbeat(bytes(32), now=NOW + 1000)) == "done"
    assert await callbacks.time_out(bytes(32), now=NOW + 10_000) is None


async def completing_wakes_the_run(bench: Bench) -> None:
    """One that nobody drives becomes due; one that is driven finds its mail."""
    row = await opened(bench)
    row = await bench.put(row, release=True, status="waiting", wake_at=NOW + 999)
    await bench.store.callbacks.end(HASH, result=b"1", now=NOW + 5)
    row = await bench.row("r")
    assert (row.wake_at, row.mail) == (NOW + 5, 1)


async def an_ended_run_has_no_use_for_callbacks(bench: Bench) -> None:
    """However it ended. What was completed before stays so."""
    for number, end in enumerate(("completed", "failed", "cancelled", "terminated")):
        key = bytes([number]) * 32
        row = await opened(bench, token_hash=key, id=end, timeout=60)
        if end == "terminated":
            await bench.store.terminate(end, b"over", now=NOW)
        else:
            await bench.put(row, b"over", status=end)
        answer = await bench.store.callbacks.end(key, result=b"1", now=NOW)
        assert answer.row is not None
        assert (verdict(answer), answer.row.run_status) == ("run_ended", end)
        assert verdict(await bench.store.callbacks.heartbeat(key, now=NOW + 99)) == "run_ended"
        assert await bench.store.callbacks.time_out(key, now=NOW + 99) is None
        assert (await bench.row(end)).mail == 0
    row = await opened(bench, token_hash=HASH)
    await bench.store.callbacks.end(HASH, result=b"1", now=NOW)
    await bench.store.terminate("r", b"over", now=NOW)
    assert verdict(await bench.store.callbacks.end(HASH, result=b"1", now=NOW)) == "ended"


async def of_many_at_once_one_wins(bench: Bench) -> None:
    """Through several stores: one result, one mail. Some times over, since a race isn't met each time."""
    other = await bench.another()
    for place in range(8):
        token = bytes([place]) * 32
        row = await opened(bench, token_hash=token, id=f"r{place}", timeout=60)
        answers = await asyncio.gather(
            *(
                store.callbacks.end(token, result=b"%d" % number, now=NOW + 1)
                for number in range(10)
                for store in (bench.store, other)
            )
        )
        assert sorted(map(verdict, answers)) == ["done"] + ["ended"] * 19
        assert len(await ends_told(bench, row)) == 1


CHECKS: tuple[Check, ...] = (
    a_callback_is_completed_once,
    a_callback_is_failed_once,
    tokens_that_nobody_gave_out_are_unknown,
    a_callback_is_opened_with_its_append,
    from_its_deadline_on_a_callback_is_over,
    a_heartbeat_puts_the_deadline_off,
    completing_wakes_the_run,
    an_ended_run_has_no_use_for_callbacks,
    of_many_at_once_one_wins,
)
