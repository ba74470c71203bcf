"""Recorded histories are replayed with today's code, from a run and from files of `perdure export`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import RunFailed, step, workflow
from perdure.errors import MovingError, UsageError
from perdure.runtime import definitions
from perdure.storage.exports import export_lines
from perdure.testing import Environment, assert_replays, load_histories


@step
async def fetch(url: str) -> str:
    return f"page of {url}"


@workflow
async def reads(url: str) -> str:
    return await fetch(url)


@workflow
async def breaks() -> str:
    raise ValueError(await fetch("a"))


async def exported(folder: Path, *calls: Any) -> list[Path]:
    """The files of these runs."""
    files = []
    async with Environment() as env:
        for number, call in enumerate(calls):
            handle = await env.start(call, id=f"r-{number}")
            try:
                await handle.result()
            except RunFailed:
                pass
            await env.assert_replays(handle)
            packages = await env.engine._store.moving.read([handle.id])
            files.append(folder / f"{number}.jsonl")
            files[-1].write_bytes(b"".join(export_lines([one for one in packages if one is not None])))
    return files


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return asyncio.run(exported(tmp_path, reads("a"), breaks()))


@pytest.fixture
def now_reads() -> Any:
    """Makes other code of the workflow."""

    def defines(code: Any) -> None:
        del definitions._workflows[reads.name]
        workflow(name=reads.name)(code)

    yield defines
    definitions._workflows[reads.name] = reads.definition


def test_todays_code_drives_yesterdays_runs(files: list[Path], tmp_path: Path) -> None:
    async def main() -> None:
        first, second = await load_histories(tmp_path)
        assert (first.id, first.workflow) == ("r-0", reads.name)
        assert [type(event).__name__ for event in first.events] == [
            "RunStarted",
            "StepCompleted",
            "RunCompleted",
        ]
        assert "3 events" in repr(first)
        await assert_replays(first)
        await assert_replays(second)
        await assert_replays(files[0])

    asyncio.run(main())


async def reads_another(url: str) -> str:
    return await fetch(url + "?")


async def reads_no_more(url: str) -> str:
    return url


async def reads_and_more(url: str) -> str:
    return await fetch(url) + await fetch("more")


async def shouts(url: str) -> str:
    return (await fetch(url)).upper()


async def fails(url: str) -> str:
    raise ValueError(await fetch(url))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (reads_another, r"(?s)disagree at event 2.*calls it with \[\[\"a\?\"\]"),
        (reads_no_more, "disagree at event 2"),
        (reads_and_more, "disagree at event 3"),
        (shouts, 'has returned "page of a", and the code now returns "PAGE OF A"'),
        (fails, "the code now raises ValueError"),
    ],
)
def test_code_that_would_do_otherwise_is_told_of(
    code: Any, told: str, files: list[Path], now_reads: Callable[[Any], None]
) -> None:
    now_reads(code)
    with pytest.raises(AssertionError, match=told):
        asyncio.run(assert_replays(files[0]))


def test_what_is_no_history_is_refused(tmp_path: Path, files: list[Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"no .*jsonl files"):
        asyncio.run(load_histories(empty))
    (empty / "a.jsonl").write_text("{}\n")
    with pytest.raises(MovingError, match="no export"):
        asyncio.run(load_histories(empty))
    del definitions._workflows[reads.name]
    try:
        with pytest.raises(AssertionError, match="nothing that was imported defines workflow"):
            asyncio.run(assert_replays(files[0]))
    finally:
        definitions._workflows[reads.name] = reads.definition
