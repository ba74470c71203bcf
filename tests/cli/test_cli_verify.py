"""`perdure verify`: what it tells of runs that new code doesn't fit, and that it changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import changing
import pytest

from conftest import Cli
from helpers.damage import raw_access
from helpers.postgres import lent_database
from perdure import Call, Engine
from perdure.errors import HistoryFileError
from perdure.storage.histories import read
from perdure.testing import assert_replays, load_histories, recorded_histories

PARCEL_AT = "changing.py:"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'runs.db'}"
    else:
        with lent_database() as lent:
            yield lent


def waiting(url: str, runs: dict[str, Call[Any]], version: str | None = None) -> None:
    """Start runs, and leave them when all wait out of memory."""

    async def main() -> None:
        async with Engine(url, evict_after=0.01, version=version) as engine:
            for id, call in runs.items():
                await engine.start(call, id=id)
            while any([run.status != "waiting" async for run in engine.runs()]):
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(main(), 60))


PARCELS = {"p-1": ["pen"], "p-2": ["pen", "ink"], "p-3": ["pen", "ink", "cap", "box"]}


@pytest.fixture
def started(url: str) -> str:
    waiting(
        url, {id: changing.parcel(items) for id, items in PARCELS.items()} | {"l-1": changing.letter("hi")}
    )
    return url


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let processes that are started from now on find other code."""
    return lambda change: monkeypatch.setenv("CHANGE", change)


def state_of(url: str) -> object:
    """All that could tell of a write."""
    if url.startswith("sqlite:///"):
        return hashlib.sha256(Path(url.removeprefix("sqlite:///")).read_bytes()).hexdigest()
    raw = raw_access(url)
    try:
        return [
            *raw.execute("SELECT run, seq, epoch, owner, status, updated_at FROM perdure.runs ORDER BY run"),
            *raw.execute("SELECT count(*) FROM perdure.events"),
            *raw.execute("SELECT count(*) FROM perdure.workers"),
        ]
    finally:
        raw.close()


def test_the_same_code_fits_and_nothing_is_written(cli: Cli, started: str) -> None:
    before = state_of(started)
    outcome = cli("verify", "changing", "--jobs", "2", url=started)
    assert (outcome.code, outcome.out) == (0, "")
    assert "All could go on: 4 runs" in outcome.err
    assert state_of(started) == before


def test_runs_that_diverge_alike_are_one_group_with_both_sides_and_the_place(
    cli: Cli, started: str, changed: Any
) -> None:
    changed("swapped")
    outcome = cli("verify", "changing", url=started)
    assert outcome.code == 1
    assert "2 runs would diverge  (changing.parcel)" in outcome.out
    assert "runs:         p-2, p-3" in outcome.out
    assert "history says: step 'changing.weigh#2' completed" in outcome.out
    assert "code says:    waits for step 'changing.label#1'" in outcome.out
    assert PARCEL_AT in outcome.out
    assert ", in parcel" in outcome.out
    assert "2 of 4 runs" in outcome.err
    told = cli("verify", "changing", "--json", url=started)
    assert told.code == 1
    (group,) = told.json["groups"]
    assert (group["cause"], group["count"]) == ("diverges", 2)
    assert group["runs"] == [{"id": "p-2", "event": 3}, {"id": "p-3", "event": 3}]
    assert told.json["causes"] == {"diverges": 2}
    assert (told.json["runs"], told.json["fine"], told.json["verdict"]) == (4, 2, "unfit")


@pytest.mark.parametrize(
    ("change", "cause", "runs", "said"),
    [
        ("other input", "diverges", 3, "calls it with"),
        ("type", "undecodable", 3, "Expected `str`, got `int`"),
        ("raises", "diverges", 3, "has ended, with LookupError: no such parcel"),
        ("fails", "fails", 1, "raises LookupError: no such letter"),
    ],
)
def test_each_change_is_told_by_its_cause(
    cli: Cli, tmp_path: Path, changed: Any, change: str, cause: str, runs: int, said: str
) -> None:
    waiting(
        cli.url,
        {id: changing.parcel(items) for id, items in PARCELS.items()} | {"l-1": changing.letter("hi")},
    )
    changed(change)
    outcome = cli("verify", "changing", "--json")
    assert outcome.code == 1
    assert outcome.json["causes"] == {cause: runs}
    assert said in outcome.out
    (group,) = outcome.json["groups"]
    assert PARCEL_AT in group["places"][0]


def test_code_that_spins_or_ends_the_process_costs_only_its_own_runs(cli: Cli, changed: Any) -> None:
    waiting(
        cli.url, {"p-1": changing.parcel(["pen"]), "l-1": changing.letter("hi"), "p-2": changing.parcel([])}
    )
    changed("spins")
    outcome = cli("verify", "changing", "--json", "--turn-limit", "0.3", "--jobs", "1")
    assert (outcome.code, outcome.json["causes"], outcome.json["fine"]) == (1, {"spins": 2}, 1)
    assert PARCEL_AT in outcome.json["groups"][0]["places"][0]
    changed("crashes")
    outcome = cli("verify", "changing", "--json", "--jobs", "1")
    assert (outcome.code, outcome.json["causes"], outcome.json["fine"]) == (1, {"crashes": 2}, 1)
    assert "ended the process with code 7" in outcome.out
    assert {run["id"] for group in outcome.json["groups"] for run in group["runs"]} == {"p-1", "p-2"}


def test_runs_without_code_are_not_verified_unless_that_is_expected(cli: Cli, changed: Any) -> None:
    waiting(cli.url, {"c-1": changing.postcard("hi"), "l-1": changing.letter("hi")})
    changed("gone")
    outcome = cli("verify", "changing")
    assert outcome.code == 2
    assert "1 run: have no code here  (changing.postcard)" in outcome.out
    assert cli("verify", "changing", "--ignore", "unknown").code == 0


def test_pinned_runs_are_tried_by_their_own_version_only(cli: Cli, changed: Any) -> None:
    waiting(cli.url, {"r-1": changing.registered("hi")}, version="1")
    changed("swapped")
    outcome = cli("verify", "changing", "--version", "2", "--json")
    assert (outcome.code, outcome.json["causes"]) == (0, {"pinned": 1})
    assert cli("verify", "changing", "--version", "1", "--json").json["causes"] == {"diverges": 1}


def test_a_damaged_history_is_told_and_not_replayed(cli: Cli) -> None:
    waiting(cli.url, {"p-1": changing.parcel(["pen"]), "p-2": changing.parcel([])})
    raw = raw_access(cli.url)
    ((key,),) = raw.execute("SELECT run FROM runs WHERE id = 'p-1'")
    raw.execute("UPDATE events SET data = CAST(data || x'00' AS BLOB) WHERE seq = 2 AND run = " + str(key))
    raw.close()
    outcome = cli("verify", "changing", "--json")
    assert (outcome.code, outcome.json["causes"], outcome.json["verdict"]) == (
        2,
        {"damaged": 1},
        "unverified",
    )
    assert outcome.json["groups"][0]["runs"] == [{"id": "p-1", "event": 2}]


def test_a_sample_has_runs_of_every_workflow(cli: Cli) -> None:
    waiting(cli.url, {f"p-{n}": changing.parcel([]) for n in range(12)} | {"l-1": changing.letter("hi")})
    outcome = cli(
        "verify", "changing", "--sample", "4", "--json", "--export-histories", "drawn", "--per-shape", "0"
    )
    assert (outcome.code, outcome.json["runs"]) == (0, 4)
    drawn = [history.workflow for history in recorded_histories(cli.folder / "drawn")]
    assert sorted(drawn) == ["changing.letter"] + 3 * ["changing.parcel"]


def test_runs_that_have_ended_are_tried_if_asked_for(cli: Cli, changed: Any) -> None:
    async def ended(engine: Engine) -> None:
        handle = await engine.start(changing.parcel(["pen", "ink"]), id="p-1")
        await handle.send("sent", True)
        assert await handle.result(timeout=60) == 6

    async def main() -> None:
        async with Engine(cli.url) as engine:
            await ended(engine)

    asyncio.run(main())
    changed("swapped")
    assert cli("verify", "changing", "--json").json["runs"] == 0
    assert cli("verify", "changing", "--json", "--finished").json["causes"] == {"diverges": 1}


# -- recorded histories -----------------------------------------------------------------------------------


def test_recorded_histories_are_replayed_without_the_database(cli: Cli, started: str, changed: Any) -> None:
    folder = cli.folder / "histories"
    outcome = cli("verify", "changing", "--export-histories", str(folder), url=started)
    assert outcome.code == 0
    assert "3 histories were recorded" in outcome.err, "two of the three parcels go the same way"
    assert cli("verify", "changing", "--histories", str(folder), url=None).code == 0
    again = cli("verify", "changing", "--export-histories", str(folder), "--json", url=started)
    assert again.json["exported"] == 0, "there are enough of each shape"
    for history in recorded_histories(folder):
        history.replay()
    changed("swapped")
    outcome = cli("verify", "changing", "--histories", str(folder), "--json", url=None)
    assert (outcome.code, set(outcome.json["causes"])) == (1, {"diverges"})


def test_a_test_tells_what_no_longer_fits(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(cli.url, {"p-1": changing.parcel(["pen", "ink"])})
    cli("verify", "changing", "--export-histories", "histories")
    (history,) = recorded_histories(cli.folder / "histories")
    assert (history.run_id, history.workflow, history.status) == ("p-1", "changing.parcel", "waiting")
    assert history.events == len(read(history.path).events)
    monkeypatch.setattr(changing, "CHANGE", "swapped")
    with pytest.raises(
        AssertionError, match=r"diverges: run 'p-1' can't go on[\s\S]*changing\.py:\d+, in parcel"
    ):
        history.replay()


def test_a_redacted_history_holds_no_texts_and_still_replays(cli: Cli, changed: Any) -> None:
    waiting(
        cli.url, {"p-1": changing.parcel(["secretpen", "secretink"]), "r-1": changing.registered("secret")}
    )
    outcome = cli("verify", "changing", "--export-histories", "histories", "--redact", "--json")
    assert (outcome.code, outcome.json["exported"]) == (0, 2)
    for history in recorded_histories(cli.folder / "histories"):
        assert history.redacted
        assert not any(b"secret" in event for event in read(history.path).events)
        history.replay()
    changed("swapped")
    assert cli("verify", "changing", "--histories", "histories", "--json", url=None).json["causes"] == {
        "diverges": 2
    }


def test_a_file_that_is_not_whole_is_refused(cli: Cli) -> None:
    waiting(cli.url, {"l-1": changing.letter("hi")})
    cli("verify", "changing", "--export-histories", "histories")
    (file,) = (cli.folder / "histories").iterdir()
    whole = file.read_bytes()
    for data in (whole[:-1], whole[:-20], whole.replace(b'"l-1"', b'"l-2"'), b"", b"{}\n"):
        file.write_bytes(data)
        if data == whole[:-1]:  # only the last line's end is missing
            continue
        outcome = cli("verify", "changing", "--histories", "histories", url=None)
        assert outcome.code == 2
        with pytest.raises(HistoryFileError):
            read(file)
    file.write_bytes(whole.replace(b'"perdure_history":1', b'"perdure_history":2'))
    with pytest.raises(HistoryFileError, match="version 2"):
        read(file)


# -- what can't be tried ----------------------------------------------------------------------------------


def test_trouble_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "broken_flows.py").write_text(
        "import os\nif os.environ.get('BREAK'): raise RuntimeError('no config')\n"
    )
    assert "There is no database" in cli.fails("verify", "changing")
    assert "There is no module 'nowhere'" in cli.fails("verify", "nowhere")
    assert "There is no folder" in cli.fails("verify", "changing", "--histories", "none")
    waiting(cli.url, {"l-1": changing.letter("hi")})
    cli("verify", "broken_flows")
    monkeypatch.setenv("BREAK", "1")
    assert "RuntimeError: no config" in cli.fails("verify", "broken_flows")


def test_the_json_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "guide" / "verify.md"
    text = page.read_text(encoding="utf-8")
    from perdure.cli.verifyreport import facts
    from perdure.runtime.verifying import Cause
    from perdure.runtime.verifyjobs import Findings

    for name in facts("here", Findings(), frozenset()):
        assert f"`{name}`" in text, name
    for cause in Cause:
        assert f"| `{cause}` |" in text, cause
    assert json.dumps(facts("here", Findings(), frozenset()))


def test_the_other_loader_of_histories_takes_them_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(cli.url, {"p-1": changing.parcel(["pen", "ink"])})
    cli("verify", "changing", "--export-histories", "whole")
    cli("verify", "changing", "--export-histories", "redacted", "--redact")

    async def replay() -> None:
        for recorded in await load_histories("whole", "redacted"):
            await assert_replays(recorded)

    asyncio.run(replay())
    monkeypatch.setattr(changing, "CHANGE", "swapped")
    for folder in ("whole", "redacted"):
        with pytest.raises(AssertionError, match="can't go on"):
            asyncio.run(assert_replays(folder))
