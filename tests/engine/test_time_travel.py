"""Looking into a run's past from an engine: in a process of its own, which changes nothing and can do no harm."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw
import pytest

import perdure
from helpers import travel_programs as programs
from helpers.travel_programs import line_of
from perdure.core.standing import Standing
from perdure.runtime import definitions
from perdure.runtime.travelling import IMPORT_WITHIN

PATIENCE = 60.0


def told(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test of an `async def` that is given an engine."""

    async def tell(tmp_path: Path, given: dict[str, Any]) -> None:
        async with perdure.Engine(f"sqlite:///{tmp_path / 'runs.db'}") as engine:
            await story(engine, **given)

    def test(**given: Any) -> None:
        path = given["tmp_path"] if wants_path else given.pop("tmp_path")
        asyncio.run(tell(path, given))

    signature = inspect.signature(story)
    wants_path = "tmp_path" in signature.parameters
    names = [name for name in signature.parameters if name != "engine"]
    names += [] if wants_path else ["tmp_path"]
    test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    )
    return test


def _variables(standing: Standing) -> dict[str, str]:
    return {variable.name: variable.text for variable in standing.tasks[0].frames[0].variables}


@told
async def test_a_run_is_shown_as_it_stood_and_nothing_is_written(
    engine: perdure.Engine, tmp_path: Path
) -> None:
    handle = await engine.start(programs.collects(3), id="r-1")
    await handle.result(timeout=PATIENCE)
    watcher = apsw.Connection(str(tmp_path / "runs.db"))
    version = watcher.pragma("data_version")
    files = {path.name for path in tmp_path.iterdir()}

    standing = await handle.at(2)
    assert (standing.seq, standing.events, standing.stop) == (2, 5, None)
    assert standing.tasks[0].frames[0].line == line_of("collects")
    assert _variables(standing) == {"count": "3", "found": "[0]", "number": "1"}
    assert _variables(await handle.at(3))["found"] == "[0, 2]"
    assert (await handle.at()).tasks[0].awaits == "returned [0, 2, 4]"
    assert await handle.change_of("found", 2) == 3
    assert await handle.change_of("found", 3, direction="previous") == 2

    assert watcher.pragma("data_version") == version
    assert {path.name for path in tmp_path.iterdir()} == files
    watcher.close()
    with pytest.raises(perdure.errors.UsageError, match="from 1 to 5"):
        await handle.at(6)
    with pytest.raises(perdure.UnknownRunError):
        await engine.get("nobody").at(1)


@told
async def test_every_generation_has_a_past_of_its_own(engine: perdure.Engine) -> None:
    handle = await engine.start(programs.goes_on(1), id="r-1")
    await handle.result(timeout=PATIENCE)
    before = await handle.at(generation=1)
    assert (before.generation, before.tasks[0].ended) == (1, "continued")
    assert _variables(await handle.at(1, generation=1)) == {"generation": "1"}
    assert (await handle.at()).tasks[0].awaits == "returned 4"


@told
async def test_an_entity_is_gone_through_from_its_beginning(engine: perdure.Engine) -> None:
    counter = engine.entity(programs.Counter, "c")
    for number in range(3):
        await counter.add(number)
    (run,) = [run async for run in engine.runs()]
    handle = engine.get(run.id)
    ways = [await handle.at(seq) for seq in range(1, run.events + 1)]
    assert [standing.stop for standing in ways] == [None] * run.events
    texts = [
        variable.text
        for way in ways
        for task in way.tasks
        for frame in task.frames
        for variable in frame.variables
    ]
    assert "Counter(key='c', state={'sum': 2})" in texts


@pytest.mark.parametrize("way", ["sticks", "exits", "spins"])
@told
async def test_code_that_never_ends_or_ends_its_process_does_no_harm(
    engine: perdure.Engine, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await engine.start(programs.changes(), id="r-1")
    await handle.result(timeout=PATIENCE)
    travelling = engine._open().travelling
    assert (await handle.at(1)).stop is None
    await travelling.close()
    monkeypatch.setenv("TRAVEL_WAY", way)
    assert (await handle.at(1)).stop is None  # the process is there
    travelling.within = 1.0 if way == "sticks" else IMPORT_WITHIN
    if way == "spins":
        standing = await handle.at()
        assert standing.stop is not None
        assert (standing.stop.kind, standing.seq) == ("endless", 1)
        return
    with pytest.raises(perdure.TravelError, match="within 1 s" if way == "sticks" else "has died"):
        await handle.at()
    monkeypatch.delenv("TRAVEL_WAY")
    assert (await handle.at()).tasks[0].awaits == "returned 8"


@told
async def test_code_that_is_not_here_is_named_with_the_way_to_it(
    engine: perdure.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await engine.start(programs.collects(1), id="r-1")
    await handle.result(timeout=PATIENCE)
    monkeypatch.delitem(definitions._workflows, "helpers.travel_programs.collects")
    with pytest.raises(perdure.NoCodeError, match="--module MODULE"):
        await handle.at(1)


@told
async def test_code_that_no_other_process_can_import_is_told(engine: perdure.Engine) -> None:
    @perdure.workflow(name="travel.local")
    async def local() -> int:
        return 1

    handle = await engine.start(local(), id="r-1")
    await handle.result(timeout=PATIENCE)
    with pytest.raises(perdure.NoCodeError, match="at the top level of a module"):
        await handle.at(1)


MODULE = """
import perdure

@perdure.step
async def one() -> int:
    return 1

@perdure.workflow
async def edited() -> int:
    value = await one()
    return value
"""


@told
async def test_code_that_is_edited_is_shown_as_it_is_now(
    engine: perdure.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    file = folder / "travel_edited.py"
    file.write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    module: Any = __import__("travel_edited")
    handle = await engine.start(module.edited(), id="r-1")
    await handle.result(timeout=PATIENCE)
    assert (await handle.at(1)).stop is None
    file.write_text(MODULE.replace("    value =", "    await one()\n    await one()\n    value ="))
    os.utime(file, ns=(1, 1))  # whatever the clock of the file system is good for
    standing = await handle.at()
    assert standing.stop is not None
    assert (standing.stop.kind, standing.stop.seq, standing.seq) == ("diverged", 3, 2)
    sys.modules.pop("travel_edited")


@told
async def test_many_who_look_at_once_are_all_answered(engine: perdure.Engine) -> None:
    handles = [await engine.start(programs.collects(number), id=f"r-{number}") for number in range(1, 8)]
    for handle in handles:
        await handle.result(timeout=PATIENCE)
    found = await asyncio.gather(*(handle.at(1) for handle in handles), *(handle.at() for handle in handles))
    assert [standing.run for standing in found] == 2 * [handle.id for handle in handles]
    impatient = asyncio.ensure_future(handles[0].at(1))
    await asyncio.sleep(0)
    impatient.cancel()
    assert _variables(await handles[0].at(1)) == {"count": "1", "found": "[]", "number": "0"}
