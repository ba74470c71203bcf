"""Sets what two runs have done side by side: which of it is the same, and what differs.

What a run's code has asked for, as its history tells, is a list of *doings*: steps, child runs, messages to other runs,
published events. Those of two runs are paired by name: first what has the same id and the same input, then what has the
same input, in order (a step that was put in before moves the numbers of all after it), then what has the same id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard

import msgspec

from perdure.core import events as ev
from perdure.core.finding import fingerprint
from perdure.core.scope import operation_name

DoingKind: TypeAlias = Literal["step", "child", "message", "event"]


class Doing(msgspec.Struct, frozen=True):
    """Something that a run's code has asked for.

    Attributes:
        id: its op id.
        name: of the step, the child's workflow, the message, the event.
        outcome: what has become of it: "completed", "failed" or another status of a child; "running", "refused" (in a
            counterfactual run), "decision" (of a person, for which it waits); "sent", "published", "withheld".
        input: the encoded input, None if the history holds its `digest` only.
        seconds: how long its last attempt took, or the child; None if that isn't known, as of what was taken over.
        reused, stubbed: as of the events.
        run: the child's run, the receiver of the message.
    """

    id: str
    kind: DoingKind
    name: str
    outcome: str
    input: bytes | None = None
    digest: bytes | None = None
    result: bytes | None = None
    failure: ev.Failure | None = None
    attempts: int = 0
    seconds: float | None = None
    reused: bool = False
    stubbed: bool = False
    run: str = ""


#: A doing of each run, or of one only.
Pair: TypeAlias = tuple[Doing | None, Doing | None]


def doings(history: Iterable[ev.Event]) -> list[Doing]:
    """What a run's code has asked for, in the order in which the history first tells of it."""
    found: dict[str, Doing] = {}
    began: dict[str, float] = {}
    for event in history:
        match event:
            case ev.StepStarted() | ev.StepAttemptFailed():
                found[event.step] = _begun(event.step, "running", attempts=event.attempt)
            case ev.StepSent() | ev.StepDelayed():
                found.setdefault(event.step, _begun(event.step, "running"))
            case ev.StepParked():
                outcome = "refused" if event.refused else "decision"
                parked = _begun(event.step, outcome, event.input, event.fingerprint, event.attempt)
                found[event.step] = msgspec.structs.replace(parked, failure=event.failure)
            case ev.StepCompleted() | ev.StepFailed():
                found[event.step] = _step(event)
            case ev.ChildStarted():
                began[event.child] = event.at
                found[event.child] = Doing(
                    event.child,
                    "child",
                    event.workflow,
                    "running",
                    event.input,
                    _digest(event),
                    reused=event.reused,
                    run=event.run,
                )
            case ev.ChildEnded() if event.child in found:
                found[event.child] = msgspec.structs.replace(
                    found[event.child],
                    outcome=event.status,
                    result=event.result,
                    failure=event.failure,
                    seconds=None if event.reused else event.at - began[event.child],
                )
            case ev.MessageSent():
                found[event.message] = Doing(
                    event.message,
                    "message",
                    event.name,
                    "withheld" if event.withheld else "sent",
                    event.payload,
                    _digest(event, event.payload),
                    reused=event.reused,
                    run=event.run,
                )
            case ev.MessageRefused():
                found[event.message] = Doing(
                    event.message, "message", event.name, event.why, reused=event.reused, run=event.run
                )
            case ev.Published():
                outcome = "withheld" if event.withheld else "published"
                digest = _digest(event, event.payload)
                found[event.op] = Doing(event.op, "event", event.name, outcome, event.payload, digest)
            case _:
                pass
    return list(found.values())


def _begun(
    step: str, outcome: str, input: bytes | None = None, digest: bytes | None = None, attempts: int = 0
) -> Doing:
    known = digest if input is None else fingerprint(input)
    return Doing(step, "step", operation_name(step), outcome, input, known, attempts=attempts)


def _step(event: ev.StepCompleted | ev.StepFailed) -> Doing:
    good = isinstance(event, ev.StepCompleted)
    stubbed = isinstance(event, ev.StepCompleted) and event.stubbed
    return Doing(
        event.step,
        "step",
        operation_name(event.step),
        "completed" if good else "failed",
        event.input,
        _digest(event),
        event.result if isinstance(event, ev.StepCompleted) else None,
        event.failure if isinstance(event, ev.StepFailed) else None,
        event.attempt,
        None if event.reused or stubbed else event.at - event.started_at,
        event.reused,
        stubbed,
    )


def _digest(event: Any, data: bytes | None = None) -> bytes | None:
    whole = data if data is not None else getattr(event, "input", None)
    if whole is not None:
        return fingerprint(whole)
    known: bytes | None = event.fingerprint
    return known


def paired(a: Sequence[Doing], b: Sequence[Doing]) -> list[Pair]:
    """The doings of two runs side by side, in the order of the first; what only the second has is where it did it."""
    partner: dict[str, Doing] = {}  # of b by the id of a's
    left_a, left_b = list(a), list(b)

    def pair_by(key: Callable[[Doing], Hashable]) -> None:
        waiting: dict[Hashable, list[Doing]] = defaultdict(list)
        for doing in reversed(left_b):
            waiting[doing.kind, doing.name, key(doing)].append(doing)
        for doing in left_a:
            if there := waiting[doing.kind, doing.name, key(doing)]:
                partner[doing.id] = there.pop()
        taken = {doing.id for doing in partner.values()}
        left_a[:] = [doing for doing in left_a if doing.id not in partner]
        left_b[:] = [doing for doing in left_b if doing.id not in taken]

    pair_by(lambda doing: (doing.id, doing.digest))
    pair_by(lambda doing: doing.digest)
    pair_by(lambda doing: doing.id)
    alone = {doing.id for doing in left_b}
    after: dict[str | None, list[Doing]] = defaultdict(list)
    last: str | None = None
    for doing in b:
        if doing.id in alone:
            after[last].append(doing)
        else:
            last = doing.id
    pairs: list[Pair] = [(None, doing) for doing in after[None]]
    for doing in a:
        other = partner.get(doing.id)
        pairs.append((doing, other))
        if other is not None:
            pairs += [(None, one) for one in after[other.id]]
    return pairs


def changes(a: Doing, b: Doing) -> tuple[str, ...]:
    """What differs of "input", "outcome", "result" between two doings that are a pair."""
    found: list[str] = []
    if a.digest != b.digest:
        found.append("input")
    if a.outcome != b.outcome:
        found.append("outcome")
    if a.result != b.result or _said(a.failure) != _said(b.failure):
        found.append("result")
    return tuple(found)


def _said(failure: ev.Failure | None) -> tuple[str, str] | None:
    return None if failure is None else (failure.type, failure.message)


#: There is nothing at this place.
ABSENT: Any = object()


def differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Where two values of JSON differ: (path, what is there, what is there), `ABSENT` for what is in one only.

    >>> differences({"x": [1, 2], "y": 0}, {"x": [1, 3], "y": 0})
    [('x.1', 2, 3)]
    """
    if _is_object(a) and _is_object(b):
        parts = [(key, a.get(key, ABSENT), b.get(key, ABSENT)) for key in dict.fromkeys([*a, *b])]
    elif _is_array(a) and _is_array(b):
        parts = [(str(n), _at(a, n), _at(b, n)) for n in range(max(len(a), len(b)))]
    else:
        return [] if type(a) is type(b) and a == b else [(path, a, b)]
    found: list[tuple[str, Any, Any]] = []
    for key, in_a, in_b in parts:
        found += differences(in_a, in_b, f"{path}.{key}" if path else key)
    return found


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _at(items: list[Any], place: int) -> Any:
    return items[place] if place < len(items) else ABSENT
