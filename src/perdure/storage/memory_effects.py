"""What appends do besides growing a history, in a memory database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.core.status import Status
from perdure.storage import (
    memory_attributes,
    memory_budgets,
    memory_ledger,
    memory_publications,
    memory_streams,
    memory_versions,
)
from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.budgets import AwaitMoney
from perdure.storage.callbacks import OpenCallback, WithdrawCallback
from perdure.storage.effects import DeliverMessage, Effect, KeepCheckpoint, SetUpdate, StepDetail
from perdure.storage.errands import StopErrand
from perdure.storage.ledger import Book, Inherit
from perdure.storage.memory_callbacks import open_callback, withdraw_callback
from perdure.storage.publications import CloseWait, CloseWaits, OpenWait, Publish
from perdure.storage.records import Append, Detail
from perdure.storage.streams import Emit, Settle, Supersede


def _send(db: Any, append: Append, effect: DeliverMessage) -> None:
    run = db.find_id(effect.to)
    if run is not None:
        db.send_message(run, effect.data, append.now)


def _set_update(db: Any, append: Append, effect: SetUpdate) -> None:
    key = (db.runs[append.run].id, effect.update)
    if key in db.updates:
        run, _, _, call = db.updates[key]
        db.updates[key] = (run, effect.state, effect.answer, call)


def _keep_detail(db: Any, append: Append, effect: StepDetail) -> None:
    details = db.runs[append.run].details
    details.pop(effect.step, None)
    if effect.data is not None:
        details[effect.step] = Detail(effect.step, effect.data, effect.at)


def _keep_checkpoint(db: Any, append: Append, effect: KeepCheckpoint) -> None:
    db.runs[append.run].checkpoint = append.expected


def _stop_errand(db: Any, append: Append, effect: StopErrand) -> None:
    run = db.find_id(effect.errand)
    if run is None or run.ended:
        return
    if run.started_at is None and run.owner is None:
        db.end_alone(run, effect.event, append.now, status=Status.CANCELLED.value)
        if effect.tell:
            db.tell_parent(run, Status.CANCELLED.value, append.now)
    elif effect.request is not None and db.deliver(run, effect.request, append.now):
        run.parent_op = None


_WAYS: dict[type[Effect], Callable[[Any, Append, Any], None]] = {
    OpenCallback: open_callback,
    WithdrawCallback: withdraw_callback,
    DeliverMessage: _send,
    SetUpdate: _set_update,
    StepDetail: _keep_detail,
    KeepCheckpoint: _keep_checkpoint,
    Emit: memory_streams.emit,
    Supersede: memory_streams.supersede,
    Settle: memory_streams.settle,
    SetAttributes: memory_attributes.set_attributes,
    MarkPatched: memory_attributes.mark_patched,
    Misfit: memory_versions.misfit,
    StopErrand: _stop_errand,
    Publish: memory_publications.publish,
    OpenWait: memory_publications.open_wait,
    CloseWait: memory_publications.close_wait,
    CloseWaits: memory_publications.close_waits,
    Book: memory_ledger.book,
    Inherit: memory_ledger.inherit,
    AwaitMoney: memory_budgets.await_money,
}


def take_effect(db: Any, append: Append, effect: Effect) -> None:
    """Do what an effect of a passed append says. `db` is the MemoryDatabase."""
    _WAYS[type(effect)](db, append, effect)
