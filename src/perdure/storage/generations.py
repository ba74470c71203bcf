"""What goes over from one generation of a run to the next.

A run's inbox may hold what is meant for the run, whichever generation that is, and what answers something
that one generation has asked for. The latter must not go over: operation ids begin anew in each generation,
and the end of an old child would be taken for that of a new one.
"""

from __future__ import annotations

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.errors import UndecodableError

#: Answers to what one generation asked for, and decisions about its steps.
_OF_ONE_GENERATION = (
    ev.ChildEnded,
    ev.ErrandEnded,
    ev.CallbackEnded,
    ev.StepRerun,
    ev.StepCompleted,
    ev.StepFailed,
)


def goes_over(data: bytes) -> bool:
    """Whether an inbox item is meant for the next generation, too."""
    try:
        return not isinstance(decode_event(data), _OF_ONE_GENERATION)
    except UndecodableError:
        return True  # whoever drives the run will say what is wrong with it
