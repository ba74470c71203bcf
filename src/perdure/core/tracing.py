"""Where a run comes from: the trace of whoever asked for it, as its first event keeps it."""

from __future__ import annotations

import re
from contextvars import ContextVar

import msgspec

_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

#: Longest `tracestate` that is kept; what the W3C asks for at least.
STATE_MAX = 512


class TraceContext(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A place in a trace, as the W3C writes it.

    Attributes:
        parent: `traceparent`: version, trace id, span id, flags.
        state: `tracestate`, "" without.
        link: the run isn't a part of that trace, but comes from it.
    """

    parent: str
    state: str = ""
    link: bool = False


def trace_context(parent: str | None, state: str | None = None) -> TraceContext | None:
    """The place that two headers tell of; None if they make no sense, as the W3C wants it.

    >>> trace_context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").state
    ''
    >>> trace_context("00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    if parent is None or not _PARENT.fullmatch(parent):
        return None
    state = state or ""
    return TraceContext(parent, state if len(state) <= STATE_MAX and state.isprintable() else "")


#: Where what is executing stands in a trace: a request that is being answered, by its headers; an attempt of a step, if
#: somebody traces. Runs that are started meanwhile keep it, and requests that are made carry it on.
current_trace: ContextVar[TraceContext | None] = ContextVar("perdure_trace", default=None)
