"""Heartbeats of steps: a sign of life for the engine, and a detail for the next attempt.

A detail is kept in memory with its operation, and in the store: about once a second while an attempt
executes, and with the failure that ends it. No event tells of it, so a step may beat as often as it likes
without its run's history growing. Once the step has an outcome the detail is gone.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from perdure.codec.redaction import mask_json
from perdure.codec.values import ValueCodec, check_size
from perdure.core import bounds
from perdure.core.commands import RunStep
from perdure.runtime.attempt import Attempt, Recorder
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.effects import StepDetail

#: Seconds between two writes of one step's detail.
SAVE_EVERY = 1.0

#: Largest encoded detail in bytes: it is written again and again.
DETAIL_MAX = bounds.DETAIL_MAX

#: Seconds an alarm may ring late by the usual tardiness of event loops.
LATE = 0.05

_DETAIL = ValueCodec[Any](Any, "detail of a heartbeat")


class Pulse:
    """What a step's heartbeats have left so far, over all its attempts.

    Attributes:
        data: the encoded detail.
        at: when it was told, wall-clock seconds.
        saved: the store has it.
        stored: the store has some detail of this step.
    """

    __slots__ = ("at", "data", "saved", "stored")

    def __init__(self, data: bytes, at: float, *, saved: bool = False) -> None:
        self.data = data
        self.at = at
        self.saved = self.stored = saved

    def show(self, info: StepInfo) -> None:
        """Let an attempt see it."""
        info.detail = _DETAIL.decode(self.data)
        info.last_heartbeat = datetime.fromtimestamp(self.at, UTC)


class _Watch:
    """An attempt that beats, or has to."""

    __slots__ = ("alarm", "attempt", "due", "limit", "save", "saved_at")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.limit = 0.0
        self.due = 0.0  # when the alarm is to ring, by the loop's time
        self.alarm: asyncio.TimerHandle | None = None
        self.save: asyncio.TimerHandle | None = None
        self.saved_at = -SAVE_EVERY


class Heartbeats:
    """Listens to the attempts of one engine.

    Args:
        clock: wall-clock seconds.
        monotonic: seconds that are never set.
        executing: the attempts that execute right now.

    Attributes:
        watched: those of them that beat, or have to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        executing: Collection[Attempt],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self.monotonic = monotonic
        self._executing = executing
        self.watched: dict[StepInfo, _Watch] = {}

    def beat(self, info: StepInfo, detail: Any) -> None:
        """An attempt gives a sign of life. Called from any thread.

        Raises:
            NotSerializableError: the detail can't be recorded.
        """
        info.heard = self.monotonic()
        if detail is None:
            return
        data, info.detail = _DETAIL.record(detail)
        if (masked := mask_json(data)) is not data:
            data, info.detail = masked, _DETAIL.decode(masked)
        check_size(data, DETAIL_MAX, "detail of a heartbeat")
        at = self._clock()
        info.last_heartbeat = datetime.fromtimestamp(at, UTC)
        if _get_running_loop() is self._loop:
            self._told(info, data, at)
        else:  # in order, and before the end of the thread is told in the same way
            self._loop.call_soon_threadsafe(self._told, info, data, at)

    def watch(self, attempt: Attempt, limit: float) -> None:
        """Cut the attempt off when it has given no sign of life for `limit` seconds."""
        watch = self.watched.setdefault(attempt.info, _Watch(attempt))
        watch.limit = limit
        self._look_in(limit, watch)

    def over(self, attempt: Attempt) -> None:
        """It has ended."""
        watch = self.watched.pop(attempt.info, None)
        if watch is not None:
            for handle in (watch.alarm, watch.save):
                if handle is not None:
                    handle.cancel()

    def _look_in(self, seconds: float, watch: _Watch) -> None:
        watch.due = self._loop.time() + seconds
        watch.alarm = self._loop.call_at(watch.due, self._look, watch)

    def _look(self, watch: _Watch) -> None:
        attempt = watch.attempt
        heard = attempt.info.heard
        left = watch.limit - (self.monotonic() - heard) if heard else watch.limit
        late = self._loop.time() - watch.due
        if left > 0:
            self._look_in(left, watch)
        elif late > LATE:  # the loop, or the machine, stood still: the step had no chance to beat either
            self._look_in(min(late, watch.limit), watch)
        elif attempt.future is not None:
            attempt.starved = attempt.info.cancelled = True
            attempt.future.cancel()

    def _told(self, info: StepInfo, data: bytes, at: float) -> None:
        watch = self.watched.get(info)
        if watch is None:
            attempt = next((one for one in self._executing if one.info is info), None)
            if attempt is None:
                return  # it ended meanwhile
            watch = self.watched[info] = _Watch(attempt)
        pulse: Pulse | None = watch.attempt.operation.pulse
        if pulse is None:
            watch.attempt.operation.pulse = Pulse(data, at)
        else:
            pulse.data, pulse.at, pulse.saved = data, at, False
        if watch.save is None:
            wait = watch.saved_at + SAVE_EVERY - self._loop.time()
            watch.save = self._loop.call_later(max(0.0, wait), self._save, watch)

    def _save(self, watch: _Watch) -> None:
        watch.save = None
        watch.saved_at = self._loop.time()
        if not watch.attempt.dropped:
            keep_for_next(watch.attempt)
            watch.attempt.run.flush()


def keep_for_next(attempt: Attempt) -> None:
    """Write what the heartbeats told with the run's next append."""
    pulse: Pulse | None = attempt.operation.pulse
    if pulse is not None and not pulse.saved:
        pulse.saved = pulse.stored = True
        attempt.run.add_effect(StepDetail(attempt.operation.id, pulse.data, pulse.at))


def forget(run: Recorder, operation: RunStep) -> None:
    """The step has its outcome: what its heartbeats told goes with the run's next append."""
    pulse: Pulse | None = operation.pulse
    if pulse is not None and pulse.stored:
        run.add_effect(StepDetail(operation.id, None, pulse.at))


def starved_error(attempt: Attempt) -> TimeoutError:
    """What an attempt whose heartbeats stopped fails with."""
    seconds = attempt.operation.call.options.heartbeat_timeout
    return TimeoutError(
        f"attempt {attempt.info.attempt} of step {attempt.operation.name} gave no heartbeat for {seconds:g} s"
    )
