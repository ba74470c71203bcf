"""What the torture compares with: the model knows what programs result in, and planted faults are found."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine
from perdure.errors import PerdureError
from perdure.testing.torture import workshop
from perdure.testing.torture.audit import Audit, Findings
from perdure.testing.torture.poison import Poisoning
from perdure.testing.torture.power import cut_power
from perdure.testing.torture.programs import Drawing, Program, expected, messages, value_of
from perdure.testing.torture.report import Report
from perdure.testing.torture.server import Server
from perdure.testing.torture.smalldisk import small_disk

KINDS = {
    "step", "thread", "flaky", "fails", "once", "sleep", "hurry", "many", "together", "child", "message", "next",
    "mostly", "give up", "failing child", "called off", "told",
}  # fmt: skip


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "books.jsonl"
    monkeypatch.setenv(workshop.BOOKS, str(path))
    return path


def kinds(program: Program) -> set[str]:
    found: set[str] = set()
    for kind, _, more in program:
        found.add(kind)
        parts = more if kind == "together" else [more] if kind in ("child", "failing child", "next") else []
        for part in parts:
            found |= kinds(part)
    return found


def drawn(number: int) -> Program:
    return Drawing(random.Random(number), f"p{number}").program()


async def carried_out(engine: Engine, numbers: range) -> list[int]:
    programs = [drawn(number) for number in numbers]
    handles = await engine.start_many(
        [workshop.runs(program, 0) for program in programs], ids=[f"p{number}" for number in numbers]
    )
    for program, handle in zip(programs, handles, strict=True):
        for tag in messages(program):
            await handle.send(tag, value_of(tag), key=tag)
    return await asyncio.gather(*(handle.result(timeout=60) for handle in handles))


def audited(numbers: range, books: Path, tamper: Any = lambda notes: notes) -> Findings:
    async def main() -> Findings:
        async with Engine("memory:") as engine:
            await carried_out(engine, numbers)
            return await Audit(tamper(workshop.notes(books)), set()).look(engine)

    return asyncio.run(main())


def test_every_kind_of_instruction_is_drawn_and_modelled(books: Path) -> None:
    numbers = range(60)

    async def main() -> list[int]:
        async with Engine("memory:") as engine:
            return await carried_out(engine, numbers)

    assert set().union(*(kinds(drawn(number)) for number in numbers)) == KINDS
    assert asyncio.run(main()) == [expected(drawn(number)) for number in numbers]
    assert drawn(7) == drawn(7) != drawn(8)


def test_an_undisturbed_engine_is_found_without_fault(books: Path) -> None:
    findings = audited(range(20), books)
    assert findings.violations == []
    assert (findings.repeated, findings.late, findings.taken_over) == (0, 0, 0)
    assert findings.steps > 40


def test_a_body_that_begins_after_its_record_is_found(books: Path) -> None:
    def late(notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = next(note for note in notes if note["what"] == "effect")
        return [*notes, {**first, "what": "begin", "time": first["time"] + 60}]

    (violation,) = audited(range(5), books, late).violations
    assert "began again" in violation


def test_a_record_without_a_body_is_found(books: Path) -> None:
    def forgotten(notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        tag = next(note["tag"] for note in notes if note["what"] == "effect")
        return [note for note in notes if note["tag"] != tag]

    (violation,) = audited(range(5), books, forgotten).violations
    assert "never began" in violation


def test_a_second_effect_of_a_once_step_is_found(books: Path) -> None:
    def twice(notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*notes, *(note for note in notes if note["what"] == "effect")]

    assert all("mustn't happen twice" in one for one in audited(range(20), books, twice).violations)
    assert audited(range(20), books, twice).violations


def test_power_is_cut(books: Path, tmp_path: Path) -> None:
    tried, wrong = cut_power(tmp_path, 0.0, 1)
    assert (tried, wrong) == (200, [])


def test_a_report_that_shows_nothing_says_so() -> None:
    report = Report("memory:", 1, 1.0)
    assert "NOTHING SHOWN: no worker was killed" in report.lines()[-1]
    report.kills = report.completed = 300
    assert report.lines()[-1] == "With 95 % confidence (3/N), fewer than 1.00% of such runs go wrong."
    report.restarts, report.full = 4, 2
    report.poisoning = Poisoning(deadly=3, parked=3, deaths=12, healthy=9)
    assert "4 crashes of the server, each followed by a start" in report.lines()
    assert "2 times nothing was left on a small disk" in report.lines()
    assert any("3 runs that kill their workers, of which 3 were set aside" in line for line in report.lines())
    report.faults.append("lost")
    assert report.lines()[-2:-1] == ["WRONG: lost"]
    assert not report.passed


def test_a_small_disk_is_refused_where_nobody_may_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no `mount` there
    with small_disk(tmp_path) as disk:
        assert disk is None


def test_a_server_without_its_programs_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.testing.torture.server.shutil.which", lambda name: None)
    monkeypatch.setattr("perdure.testing.torture.server.find_spec", lambda name: None)
    monkeypatch.setattr("perdure.testing.torture.server.Path.glob", lambda self, pattern: iter(()))
    with pytest.raises(PerdureError, match="no programs of a PostgreSQL server"):
        Server(tmp_path, random.Random(1))
