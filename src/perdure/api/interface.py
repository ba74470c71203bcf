"""What can be said to a run, with the forms of it: for whoever draws a form and hasn't the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perdure.codec.forms import JsonSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterface:
    """What a run understands at the moment, from `handle.interface()`.

    Each is a JSON Schema by name, None where none can be told. Those of updates and queries are of their arguments,
    given by keywords.

    Attributes:
        messages: those that the code waits for right now, by `receive`. Others may be sent as well, and wait.
        updates: the handlers registered by `on_update`.
        queries: the handlers registered by `on_query`.
    """

    messages: Mapping[str, JsonSchema | None]
    updates: Mapping[str, JsonSchema | None]
    queries: Mapping[str, JsonSchema | None]
