"""What crosses the storage seam, from one namespace's point of view to the store's, and back.

*Inward* things get the namespace's prefix; *outward* they lose it. Whatever holds an id, a name or a key of a user's is
named here, and what an append does besides is looked up by its kind: an effect that nobody has thought of is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from perdure.core.namespaces import short
from perdure.storage import attributes, budgets, callbacks, effects, ledger, streams
from perdure.storage.errands import StopErrand
from perdure.storage.publications import CloseWait, CloseWaits, OpenWait, Publication, Publish
from perdure.storage.records import NewRun, RunRow
from perdure.storage.schedules import ScheduleRow

T = TypeVar("T")

_replace = msgspec.structs.replace


def _keyed(prefix: str, key: str | None) -> str | None:
    return None if key is None else prefix + key


def _bare(key: str | None) -> str | None:
    return None if key is None else short(key)


# -- runs -----------------------------------------------------------------------------------------------


def run_within(run: NewRun, prefix: str) -> NewRun:
    """A new run as it is stored: what names it, and what it names, in the namespace."""
    if not prefix:
        return run
    return _replace(
        run,
        id=prefix + run.id,
        key=_keyed(prefix, run.key),
        dedup=_keyed(prefix, run.dedup),
        donor=_keyed(prefix, run.donor),
        subject=_keyed(prefix, run.subject),
    )


def row_outside(row: RunRow) -> RunRow:
    """A run's row as its namespace sees it."""
    parent, key = row.parent_id, row.key
    return _replace(row, id=short(row.id), parent_id=_bare(parent), key=_bare(key))


def row_within(row: RunRow, prefix: str) -> RunRow:
    """The row that a namespace sees as it is stored."""
    if not prefix:
        return row
    parent = None if row.parent_id is None else prefix + row.parent_id
    return _replace(row, id=prefix + row.id, parent_id=parent, key=_keyed(prefix, row.key))


# -- what an append does besides ------------------------------------------------------------------------


def publication_within(publication: Publication, prefix: str) -> Publication:
    """A publication as it is stored. Its id is made of name and key: so it is the namespace's own, too."""
    return _replace(publication, id=prefix + publication.id, name=prefix + publication.name)


def publication_outside(publication: Publication) -> Publication:
    """A publication as its namespace sees it."""
    return _replace(publication, id=short(publication.id), name=short(publication.name))


def _entry(entry: ledger.Entry, prefix: str) -> ledger.Entry:
    if entry.used.key is None:
        return entry
    return _replace(entry, used=_replace(entry.used, key=prefix + entry.used.key))


def _same(effect: Any, prefix: str) -> Any:
    return effect


#: What each kind of effect becomes in a namespace.
_WAYS: dict[type[effects.Effect], Callable[[Any, str], effects.Effect]] = {
    effects.DeliverMessage: lambda effect, prefix: _replace(effect, to=prefix + effect.to),
    effects.KeepCheckpoint: _same,
    effects.SetUpdate: _same,
    effects.StepDetail: _same,
    StopErrand: lambda effect, prefix: _replace(effect, errand=prefix + effect.errand),
    attributes.SetAttributes: _same,
    attributes.MarkPatched: _same,
    attributes.Misfit: _same,
    budgets.AwaitMoney: _same,  # accounts are named by what the store has said
    callbacks.OpenCallback: _same,  # known by the hashes of secrets
    callbacks.WithdrawCallback: _same,
    ledger.Book: lambda effect, prefix: _replace(
        effect, entries=tuple(_entry(entry, prefix) for entry in effect.entries)
    ),
    ledger.Inherit: lambda effect, prefix: _replace(
        effect, donor=prefix + effect.donor, children=tuple(prefix + child for child in effect.children)
    ),
    streams.Emit: _same,  # a run's streams are found by the run
    streams.Supersede: _same,
    streams.Settle: _same,
    Publish: lambda effect, prefix: Publish(publication_within(effect.publication, prefix)),
    OpenWait: lambda effect, prefix: _replace(effect, name=prefix + effect.name),
    CloseWait: _same,
    CloseWaits: _same,
}


def effects_within(given: Sequence[effects.Effect], prefix: str) -> list[effects.Effect]:
    """What an append of a run in this namespace does besides.

    Raises:
        KeyError: a kind of effect that isn't known here, and might reach into another namespace.
    """
    return [_WAYS[type(effect)](effect, prefix) for effect in given]


# -- schedules ------------------------------------------------------------------------------------------


def schedule_within(row: ScheduleRow, prefix: str) -> ScheduleRow:
    """A schedule's row as it is stored. What is in its data has short ids, always."""
    return _replace(row, name=prefix + row.name, running=[prefix + id for id in row.running])


def schedule_outside(row: ScheduleRow) -> ScheduleRow:
    """A schedule's row as its namespace sees it."""
    return _replace(row, name=short(row.name), running=[short(id) for id in row.running])
