"""Refuses histories that aren't what was recorded, before anything is done by them."""

from __future__ import annotations

from perdure.core.why import quoted
from perdure.errors import DamagedHistoryError
from perdure.storage.chain import Damage
from perdure.storage.records import History


def refuse_damaged(id: str, history: History) -> None:
    """Raise DamagedHistoryError unless the history of this run is sound."""
    if history.damage is not None:
        raise damaged(id, history.damage)


def refuse_damaged_before(id: str, history: History, upto: int | None) -> None:
    """The same for a history of which only the events before this one are used; None means all."""
    damage = history.damage
    if damage is not None and (upto is None or damage.seq is None or damage.seq < upto):
        raise damaged(id, damage)


def damaged(id: str, damage: Damage) -> DamagedHistoryError:
    """The error that tells what is wrong with the history of a run, and what to do."""
    rest = ""
    if damage.seq is not None and damage.seq > 1:
        rest = (
            f", or go on from what is before that as another run: perdure fork {quoted(id)} --at {damage.seq}"
        )
    return DamagedHistoryError(
        f"the history of run {id!r} is damaged: {damage.text}. Nothing is done by it any more. "
        f"See with `perdure check` what else is damaged. Bring the rows back from a backup, and then: "
        f"perdure resume {quoted(id)}{rest}",
        run_id=id,
        seq=damage.seq,
    )
