"""What appends do besides growing a history: each kind of effect by its statements, in the append's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.budgets import AwaitMoney
from perdure.storage.callbacks import OpenCallback, WithdrawCallback
from perdure.storage.effects import DeliverMessage, Effect, KeepCheckpoint, SetUpdate, StepDetail
from perdure.storage.errands import StopErrand
from perdure.storage.ledger import Book, Inherit
from perdure.storage.postgres import attributes, ledger, publications, streams, versions
from perdure.storage.postgres.budgets import Due
from perdure.storage.postgres.callbacks import open_callback, withdraw_callback
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.errands import stop_errands
from perdure.storage.postgres.lifecycle import send_message
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.updates import set_update
from perdure.storage.publications import CloseWait, CloseWaits, OpenWait, Publish
from perdure.storage.records import Append
from perdure.storage.streams import Emit, Settle, Supersede


async def _send(db: Database, append: Append, effect: DeliverMessage) -> None:
    run = await lock_newest(db, effect.to)
    if run is not None:
        await send_message(db, run, effect.data, append.now)


async def _keep_detail(db: Database, append: Append, effect: StepDetail) -> None:
    if effect.data is None:
        await db.run("forget_detail", run=append.run, step=effect.step)
    else:
        await db.run("keep_detail", run=append.run, step=effect.step, data=effect.data, at=effect.at)


async def _keep_checkpoint(db: Database, append: Append, effect: KeepCheckpoint) -> None:
    await db.run("keep_checkpoint", run=append.run, seq=append.expected)


_WAYS: dict[type[Effect], Callable[[Database, Append, Any], Awaitable[None]]] = {
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
    Publish: publications.publish,
    OpenWait: publications.open_wait,
    CloseWait: publications.close_wait,
    CloseWaits: publications.close_waits,
    Inherit: ledger.inherit,
}


async def take_effects(db: Database, append: Append) -> list[Due]:
    """Do what the effects of a passed append say, in their order; but errands are stopped together, at the end.

    Returns:
        What is due to budgets when the whole batch is done.
    """
    stops: list[StopErrand] = []
    due: list[Due] = []
    for effect in append.effects:
        if isinstance(effect, StopErrand):
            stops.append(effect)
        elif isinstance(effect, Book):
            charge = await ledger.book(db, append, effect)
            if charge is not None:
                due.append(charge)
        elif isinstance(effect, AwaitMoney):
            due.append((append.run, effect))
        else:
            await _WAYS[type(effect)](db, append, effect)
    if stops:
        await stop_errands(db, append, stops)
    return due
