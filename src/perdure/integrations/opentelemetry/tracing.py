"""Tells the runs of an engine as traces, from what the runtime lets observers hear.

For each run that is driven here there is its story (story.py), which is made anew from the history when another process
has driven it before. What was recorded is told by the process that has recorded it. Only after a death it isn't
known whether the dead process had exported what it recorded last: that is told again by who takes over, under the
same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link

from perdure.codec.events import decode_event
from perdure.core.errands import step_of
from perdure.core.events import Event, RunStarted
from perdure.core.namespaces import namespace_of, short
from perdure.core.tracing import TraceContext, current_trace, trace_context
from perdure.integrations.opentelemetry.ids import Place, own_trace, place_in, span_of
from perdure.integrations.opentelemetry.spans import Teller, context_of, span_context
from perdure.integrations.opentelemetry.story import Span, Story, Value
from perdure.integrations.opentelemetry.usage import Spent, spent_by, spent_in, usage_attributes
from perdure.runtime.attempt import Attempt
from perdure.runtime.errands import ErrandDriver
from perdure.runtime.observing import Driven, Observer, Origin, Watched
from perdure.runtime.tracecontext import enter, here
from perdure.storage.records import Append, RunRow

logger = logging.getLogger("perdure.telemetry")

PAGE = 1000  #: events read at once
FLUSH_LIMIT = 5.0  #: seconds that exporting may take when an engine closes


class Told(msgspec.Struct):
    """A run that is told. There may be many thousands: what can be made when it is needed isn't kept.

    Attributes:
        place: of its own span.
    """

    story: Story
    place: Place
    queue: str

    @property
    def sampled(self) -> bool:
        """It is told at all."""
        return bool(self.place.flags & 1)


class Tracer(Observer):
    """Tells the runs of one engine.

    Args:
        again: seconds before a run's last event from which on is told again what a dead process has recorded.
    """

    def __init__(self, engine: Watched, teller: Teller, again: float) -> None:
        self._engine = engine
        self._teller = teller
        self._again = again
        self._runs: dict[int, Told] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_LIMIT)
        await asyncio.to_thread(self._teller.provider.force_flush, int(FLUSH_LIMIT * 1000))

    # -- where runs stand ------------------------------------------------------------------------------

    def told(self, id: str, started: RunStarted, queue: str) -> Told:
        """What is told of a run, so far nothing."""
        return Told(Story(id, started), self._standing(id, started)[0], queue)

    def _attributes(self, told: Told) -> dict[str, Value]:
        started = told.story.started
        attributes: dict[str, Value] = {
            "perdure.run.id": short(told.story.id),
            "perdure.run.generation": started.generation,
            "perdure.workflow.name": started.workflow,
            "perdure.queue": short(told.queue),
            "perdure.worker": self._engine.name,
        }
        if (namespace := namespace_of(told.story.id)) is not None:
            attributes["perdure.namespace"] = namespace
        if self._engine.version:
            attributes["perdure.worker.version"] = self._engine.version
        return attributes

    def _standing(self, id: str, started: RunStarted) -> tuple[Place, Context, Sequence[Link]]:
        parent, links, number, state = Context(), [], own_trace(id, started), ""
        if started.trace is not None:
            origin = place_in(started.trace)
            if started.trace.link:
                links = [Link(span_context(origin))]
            else:
                parent, number, state = context_of(origin), origin.trace, origin.state
        sampled = self._teller.sampled(parent, number, f"run {started.workflow}", links)
        return Place(number, span_of(id, started, ()), int(sampled), state), parent, links

    def carried(self, origin: Origin | None = None, *, link: bool = False) -> TraceContext | None:
        if origin is not None:
            place, _, _ = self._standing(*origin)
            return TraceContext(place.header(), place.state, link)
        return here()

    # -- runs ------------------------------------------------------------------------------------------

    def born(self, run: Driven, started: RunStarted) -> None:
        if step_of(started.workflow) is None:  # an errand is told by who has sent it
            self._runs[run.run] = self.told(run.id, started, run.queue)

    def recalled(self, run: Driven, history: Sequence[bytes], *, recovered: bool) -> None:
        first = decode_event(history[0])
        assert isinstance(first, RunStarted)
        if step_of(first.workflow) is not None:
            return
        told = self._runs[run.run] = self.told(run.id, first, run.queue)
        if told.sampled:
            fed = [told.story.feed(decode_event(data)) for data in history[1:]]
            since = told.story.last_at - self._again
            spans = [span for span in fed if span is not None and span.end >= since]
            if recovered and spans:
                self._aside(self._tell_recent(told, run.run, spans), run.id)

    def recorded(self, run: Driven, events: Sequence[Event], append: Append) -> None:
        told = self._runs.get(run.run)
        if told is None or not told.sampled:
            return
        spent = spent_in(append.effects) if append.effects else None
        for event in events:
            span = told.story.feed(event)
            if span is not None and span.sent:  # what it has spent was booked by the other worker
                self._aside(self._tell_recent(told, run.run, [span]), run.id)
            elif span is not None:
                self._tell(told, span, spent)

    def let_go(self, run: Driven) -> None:
        self._runs.pop(run.run, None)

    def ended_outside(self, id: str) -> None:
        self._aside(self._tell_end(id), id)

    def _aside(self, telling: Coroutine[Any, Any, None], id: str) -> None:
        async def guarded() -> None:
            try:
                await telling
            except Exception:  # telemetry's trouble is nobody else's
                logger.warning("run %s couldn't be told", id, exc_info=True, extra={"run_id": id})

        task = self._engine.loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_recent(self, told: Told, run: int, spans: Sequence[Span]) -> None:
        spent = spent_by(await self._engine.store.ledger.entries(run))
        for span in spans:
            self._tell(told, span, spent)

    async def _tell_end(self, id: str) -> None:
        (row,) = await self._engine.store.get([id])
        if row is not None:
            await self.tell_again(row, steps=False)

    async def tell_again(self, row: RunRow, *, steps: bool = True) -> tuple[int, int] | None:
        """Tell a run from its history. Returns how many spans that were, and the trace's id; None if it isn't told.

        Args:
            steps: its attempts, too, and not its own span alone.
        """
        told: Told | None = None
        after = number = 0
        spent = spent_by(await self._engine.store.ledger.entries(row.run)) if steps else None
        while True:
            page = await self._engine.store.events(row.run, after=after, limit=PAGE)
            for seq, data in page:
                after, event = seq, decode_event(data)
                if told is None:
                    assert isinstance(event, RunStarted)
                    if step_of(event.workflow) is not None:
                        return None
                    told = self.told(row.id, event, row.queue)
                    if not told.sampled:
                        return None
                elif (span := told.story.feed(event)) is not None and (steps or not span.place):
                    self._tell(told, span, spent)
                    number += 1
            if len(page) < PAGE:
                return None if told is None else (number, told.place.trace)

    def _tell(self, told: Told, span: Span, spent: Spent | None = None) -> None:
        place, story = told.place, told.story
        links: Sequence[Link] = ()
        if span.place:
            step, _, attempt = span.place
            if spent and (used := spent.get((step, attempt))):
                span.attributes.update(usage_attributes(used))
            context = context_of(place)
            place = place._replace(span=span_of(story.id, story.started, span.place))
        else:
            _, context, links = self._standing(story.id, story.started)
        self._teller.tell(span, place, context, self._attributes(told), links)

    # -- steps -----------------------------------------------------------------------------------------

    def begins(self, attempt: Attempt) -> None:
        run = attempt.run
        if isinstance(run, ErrandDriver):
            sent = run.errand.trace
            if (where := trace_context(sent)) is not None:
                enter(where)
            return
        place = self._attempt(run.run, attempt.info.step_id, attempt.info.attempt)
        if place is not None:
            current_trace.set(TraceContext(place.header(), place.state))
            attach(context_of(place, remote=False))

    def sends(self, run: int, step: str, attempt: int) -> str | None:
        place = self._attempt(run, step, attempt)
        return None if place is None else place.header()

    def _attempt(self, run: int, step: str, attempt: int) -> Place | None:
        told = self._runs.get(run)
        if told is None:
            return None
        story, place = told.story, told.place
        span = span_of(story.id, story.started, story.place(step, attempt))
        return Place(place.trace, span, place.flags, place.state)
