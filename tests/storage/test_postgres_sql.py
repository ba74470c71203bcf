"""The SQL stays within what distributed PostgreSQL engines take, and appends notify nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import perdure.storage.postgres as package
from perdure.storage.migrate import load_migrations
from perdure.storage.sql import load_queries

FOLDER = Path(package.__file__).parent
QUERIES = load_queries(FOLDER / "queries")
MIGRATIONS = load_migrations(FOLDER / "migrations")
PYTHON = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}

#: Tables with a column `run` whose primary key begins with something else, and why.
EXCEPTIONS = {
    "ids": "an id leads to its run",
    "callbacks": "a token leads to its run",
    "updates": "they outlive the run, under its id",
    "stream_items": "they belong to a stream, which outlives the run",
}

NOT_EVERYWHERE = {
    r"\b(small|big)?serial\b": "sequences are hot spots; keys are made by clients",
    r"\bidentity\b": "sequences are hot spots; keys are made by clients",
    r"\bsequence\b|\bnextval\b": "sequences are hot spots; keys are made by clients",
    r"advisory": "advisory locks don't exist everywhere",
    r"\bnotify\b|\blisten\b": "a hint is sent after the commit, by hints.py",
    r"\bctid\b|\bxmin\b|\boid\b": "rows have no such columns everywhere",
    r"\block\s+table\b": "it stops everybody",
    r"\bplpgsql\b|\bcreate\s+(or\s+replace\s+)?(function|trigger|rule)\b": "code lives in Python",
    r"\btemp(orary)?\b|\bunlogged\b": "tables are shared and durable",
    r"\bpg_sleep\b": "nobody waits inside a transaction",
}


def without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)


STATEMENTS = {
    **QUERIES,
    **{f"migration {migration.version}": without_comments(migration.sql) for migration in MIGRATIONS},
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_that_only_some_engines_have(name: str) -> None:
    for pattern, reason in NOT_EVERYWHERE.items():
        found = re.search(pattern, STATEMENTS[name], re.IGNORECASE)
        assert not found, f"{name} uses {found[0]!r}: {reason}"


def tables() -> dict[str, str]:
    found: dict[str, str] = {}
    for migration in MIGRATIONS:
        for match in re.finditer(
            r"CREATE TABLE (\S+) \((.*?)\n\)", without_comments(migration.sql), re.DOTALL
        ):
            assert match[1].startswith("perdure."), f"{match[1]} isn't in our schema"
            found[match[1].removeprefix("perdure.")] = match[2]
    return found


@pytest.mark.parametrize("table", tables())
def test_the_key_of_the_run_leads_each_primary_key(table: str) -> None:
    columns = tables()[table]
    key = re.search(r"PRIMARY KEY \((\w+)", columns) or re.search(
        r"^\s*(\w+)[^,\n]*PRIMARY KEY", columns, re.MULTILINE
    )
    assert key, "it has no primary key"
    if re.search(r"^\s*run\s", columns, re.MULTILINE):
        assert key[1] == "run" or table in EXCEPTIONS, f"{table}: {key[1]} leads"


@pytest.mark.parametrize("name", QUERIES)
def test_statements_name_our_schema(name: str) -> None:
    """So that they mean the same whatever the search path is."""
    for verb, target in re.findall(r"\b(INTO|UPDATE|DELETE FROM)\s+(\S+)", QUERIES[name]):
        assert target.startswith("perdure.") or target in ("SET", "OF", "SKIP"), f"{verb} {target}"


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_asked(name: str) -> None:
    for_tables = f'f"{name.partition("_")[0]}_{{table}}"'  # moving.py asks by the table's name
    assert any(f'"{name}"' in text or for_tables in text for text in PYTHON.values())


def users(pattern: str) -> list[str]:
    """The modules whose code (docstrings aside) matches."""
    return [name for name, text in PYTHON.items() if re.search(pattern, text.split('"""', 2)[2])]


def test_there_are_no_advisory_locks() -> None:
    assert users("advisory_") == []


def test_only_hints_notify() -> None:
    assert users(r"pg_notify|\bNOTIFY\b") == ["hints.py"]
