"""What goes over from one generation of a run to the next.

A run's inbox may hold what is meant for the run, whichever generation that is, and what answers something
that one generation has asked for. The latter must not go over: operation ids begin anew in each generation,
and the end of an old child would be taken for that of a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.codec.events import decode_event
from perdure.codec.sealing.envelope import head_of, is_sealed
from perdure.core import events as ev
from perdure.errors import UndecodableError, UnknownRunError
from perdure.storage.records import NewRun, ParentPolicy

#: Answers to what one generation asked for, and decisions about its steps.
_OF_ONE_GENERATION = (
    ev.ChildEnded,
    ev.ErrandEnded,
    ev.CallbackEnded,
    ev.PublicationArrived,
    ev.StepRerun,
    ev.StepCompleted,
    ev.StepFailed,
)

_KINDS_OF_ONE = frozenset(
    str(kind.__struct_config__.tag) for kind in (*_OF_ONE_GENERATION, ev.QuestionAnswered)
)


def goes_over(data: bytes) -> bool:
    """Whether an inbox item is meant for the next generation, too."""
    try:
        if is_sealed(data):
            return head_of(data).kind not in _KINDS_OF_ONE
        return not isinstance(decode_event(data), _OF_ONE_GENERATION)
    except UndecodableError:
        return True  # whoever drives the run will say what is wrong with it


def following(run: NewRun, ties: Sequence[Sequence[Any]]) -> NewRun:
    """A run with what it has from the one it follows, unless it says otherwise.

    Args:
        ties: what the stores' query of that name tells of that one.
    """
    for *_, key, priority, dedup, _ in ties:
        return msgspec.structs.replace(
            run,
            key=key if run.key is None else run.key,
            priority=run.priority or priority,
            dedup=dedup if run.dedup is None else run.dedup,
        )
    return run


def gone(id: str) -> UnknownRunError:
    """The run that another one was to follow was removed."""
    return UnknownRunError(
        f"Run {id!r} isn't there any more: it had been kept long enough, and was removed meanwhile. Start it anew.",
        run_id=id,
    )


def succeeding(run: NewRun, key: int, ties: Sequence[Any]) -> NewRun:
    """The next generation of a run that has just ended: to whoever has started that one, and to its queue, it is it."""
    id, fingerprint, _, parent_op, on_parent_close, *_, slot = ties
    return msgspec.structs.replace(
        run,
        id=id,
        fingerprint=fingerprint,
        follows=key,
        parent_op=parent_op,
        on_parent_close=ParentPolicy(on_parent_close),
        slot=bool(slot),
    )
