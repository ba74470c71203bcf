"""`perdure check`: what is told of a database, sound or damaged, and that looking changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Cli
from helpers.damage import Event, raw_access
from helpers.postgres import lent_database
from perdure import Engine, step, workflow


@step
async def doubled(number: int) -> int:
    return 2 * number


@workflow
async def adds(count: int) -> int:
    return sum([await doubled(number) for number in range(count)])


def with_runs(url: str, *ids: str) -> None:
    async def main() -> None:
        async with Engine(url) as engine:
            for number, id in enumerate(ids):
                await engine.run(adds(number + 2), id=id)

    asyncio.run(main())


def change(url: str, id: str, changed: Callable[[list[Event]], list[Event]]) -> None:
    raw = raw_access(url)
    try:
        ((key,),) = raw.execute(f"SELECT run FROM {raw.prefix}runs WHERE id = {raw.mark}", id)
        old = raw.read(key)
        raw.write(key, old, old.with_events(changed(list(old.events))))
    finally:
        raw.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'runs.db'}"
    else:
        with lent_database() as lent:
            yield lent


def test_a_sound_database(cli: Cli, url: str) -> None:
    with_runs(url, "a", "b")
    outcome = cli("check", url=url)
    assert (outcome.code, outcome.out) == (0, "")
    assert "All is sound: 2 runs with 9 events" in outcome.err
    told = cli("check", "--json", url=url)
    assert told.code == 0
    assert (told.json["sound"], told.json["runs"], told.json["events"], told.json["findings"]) == (
        True,
        2,
        9,
        [],
    )


def test_each_finding_is_a_line_and_the_exit_code_tells(cli: Cli, url: str) -> None:
    with_runs(url, "a", "b", "c")
    change(url, "b", lambda events: [*events[:2], *events[3:]])
    change(url, "c", lambda events: [*events[:-1], (*events[-1][:2], events[-1][2] + b"!")])
    outcome = cli("check", url=url)
    assert outcome.code == 1
    (missing, content) = outcome.out.splitlines()
    assert missing.split()[:2] == ["missing", "b:"]
    assert "event 3 is missing" in missing
    assert content.split()[:2] == ["content", "c:"]
    assert "2 findings, 2 damaged runs: 3 runs" in outcome.err
    told = cli("check", "--json", url=url).json
    assert [(one["run"], one["kind"], one["seq"]) for one in told["findings"]] == [
        ("b", "missing", 3),
        ("c", "content", 6),
    ]
    assert (told["damaged"], told["sound"]) == (2, False)


def test_only_some_runs(cli: Cli, url: str) -> None:
    with_runs(url, "a", "b")
    change(url, "b", lambda events: events[1:])
    assert cli("check", "a", url=url).code == 0
    assert cli("check", "a", "b", "--quick", url=url).code == 1
    assert "Did you mean" in cli.fails("check", "aa", url=url)


def test_rows_that_do_not_fit_together(cli: Cli, url: str) -> None:
    """Rows of no run, a count that is wrong, an end that the history doesn't tell."""
    with_runs(url, "a", "b", "c")
    raw = raw_access(url)
    table = f"{raw.prefix}runs"
    raw.execute(f"INSERT INTO {raw.prefix}mail_keys (run, key) VALUES (77, 'x')")
    raw.execute(f"UPDATE {table} SET mail = 3 WHERE id = 'a'")
    raw.execute(f"UPDATE {table} SET status = 'failed' WHERE id = 'b'")
    raw.close()
    found = cli("check", "--json", url=url).json["findings"]
    assert {(one["kind"], one["run"]) for one in found} == {("mail", "a"), ("status", "b"), ("stray", None)}


def test_looking_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    """Not a byte of the file, damaged or not; and it needs no permission to write."""
    path = tmp_path / "runs.db"
    with_runs(cli.url, "a")
    change(cli.url, "a", lambda events: events[:-1])
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert cli("check").code == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_pages_that_the_database_itself_cannot_read(cli: Cli, tmp_path: Path) -> None:
    """They are told as what they are; nothing crashes."""
    path = tmp_path / "runs.db"
    with_runs(cli.url, *(f"run-{number}" for number in range(60)))
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for page in range(pages // 2, pages // 2 + 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    outcome = cli("check", "--json")
    assert outcome.code == 1
    assert "database" in {one["kind"] for one in outcome.json["findings"]}


def test_what_cannot_be_checked(cli: Cli, tmp_path: Path) -> None:
    assert "There is no database at" in cli.fails("check")
    assert "can't be read by another" in cli.fails("check", url="memory:")
    other = tmp_path / "other.db"
    other.write_bytes(b"no database, but long enough to look like one" * 30)
    assert "isn't a SQLite database" in cli.fails("check", url=f"sqlite:///{other}")
    empty = tmp_path / "empty.db"
    empty.touch()
    assert "older schema" in cli.fails("check", url=f"sqlite:///{empty}")


def test_damage_is_carried_along(cli: Cli, tmp_path: Path) -> None:
    """By an export, under another id too, and by a move: whoever does it hears of it, and the copy is as damaged."""
    with_runs(cli.url, "a", "b")
    change(cli.url, "a", lambda events: [*events[:1], (*events[1][:2], events[1][2] + b"!"), *events[2:]])
    file, other, moved = (
        tmp_path / "a.jsonl",
        f"sqlite:///{tmp_path}/other.db",
        f"sqlite:///{tmp_path}/moved.db",
    )
    for outcome in (
        cli("export", "a", "--out", str(file)),
        cli("import", str(file), url=other),
        cli("import", str(file), "--id", "again", url=other),
        cli("move", "--from", cli.url, "--to", moved),
    ):
        assert outcome.code == 0, outcome
        assert "The history of run a isn't what was recorded" in outcome.err
    for url, ids in ((other, ["a", "again"]), (moved, ["a"])):
        found = cli("check", "--json", url=url).json["findings"]
        assert [(one["run"], one["kind"], one["seq"]) for one in found] == [(id, "content", 2) for id in ids]


def test_a_sound_run_stays_so_under_another_id(cli: Cli, tmp_path: Path) -> None:
    with_runs(cli.url, "a")
    file = str(tmp_path / "a.jsonl")
    assert cli("export", "a", "--out", file).code == 0
    assert cli("import", file, "--id", "b").code == 0
    outcome = cli("check")
    assert outcome.code == 0
    assert "2 runs" in outcome.err
