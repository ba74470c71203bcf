"""What appends do besides growing a history: each kind of effect by its statements, in the append's transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.budgets import AwaitMoney
from perdure.storage.callbacks import OpenCallback, WithdrawCallback
from perdure.storage.effects import DeliverMessage, Effect, KeepCheckpoint, SetUpdate, StepDetail
from perdure.storage.errands import StopErrand
from perdure.storage.ledger import Book, Inherit
from perdure.storage.publications import CloseWait, CloseWaits, OpenWait, Publish
from perdure.storage.records import Append
from perdure.storage.sqlite import attributes, budgets, ledger, publications, streams, versions
from perdure.storage.sqlite.callbacks import open_callback, withdraw_callback
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.errands import stop_errand
from perdure.storage.sqlite.lifecycle import send_message
from perdure.storage.sqlite.updates import set_update
from perdure.storage.streams import Emit, Settle, Supersede


def _send(db: Database, append: Append, effect: DeliverMessage) -> None:
    for run, *_ in db.rows("key_of", {"id": effect.to}):
        send_message(db, run, effect.data, append.now)


def _keep_detail(db: Database, append: Append, effect: StepDetail) -> None:
    given: dict[str, Value] = {"run": append.run, "step": effect.step}
    if effect.data is None:
        db.run("forget_detail", given)
    else:
        db.run("keep_detail", {**given, "data": effect.data, "at": effect.at})


def _keep_checkpoint(db: Database, append: Append, effect: KeepCheckpoint) -> None:
    db.run("keep_checkpoint", {"run": append.run, "seq": append.expected})


_WAYS: dict[type[Effect], Callable[[Database, Append, Any], None]] = {
    OpenCallback: open_callback,
    WithdrawCallback: withdraw_callback,
    DeliverMessage: _send,
    SetUpdate: set_update,
    StepDetail: _keep_detail,
    KeepCheckpoint: _keep_checkpoint,
    Emit: streams.emit,
    Supersede: streams.supersede,
    Settle: streams.settle,
    SetAttributes: attributes.set_attributes,
    MarkPatched: attributes.mark_patched,
    Misfit: versions.misfit,
    StopErrand: stop_errand,
    Publish: publications.publish,
    OpenWait: publications.open_wait,
    CloseWait: publications.close_wait,
    CloseWaits: publications.close_waits,
    Book: ledger.book,
    Inherit: ledger.inherit,
    AwaitMoney: budgets.await_money,
}


def take_effect(db: Database, append: Append, effect: Effect) -> None:
    """Do what an effect of a passed append says."""
    _WAYS[type(effect)](db, append, effect)
