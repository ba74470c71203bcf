"""Ids of traces and spans, made of what is recorded: whoever tells of a run tells it under the same ones.

A run's seed is random, and known only to who reads its history. A fork or a retry has that of the run it goes on from,
so the run's id and generation are part of it, too.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from perdure.core.events import RunStarted
from perdure.core.tracing import TraceContext


class Place(NamedTuple):
    """Where something stands in a trace.

    Attributes:
        flags: the lowest bit says that somebody records it.
    """

    trace: int
    span: int
    flags: int
    state: str = ""

    def header(self) -> str:
        """As `traceparent`."""
        return f"00-{self.trace:032x}-{self.span:016x}-{self.flags:02x}"


def place_in(context: TraceContext) -> Place:
    """The place that a first event or a header tells of."""
    _, trace, span, flags = context.parent.split("-")
    return Place(int(trace, 16), int(span, 16), int(flags, 16), context.state)


def own_trace(id: str, started: RunStarted) -> int:
    """The id of the trace that a run begins."""
    return _digest(id, started, b"trace", 16)


def span_of(id: str, started: RunStarted, place: tuple[str, int, int] | tuple[()]) -> int:
    """The id of a run's span, or of one of its attempts'."""
    if not place:
        return _digest(id, started, b"run", 8)
    step, round, attempt = place
    return _digest(id, started, f"step\0{step}\0{round}\0{attempt}".encode(), 8)


def _digest(id: str, started: RunStarted, what: bytes, size: int) -> int:
    about = f"{id}\0{started.generation}\0".encode() + what
    # keyed, so that nothing which is made of the seed elsewhere can be equal to it, or be computed from it
    made = blake2b(about, digest_size=size, key=started.seed[:64], person=b"perdure-trace").digest()
    return int.from_bytes(made, "big") or 1  # 0 is no id
