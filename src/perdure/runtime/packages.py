"""What is done to a run's package on its way: it is resumed, paused, or renamed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.codec.events import decode_event, encode_event
from perdure.codec.sealing.envelope import is_sealed
from perdure.core import events as ev
from perdure.core.errands import step_of
from perdure.core.namespaces import short
from perdure.core.status import Status
from perdure.errors import MovingError, UndecodableError
from perdure.runtime.errand import decode_errand, encode_errand
from perdure.storage.moving import AnyPart, Generation, HistoryPart, MailPart, Package
from perdure.storage.records import MailKind


def arriving(package: Package, reason: str) -> Package:
    """The package without the pause that a mover has asked for with this reason. Other pauses stay."""
    row = package.generations[-1]
    if row.ended_at is not None or row.paused is None:
        return package
    parts = [part for part in package.parts if not _pauses(part, row, reason)]
    asked = len(parts) < len(package.parts)
    written = False
    for part in reversed(parts):
        if isinstance(part, HistoryPart) and part.generation == row.generation:
            event = _event(part)
            if isinstance(event, ev.RunPaused | ev.RunResumed):
                written = isinstance(event, ev.RunPaused) and event.reason == reason
                break
    if not (asked or written or (row.status == Status.PAUSED and row.reason == reason)):
        return package
    changes: dict[str, object] = {"paused": None}
    if row.status == Status.PAUSED:
        begun = row.started_at is not None
        status = Status.WAITING if begun else Status.QUEUED
        due = row.updated_at if begun else max(row.paused, row.updated_at)
        changes |= {"status": status.value, "reason": None, "wake_at": due}
    parts[parts.index(row)] = msgspec.structs.replace(row, **changes)
    if written:
        _post(parts, row.generation, ev.RunResumed(at=row.updated_at))
    return Package(package.id, tuple(parts))


def held_back(package: Package, reason: str, now: float) -> Package:
    """The package as of a run that is paused, if it is live; one that is paused already stays as it is."""
    row = package.generations[-1]
    if row.ended_at is not None or row.status == Status.PAUSED:
        return package
    parts = list(package.parts)
    changes = {"status": Status.PAUSED.value, "reason": reason, "block_code": None, "wake_at": None}
    held = msgspec.structs.replace(row, paused=row.wake_at or 0.0, **changes)
    parts[parts.index(row)] = held
    if row.paused is None:
        _post(parts, row.generation, ev.RunPaused(at=now, reason=reason))
    return Package(package.id, tuple(parts))


def renamed(packages: Sequence[Package], old: str, new: str) -> list[Package]:
    """These packages, with the run `old` under another id, for its children, too.

    Under another id it is another run. It acts under that id, also where it acted as the run that it retries. It
    goes on from its own former generation, not from that of whoever is called `old` there. And no parent waits for
    it: the end of a copy isn't the end of the child that was copied.

    Raises:
        MovingError: its events are sealed.
    """
    for package in packages:
        if package.id == old and any(
            isinstance(part, HistoryPart) and is_sealed(part.data) for part in package.parts
        ):
            msg = (
                f"run {old!r} can't be put there as {new!r}: its payloads are sealed, and bound to its id. Import it "
                "under its own id into a database that doesn't have it"
            )
            raise MovingError(msg)
    found: list[Package] = []
    for package in packages:
        tied = Package(package.id, tuple(_retied(part, package.id, old, new) for part in package.parts))
        if package.id == old:
            tied = tied.under(new, lambda seq, data: _recast(seq, data, old, new))
        elif _sent_by(package, old):
            tied = tied.under(package.id, lambda seq, data: _readdressed(seq, data, old, new))
        found.append(tied)
    return found


def _retied(part: AnyPart, id: str, old: str, new: str) -> AnyPart:
    if not isinstance(part, Generation):
        return part
    if id == old:
        return msgspec.structs.replace(part, parent_id=None, parent_generation=None, parent_op=None)
    return msgspec.structs.replace(part, parent_id=new) if part.parent_id == old else part


def _recast(seq: int, data: bytes, old: str, new: str) -> bytes:
    """How a generation was started. Its `parent` stays: code may have looked at it."""
    started = _started(seq, data)
    if started is None:
        return data
    donor = started.donor
    if donor is not None and donor.run == short(old):
        donor = msgspec.structs.replace(donor, run=short(new))
    recast = msgspec.structs.replace(started, keys_of=None, donor=donor)
    return data if recast == started else encode_event(recast)


def _sent_by(package: Package, id: str) -> bool:
    row = package.generations[0]
    return row.parent_id == id and step_of(row.workflow) is not None


def _readdressed(seq: int, data: bytes, old: str, new: str) -> bytes:
    """How an errand was started that the run had sent: whose step it is."""
    started = _started(seq, data)
    if started is None:
        return data
    errand = decode_errand(started.input)
    if errand.run != old:
        return data
    input = encode_errand(msgspec.structs.replace(errand, run=new, keys_of=None))
    return encode_event(msgspec.structs.replace(started, input=input))


def _started(seq: int, data: bytes) -> ev.RunStarted | None:
    event = _decoded(data) if seq == 1 else None
    return event if isinstance(event, ev.RunStarted) else None


def _pauses(part: AnyPart, row: Generation, reason: str) -> bool:
    if not isinstance(part, MailPart) or part.generation != row.generation or part.kind != MailKind.CONTROL:
        return False
    event = _event(part)
    return isinstance(event, ev.RunPaused) and event.reason == reason


def _event(part: HistoryPart | MailPart) -> ev.Event | None:
    return _decoded(part.data)


def _decoded(data: bytes) -> ev.Event | None:
    try:
        return decode_event(data)
    except UndecodableError:
        return None


def _post(parts: list[AnyPart], generation: int, event: ev.Event) -> None:
    """Add an item to the inbox, at the place where a store would give it."""
    last = max(place for place, part in enumerate(parts) if isinstance(part, HistoryPart | MailPart))
    parts.insert(last + 1, MailPart(generation, MailKind.CONTROL.value, encode_event(event)))
