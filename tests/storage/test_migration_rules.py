"""What a migration may do: nothing that holds up those who work, nothing that code of before can't live with.

The first file makes an empty database and may do anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure.storage.postgres as postgres
import perdure.storage.sqlite as sqlite
from perdure.storage.migrate import Migration, load_migrations
from perdure.storage.sql import load_queries

FOLDERS = {"postgres": Path(postgres.__file__).parent, "sqlite": Path(sqlite.__file__).parent}

#: What no migration may say, and why.
NEVER = {
    r"\bRENAME\b": "code of before asks for the old name: add a new column, and drop the old one later",
    r"\bALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE\b": "the whole table is written anew: add a new column",
    r"\bSET\s+NOT\s+NULL\b": "the whole table is read under a lock, and code of before may not fill it in",
    r"\bVACUUM\s+FULL\b|\bCLUSTER\b|\bREINDEX\b(?!.*CONCURRENTLY)": "nobody can use the table meanwhile",
    r"\bLOCK\s+TABLE\b": "it stops everybody",
    r"\bADD\s+COLUMN\b(?=[^,;]*\bNOT\s+NULL\b)(?![^,;]*\bDEFAULT\b)": "old code doesn't fill it in: give a default",
    r"\bADD\s+COLUMN\b[^,;]*\bDEFAULT\s+\(?[a-z_]+\s*\(": "a default that is computed writes the whole table anew",
    r"\bADD\s+(CONSTRAINT|CHECK|FOREIGN|UNIQUE|PRIMARY)\b(?!.*\bNOT\s+VALID\b)": "the whole table is read under a lock",
}


def faults(kind: str, migration: Migration) -> Iterator[str]:
    """What is wrong with a migration."""
    text = re.sub(r"--[^\n]*", "", migration.sql)
    for pattern, why in NEVER.items():
        if found := re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            yield f"{found[0]!r}: {why}"
    made = {
        name.lower() for name in re.findall(r"CREATE TABLE\s+(?:IF NOT EXISTS\s+)?(\S+)", text, re.IGNORECASE)
    }
    for statement in filter(str.strip, re.split(r";\s*(?:\n|$)", text)):
        yield from _of_statement(kind, migration, statement.strip(), made)
    for number, statement in enumerate(migration.steps):
        if re.match(r"\s*(UPDATE|DELETE)\b", statement.sql, re.IGNORECASE):
            if not statement.repeats or not re.search(r"\bLIMIT\b", statement.sql, re.IGNORECASE):
                yield "rows are changed in portions: put '-- repeat' before it and LIMIT into it"
        built = re.match(
            r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(\w+)", statement.sql, re.IGNORECASE
        )
        if built:
            before = migration.steps[number - 1].sql if number else ""
            if not re.fullmatch(
                rf"\s*DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS\s+perdure\.{built[1]}\s*",
                before,
                re.IGNORECASE,
            ):
                yield f"half of {built[1]} may be left of a process that was killed: drop it first, if it exists"


def _of_statement(kind: str, migration: Migration, statement: str, made: set[str]) -> Iterator[str]:
    index = re.match(r"CREATE\s+(UNIQUE\s+)?INDEX\b(.*?)\bON\s+(\S+)", statement, re.IGNORECASE | re.DOTALL)
    if index and kind == "postgres" and index[3].lower() not in made:
        if "CONCURRENTLY" not in index[2].upper():
            yield "an index on a table with rows is made CONCURRENTLY, else nobody can write meanwhile"
        elif not migration.steps:
            yield "what goes on CONCURRENTLY can't be in a transaction: say '-- in steps' in the head"
    if re.match(r"(UPDATE|DELETE)\b", statement, re.IGNORECASE) and not migration.steps:
        yield "a large table is filled in portions: say '-- in steps' in the head"
    if migration.steps and re.match(r"(CREATE|ALTER|DROP|INSERT)\b", statement, re.IGNORECASE):
        harmless = r"IF\s+(NOT\s+)?EXISTS|ON\s+CONFLICT|CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY|\bSET\b|\bVALIDATE\b"
        if not re.search(harmless, statement, re.IGNORECASE):
            yield "in steps, each statement may happen twice: say IF EXISTS, IF NOT EXISTS or ON CONFLICT"


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_migration_has_faults(kind: str) -> None:
    first, *others = load_migrations(FOLDERS[kind] / "migrations")
    assert not first.steps
    for migration in others:
        assert list(faults(kind, migration)) == [], (
            f"{kind}/migrations/{migration.version:04d}_{migration.name}.sql"
        )


@pytest.mark.parametrize("kind", FOLDERS)
def test_statements_name_the_columns_they_mean(kind: str) -> None:
    """The next migration may add one: with * its place and number would change under the statement. (Within a FROM that
    is no matter: what is around it says what it means.)"""
    for name, statement in load_queries(FOLDERS[kind] / "queries").items():
        stars = re.sub(
            r"count\(\*\)|SELECT \*\s+FROM (unnest|json_each)|(LATERAL|FROM|JOIN)\s+\(\s*SELECT \*",
            "",
            statement,
        )
        assert not re.search(r"(SELECT|RETURNING|,|\.)\s*\*", stars), f"{name} asks for all columns"
        for target, rest in re.findall(r"INSERT INTO (\S+)\s*(?:AS \w+\s*)?(.)", statement, re.DOTALL):
            assert rest == "(", f"{name} doesn't name the columns of {target}"


BAD = {
    "ALTER TABLE perdure.runs RENAME COLUMN id TO name;": "old name",
    "ALTER TABLE perdure.runs ALTER COLUMN id TYPE varchar;": "written anew",
    "ALTER TABLE perdure.runs ALTER COLUMN version SET NOT NULL;": "read under a lock",
    "ALTER TABLE perdure.runs ADD COLUMN colour text NOT NULL;": "give a default",
    "ALTER TABLE perdure.runs ADD COLUMN colour float DEFAULT random();": "computed",
    "ALTER TABLE perdure.runs ADD CONSTRAINT c CHECK (seq > 0);": "read under a lock",
    "CREATE INDEX runs_colour ON perdure.runs (colour);": "CONCURRENTLY",
    "CREATE INDEX CONCURRENTLY runs_colour ON perdure.runs (colour);": "in steps",
    "UPDATE perdure.runs SET colour = 'blue';": "portions",
    "-- in steps\nUPDATE perdure.runs SET colour = 'blue';": "LIMIT",
    "-- in steps\n-- repeat\nUPDATE perdure.runs SET colour = 'blue';": "LIMIT",
    "-- in steps\nCREATE INDEX CONCURRENTLY runs_colour ON perdure.runs (colour);": "drop it first",
    "-- in steps\nALTER TABLE perdure.runs ADD COLUMN colour text;": "happen twice",
    "-- in steps\nCREATE TABLE perdure.new (x int);": "happen twice",
}

GOOD = (
    "ALTER TABLE perdure.runs ADD COLUMN colour text;\n"
    "ALTER TABLE perdure.runs ADD COLUMN size bigint NOT NULL DEFAULT 0;",
    "CREATE TABLE perdure.new (run bigint PRIMARY KEY, x int NOT NULL);\nCREATE INDEX new_x ON perdure.new (x);",
    "ALTER TABLE perdure.runs DROP COLUMN semantics;",
    "ALTER TABLE perdure.runs ADD CONSTRAINT c CHECK (seq > 0) NOT VALID;",
    "-- in steps\nALTER TABLE perdure.runs ADD COLUMN IF NOT EXISTS colour text;\n"
    "-- repeat\n"
    "UPDATE perdure.runs SET colour = '' WHERE run IN (SELECT run FROM perdure.runs WHERE colour IS NULL LIMIT 9);\n"
    "DROP INDEX CONCURRENTLY IF EXISTS perdure.runs_colour;\n"
    "CREATE INDEX CONCURRENTLY runs_colour ON perdure.runs (colour);",
)


def made_up(folder: Path, text: str) -> Migration:
    (folder / "0001_first.sql").write_text("SELECT 1;")
    (folder / "0002_second.sql").write_text(f"-- oldest code: 1\n{text}")
    return load_migrations(folder)[1]


@pytest.mark.parametrize("text", BAD)
def test_what_would_hold_others_up_is_found(text: str, tmp_path: Path) -> None:
    assert any(BAD[text] in fault for fault in faults("postgres", made_up(tmp_path, text)))


@pytest.mark.parametrize("text", GOOD)
def test_what_holds_nobody_up_is_fine(text: str, tmp_path: Path) -> None:
    assert list(faults("postgres", made_up(tmp_path, text))) == []
