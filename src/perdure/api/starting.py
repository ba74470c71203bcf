"""Creating runs, and what it means when there is one with the id already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.api.call import Call, WorkflowCall
from perdure.api.connection import Connection
from perdure.api.talking import ended_error, full_error
from perdure.codec.events import decode_event, encode_event
from perdure.core import events as ev
from perdure.errors import RunConflictError, UsageError
from perdure.storage.records import Created, Delivery, NewRun, RunRow, same_work
from perdure.storage.scoping.records import row_within


def workflow_call(call: Call[Any]) -> WorkflowCall[Any]:
    """The call of a workflow, which is used up by this. Raises UsageError if it is none."""
    if isinstance(call, Call):
        call.mark_used()
    if not isinstance(call, WorkflowCall):
        msg = f"an engine runs the call of a workflow, as in engine.run(research('x')); got {call!r}"
        raise UsageError(msg)
    return call


async def create_runs(connection: Connection, items: Sequence[NewRun], if_exists: str) -> list[str]:
    """Create runs in one commit, and begin to drive them here if that can be.

    Returns:
        The ids of the runs that are meant: with a dedup that may be another's.

    Raises:
        UsageError: `if_exists` says nothing.
        RunConflictError, RunEndedError: as `check_met`.
    """
    if if_exists not in ("attach", "fail", "restart"):
        msg = f'if_exists={if_exists!r} must be "attach", "fail" or "restart"'
        raise UsageError(msg)
    # shielded: a caller who stops waiting mustn't leave runs behind that are ours, but not driven
    created = await asyncio.shield(asyncio.ensure_future(_make(connection, items)))
    met = [(item, made) for item, made in zip(items, created, strict=True) if not made.new]
    if if_exists == "restart" and met:
        # those that meet a live run are refused before any other is made to follow an ended one
        for item, made in met:
            check_met(item, made, if_exists)
        following = [following_run(item, made.row) for item, made in met]
        await create_runs(connection, following, if_exists)
        return [made.row.id for made in created]
    for item, made in met:
        check_met(item, made, if_exists)
    return [made.row.id for made in created]


def following_run(item: NewRun, row: RunRow) -> NewRun:
    """The same run as the next generation of an ended one."""
    started = decode_event(item.first_event)
    assert isinstance(started, ev.RunStarted)
    generation = row.generation + 1
    first = msgspec.structs.replace(started, generation=generation, keys=generation)
    return msgspec.structs.replace(
        item, first_event=encode_event(first), generation=generation, follows=row.run
    )


async def _make(connection: Connection, items: Sequence[NewRun]) -> list[Created]:
    created = await connection.store.create(items)
    for item, made in zip(items, created, strict=True):
        if not made.new and (item.mail or item.debounce):
            connection.nudge()
        if made.new and (worker := connection.worker) is not None:
            if made.row.owner is not None and made.row.owner == item.owner:
                worker.adopt(row_within(made.row, connection.within), item.first_event)
            else:
                worker.poke()
    return created


def check_met(item: NewRun, met: Created, if_exists: str) -> None:
    """A start has met a run that has its id: make sure that it may mean that one.

    Raises:
        RunConflictError: it may not.
        InboxFullError: it may, but too many messages wait there.
        RunEndedError: it may, but that run has ended, and the start's messages were for a live one.
    """
    row = met.row
    if if_exists == "restart":
        if row.ended_at is not None:
            return
        msg = (
            f"run {row.id!r} can't be restarted: it is {row.status}. Wait for its end, or terminate it first"
        )
    elif if_exists == "fail":
        why = "" if row.id == item.id else " with this dedup, of which only one may be live,"
        msg = f'run {row.id!r}{why} exists already ({row.status}), and if_exists="fail" was given'
    elif same_work(item, row) or (met.dedup and row.workflow == item.workflow):
        if met.delivery is Delivery.INBOX_FULL:
            raise full_error(row.id, "the messages that came with the start weren't")
        if met.delivery is not Delivery.RUN_ENDED:
            return
        raise ended_error(row.id, "the messages that came with the start weren't")
    elif row.workflow != item.workflow and row.id != item.id:
        msg = (
            f"the dedup belongs to run {row.id!r} of {row.workflow}, not of {item.workflow}: use another one"
        )
    elif row.workflow != item.workflow:
        msg = f"the id {item.id!r} belongs to a run of {row.workflow}, not of {item.workflow}: use another id"
    else:
        msg = (
            f"run {item.id!r} was started with other input: use another id, or engine.get(id) for the old one"
        )
    raise RunConflictError(msg)
