"""Replays recorded histories with the code that is here, without any effect, and says where they disagree.

A history comes from a database, or from a file that `perdure export` has written: such files are fixtures, which prove
that tomorrow's code still drives yesterday's runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.commands import Ending, Finish
from perdure.core.machine import Machine
from perdure.errors import NonDeterminismError, PerdureError, UndecodableError, UnknownRunError, UsageError
from perdure.runtime import guard
from perdure.runtime.definitions import WorkflowDefinition, workflow_named
from perdure.runtime.machines import let_go, replayed
from perdure.runtime.turns import Turns
from perdure.storage.exports import read_export
from perdure.storage.histories import SUFFIX, read
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.protocol import Store
from perdure.storage.records import History, RunRow
from perdure.testing.histories import RecordedHistory

AnyPath: TypeAlias = "str | os.PathLike[str]"

_MAX_PAYLOAD = 1 << 30  # what was recorded was small enough where it was recorded


class RecordedRun(msgspec.Struct, frozen=True):
    """One generation of a run, as it was recorded."""

    row: RunRow
    history: History
    file: RecordedHistory | None = None  #: if `perdure verify` has recorded it

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def workflow(self) -> str:
        return self.row.workflow

    @property
    def events(self) -> list[ev.Event]:
        return [decode_event(data) for data in self.history.events]

    def __repr__(self) -> str:
        return f"<recorded run {self.id!r} of {self.workflow}, {len(self.history.events)} events>"


async def history_of(store: Store, id: str) -> RecordedRun:
    """What is recorded of a run.

    Raises:
        UnknownRunError: there is none of this id.
    """
    (row,) = await store.get([id])
    if row is None:
        msg = f"no run has the id {id!r}"
        raise UnknownRunError(msg, run_id=id)
    (history,) = await store.load([row.run])
    return RecordedRun(row, history)


async def load_histories(*paths: AnyPath) -> list[RecordedRun]:
    """The runs in files of `perdure export` (their newest generations) or `perdure verify --export-histories`.

    Folders stand for all files in them that are named so (`*.jsonl`).

    Raises:
        MovingError, HistoryFileError: a file isn't what it should be.
        UsageError: a folder has none.

    Example:
        >>> for recorded in await load_histories("tests/histories"):  # doctest: +SKIP
        ...     await assert_replays(recorded)
    """
    found: list[RecordedRun] = []
    for path in _files(paths):
        if path.name.endswith(SUFFIX):
            found.append(_of_file(RecordedHistory(path, read(path))))
            continue
        packages = read_export(path.read_bytes().splitlines(keepends=True))
        store = MemoryStore(MemoryDatabase())
        await store.open()
        try:
            for package in packages:
                await store.moving.put([package])
                found.append(await history_of(store, package.id))
        finally:
            await store.close()
    return found


def _of_file(file: RecordedHistory) -> RecordedRun:
    header, events = file.recorded.header, file.recorded.events
    row = RunRow(
        run=0, id=header.id, workflow=header.workflow, status=header.status, queue="default", fingerprint=b"",
        seq=len(events), epoch=1, owner=None, created_at=header.began, updated_at=header.began, started_at=header.began,
        ended_at=None, wake_at=None, mail=0, recoveries=0, semantics=ev.SEMANTICS_VERSION, reason=None, block_code=None,
        parent=None, parent_id=None, parent_op=None, on_parent_close="cancel", generation=header.generation, next=None,
        version=header.version, pinned=False, chain=0,
    )  # fmt: skip
    return RecordedRun(row, History(0, events, ()), file)


def _files(paths: Sequence[AnyPath]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob("*.jsonl"))
            if not inside:
                msg = f"{path} has no *.jsonl files: put what `perdure export` writes there, under such names"
                raise UsageError(msg)
            files += inside
        else:
            files.append(path)
    return files


async def assert_replays(recorded: RecordedRun | AnyPath) -> None:
    """The code that is here does by a history what it did then.

    Args:
        recorded: from `load_histories`; or an export's path, all of whose runs are replayed.

    Raises:
        AssertionError: the code does something else; the text says where, and what the history says.
    """
    runs = [recorded] if isinstance(recorded, RecordedRun) else await load_histories(recorded)
    for run in runs:
        await assert_history_replays(run)


async def assert_history_replays(recorded: RecordedRun) -> None:
    """See assert_replays."""
    if recorded.file is not None and recorded.file.redacted:
        recorded.file.replay()
        return
    definition = workflow_named(recorded.workflow)
    if definition is None:
        raise AssertionError(
            f"run {recorded.id!r} can't be replayed: nothing that was imported defines workflow {recorded.workflow!r}"
        )
    guard.install()
    turns = Turns(None)
    try:
        machine = await replayed(recorded.row, definition, recorded.history, turns, _MAX_PAYLOAD)
    except (NonDeterminismError, UndecodableError) as error:
        raise AssertionError(str(error)) from error
    try:
        differs = _ended_otherwise(recorded, definition, machine)
    finally:
        let_go(machine, turns)
        turns.close()
    if differs is not None:
        raise AssertionError(f"run {recorded.id!r} ends otherwise when it is replayed: {differs}")


def _ended_otherwise(recorded: RecordedRun, definition: WorkflowDefinition, machine: Machine) -> str | None:
    """How a replay's end differs from what is recorded; None if it doesn't."""
    if not recorded.history.events or definition.entity:
        return None
    last = decode_event(recorded.history.events[-1])
    ends = [command for command in machine.take_commands() if isinstance(command, Finish)]
    if not isinstance(last, ev.RunCompleted | ev.RunFailed):
        return None
    if isinstance(last, ev.RunFailed) and last.timed_out:
        return None
    if not ends:
        return f"the history says that it ended ({type(last).__name__}), and the code still waits"
    end = ends[0]
    if isinstance(last, ev.RunCompleted):
        if end.ending is not Ending.RETURNED:
            return f"it has returned {last.result.decode()}, and the code now raises {end.error!r}"
        try:
            data, _ = definition.result.record(end.value)
        except PerdureError as error:
            return f"it has returned {last.result.decode()}, and the code's result now can't be recorded: {error}"
        if data != last.result:
            return f"it has returned {last.result.decode()}, and the code now returns {data.decode()}"
        return None
    if end.ending is not Ending.RAISED:
        return f"it has failed with {last.failure.type}: {last.failure.message}, and the code now doesn't"
    return None
