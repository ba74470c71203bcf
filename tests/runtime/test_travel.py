"""A run's state after any of its events: lines, variables, tasks; and code that isn't what it was, or never ends."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import perdure
from helpers import travel_programs as programs
from helpers.travel_programs import line_of
from perdure.codec.events import encode_event
from perdure.core.events import StepCompleted
from perdure.core.standing import Frame, Standing, StandingTask
from perdure.runtime import guard
from perdure.runtime.definitions import workflow_named
from perdure.runtime.travel import Journey, Traveller
from perdure.runtime.turns import Turns

PATIENCE = 60.0

#: What was opened while somebody listened.
_opened: list[str] = []
_listening: set[int] = set()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _listening and threading.get_ident() in _listening:
        if event in ("open", "subprocess.Popen", "os.system") or event.startswith(("socket.", "sqlite3.")):
            _opened.append(f"{event} {args[:1]}")


sys.addaudithook(_hook)


@pytest.fixture
def turns() -> Iterator[Turns]:
    guard.install()
    made = Turns(PATIENCE)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    programs.changed.clear()
    yield
    programs.changed.clear()


async def _recorded(call: Any, id: str = "r") -> tuple[Journey, list[bytes]]:
    async with perdure.Engine("memory:") as engine:
        handle = await engine.start(call, id=id)
        try:
            await handle.result(timeout=PATIENCE)
        except perdure.RunFailed:
            pass
        connection = engine._open()
        row = await connection.row(id)
        (history,) = await connection.store.load([row.run])
        journey = Journey(row.run, id, row.generation, row.workflow, row.started_at or row.created_at)
        return journey, list(history.events)


def _traveller(call: Any, turns: Turns) -> Traveller:
    journey, events = asyncio.run(_recorded(call))
    return _of(journey, events, turns)


def _of(journey: Journey, events: list[bytes], turns: Turns) -> Traveller:
    definition = workflow_named(journey.workflow)
    assert definition is not None
    return Traveller(journey, events, definition, turns, 1 << 21)


def _own(task: StandingTask) -> list[Frame]:
    return [frame for frame in task.frames if not frame.library]


def _variables(frame: Frame) -> dict[str, str]:
    return {variable.name: variable.text for variable in frame.variables}


def _line(frame: Frame, standing: Standing) -> str:
    """The text of the line at which a frame stands."""
    assert frame.source is not None
    source = standing.sources[frame.source]
    return source.lines[frame.line - source.first].strip()


def test_a_list_that_grows_is_as_it_was_at_each_event(turns: Turns) -> None:
    traveller = _traveller(programs.collects(4), turns)
    seen = []
    for seq in range(1, traveller.events):
        standing = traveller.standing(seq)
        (task,) = standing.tasks
        assert task.name == "main"
        if task.ended:
            assert task.awaits == "returned [0, 2, 4, 6]"
            break
        (frame,) = task.frames
        assert task.operation == f"helpers.travel_programs.double#{seq}"
        assert frame.line == line_of("collects")
        assert _line(frame, standing) == "found.append(await double(number))  # collects"
        seen.append(_variables(frame)["found"])
    assert seen == ["[]", "[0]", "[0, 2]", "[0, 2, 4]"]
    assert traveller.standing(2).operations[0].what == "helpers.travel_programs.double"


def test_the_ways_to_the_changes_of_a_variable(turns: Turns) -> None:
    traveller = _traveller(programs.collects(4), turns)
    assert traveller.change(1, 1, 0, "found", "next") == 2
    assert traveller.change(2, 1, 0, "found", "next") == 3
    assert traveller.change(4, 1, 0, "found", "previous") == 3
    assert traveller.change(1, 1, 0, "found", "previous") is None
    assert traveller.change(1, 1, 0, "count", "next") == 5  # it is gone with the function
    assert traveller.change(1, 9, 0, "found", "next") is None
    assert traveller.change(1, 1, 9, "found", "next") is None


def test_every_branch_has_its_line_and_its_variables(turns: Turns) -> None:
    traveller = _traveller(programs.branches(), turns)
    met: dict[str, set[int]] = {}
    told: set[str] = set()
    for seq in range(1, traveller.events + 1):
        standing = traveller.standing(seq)
        assert standing.stop is None
        assert len({task.id for task in standing.tasks}) == len(standing.tasks)
        for task in standing.tasks:
            told.add(task.awaits.partition(":")[0])
            for frame in _own(task):
                met.setdefault(frame.function, set()).add(frame.line)
                if frame.function == "branch":
                    assert _variables(frame)["name"] in ("'a'", "'c'", "'d'", "'e'")
    assert met["numbers"] == {line_of("yields")}  # inside an async generator
    assert met["branch"] == {line_of("adds")}
    assert met["slow_branch"] == {line_of("sleeps")}
    lines = {line_of("goes through"), line_of("gathers"), line_of("groups"), line_of("in the group")}
    assert lines <= met["branches"]
    assert {"gather", "the tasks of its TaskGroup", "an item of an asyncio.Queue", "timer 2/sleep"} <= told
    assert any(task.name == "the c" for seq in range(1, 12) for task in traveller.standing(seq).tasks)


def test_an_exception_that_is_handled_is_told_and_one_that_ends_the_run_shows_where(turns: Turns) -> None:
    traveller = _traveller(programs.handles(), turns)
    handling = [
        (frame.line, frame.handling)
        for seq in range(1, traveller.events + 1)
        for task in traveller.standing(seq).tasks
        for frame in task.frames
        if frame.handling
    ]
    assert set(handling) == {(line_of("handles"), "ValueError('no')")}
    (end,) = traveller.standing(traveller.events).tasks
    assert (end.ended, end.awaits) == ("raised", "raised LookupError('order 7')")
    (frame,) = end.frames
    assert frame.line == line_of("raises")
    assert _variables(frame)["order"] == "Order(number=7, password=(hidden))"


def test_hostile_huge_and_secret_values_are_texts(turns: Turns) -> None:
    traveller = _traveller(programs.hostile(), turns)
    began = time.process_time()
    standing = traveller.standing(1)
    assert time.process_time() - began < 5
    variables = _variables(standing.tasks[0].frames[0])
    assert variables["broken"] == "Hostile(text='inside')"
    assert variables["spinning"] == "<Spinning>"
    assert variables["text"] == "'<script>alert(1)</script>'"
    assert variables["api_key"] == "(hidden)"
    assert variables["round"] == "[<list, around this>]"
    assert len(msgspec.json.encode(standing)) < 20_000


def test_code_that_has_changed_is_shown_up_to_where_it_differs(turns: Turns) -> None:
    traveller = _traveller(programs.changes(), turns)
    programs.changed["way"] = "other"
    end = traveller.standing(traveller.events)
    assert end.stop is not None
    assert (end.stop.kind, end.stop.seq, end.seq) == ("diverged", 3, 2)
    assert "helpers.travel_programs.refuse" in end.stop.text
    assert _variables(end.tasks[0].frames[0]) == {"first": "2"}
    before = traveller.standing(1)
    assert (before.seq, before.stop) == (1, None)


def test_code_that_never_ends_is_interrupted_and_shown_before_that() -> None:
    guard.install()
    turns = Turns(1.0)
    traveller = _traveller(programs.changes(), turns)
    programs.changed["way"] = "spins"
    standing = traveller.standing(3)
    assert standing.stop is not None
    assert (standing.stop.kind, standing.stop.seq, standing.seq) == ("endless", 2, 1)
    assert (
        f"travel_programs.py:{line_of('spins')}" in standing.stop.text
        or "travel_programs" in standing.stop.text
    )
    assert standing.tasks[0].operation == "helpers.travel_programs.double#1"
    turns.close()


@pytest.mark.parametrize("program", [programs.changes, programs.unguarded], ids=["guarded", "unguarded"])
def test_code_that_opens_a_file_is_refused_whatever_it_says(turns: Turns, program: Any) -> None:
    traveller = _traveller(program(), turns)
    programs.changed["way"] = "reads"
    _opened.clear()
    _listening.add(threading.get_ident())
    try:
        standing = traveller.standing(traveller.events)
    finally:
        _listening.clear()
    assert standing.stop is not None
    assert standing.stop.seq == 3
    files = [text for text in _opened if text.startswith("open")]
    assert all(
        "travel_programs.py" in text for text in files
    )  # asked for, and refused by the guard; or as its text
    assert "ForbiddenInWorkflowError" in standing.stop.text or "has ended" in standing.stop.text
    assert not [text for text in _opened if not text.startswith("open")]


def test_nothing_is_opened_on_the_way(turns: Turns) -> None:
    traveller = _traveller(programs.branches(), turns)
    traveller.standing(1)  # its text is read once
    traveller.standing(traveller.events)
    _opened.clear()
    _listening.add(threading.get_ident())
    try:
        for seq in random.Random(7).choices(range(1, traveller.events + 1), k=40):
            traveller._drawn.clear()
            traveller.standing(seq)
            traveller.change(seq, 1, 0, "out", "next")
        traveller.close()
    finally:
        _listening.clear()
    assert _opened == []


@pytest.mark.parametrize(
    "call",
    [lambda: programs.branches(), lambda: programs.collects(6), lambda: programs.handles()],
    ids=["branches", "collects", "handles"],
)
def test_going_back_and_forth_shows_what_a_fresh_replay_shows(turns: Turns, call: Any) -> None:
    traveller = _traveller(call(), turns)
    fresh = [
        _of(traveller.journey, traveller._events, turns).standing(seq)
        for seq in range(1, traveller.events + 1)
    ]
    assert all(standing.stop is None for standing in fresh)
    for seq in random.Random(3).choices(range(1, traveller.events + 1), k=60):
        assert traveller.standing(seq) == fresh[seq - 1]
        traveller._drawn.clear()


def test_a_run_that_goes_on_is_followed(turns: Turns) -> None:
    journey, events = asyncio.run(_recorded(programs.collects(4)))
    traveller = _of(journey, events[:2], turns)
    assert traveller.standing(2).events == 2
    traveller.extend(events[2:])
    assert traveller.standing(2).events == len(events)
    assert traveller.standing(4).tasks[0].operation == "helpers.travel_programs.double#4"


def test_a_damaged_history_is_shown_before_the_damage(turns: Turns) -> None:
    journey, events = asyncio.run(_recorded(programs.collects(4)))
    damaged = msgspec.structs.replace(journey, damaged=(3, "event 3 isn't what was recorded"))
    standing = _of(damaged, events, turns).standing(5)
    assert standing.seq == 2
    assert standing.stop is not None
    assert (standing.stop.kind, standing.stop.seq) == ("damaged", 3)


def test_a_recorded_value_that_does_not_fit_is_told(turns: Turns) -> None:
    journey, events = asyncio.run(_recorded(programs.collects(4)))
    wrong = StepCompleted(
        at=1.0, step="helpers.travel_programs.double#2", attempt=1, started_at=1.0, result=b'"text"'
    )
    events[2] = encode_event(wrong)
    standing = _of(journey, events, turns).standing(4)
    assert standing.stop is not None
    assert (standing.stop.kind, standing.stop.seq) == ("unreadable", 3)


def test_code_that_cannot_even_begin_is_told(turns: Turns) -> None:
    journey, events = asyncio.run(_recorded(programs.collects(4)))
    definition = workflow_named("helpers.travel_programs.changes")
    assert definition is not None
    standing = Traveller(journey, events, definition, turns, 1 << 21).standing(3)
    assert (standing.seq, standing.tasks) == (0, ())
    assert standing.stop is not None
    assert (standing.stop.kind, standing.stop.seq) == ("diverged", 1)


async def _entity() -> tuple[Journey, list[bytes]]:
    async with perdure.Engine("memory:") as engine:
        counter = engine.entity(programs.Counter, "c")
        assert await counter.add(1) == 2
        assert await counter.add(2) == 6
        connection = engine._open()
        (id,) = [run.id async for run in engine.runs()]
        row = await connection.row(id)
        events = [data for _, data in await connection.store.events(row.run, limit=100)]
        return Journey(row.run, row.id, row.generation, row.workflow, row.created_at), events


def test_a_call_of_an_entity_is_gone_through(turns: Turns) -> None:
    journey, events = asyncio.run(_entity())
    traveller = _of(journey, events, turns)
    sums: set[str] = set()
    for seq in range(1, len(events) + 1):
        standing = traveller.standing(seq)
        assert standing.stop is None, standing.stop.text
        assert standing.seq == seq
        for task in standing.tasks:
            for frame in _own(task):
                if frame.function == "Counter.add" and frame.line == line_of("counts"):
                    sums.add(_variables(frame)["self"])
    assert sums == {"Counter(key='c', state={'sum': 2})", "Counter(key='c', state={'sum': 6})"}


def test_of_a_crowd_of_tasks_only_so_much_is_shown(turns: Turns) -> None:
    traveller = _traveller(programs.crowded(2000), turns)
    standing = next(
        standing
        for standing in (traveller.standing(seq) for seq in range(1, traveller.events + 1))
        if len(standing.tasks) > 1
    )
    assert (len(standing.tasks), standing.more) == (200, 1801)
    assert (len(standing.operations), standing.more_operations) == (500, 1501)
    shown = [task for task in standing.tasks if task.frames[0].variables]
    assert 50 < len(shown) < 200
    assert standing.tasks[-1].frames[0].more == 2
    assert len(msgspec.json.encode(standing)) < 1_000_000
