"""Statements on SQLite find rows by indexes, and go on to do so after somebody has made statistics."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import apsw
import pytest

import perdure.storage.sqlite as package
from perdure.storage.sql import load_queries
from perdure.storage.sqlite import SqliteStore


def statements() -> dict[str, str]:
    """All statements by name; those of a trigger as they would be alone, as plans of triggers aren't told."""
    found: dict[str, str] = {}
    for name, text in load_queries(Path(package.__file__).parent / "queries").items():
        if name in ("make_lone", "make_wave", "append_lone", "append_wave"):
            continue  # the views, and what only fires their triggers
        if "CREATE TEMP TRIGGER" not in text:
            found[name] = text
            continue
        body = re.search(r"\bBEGIN\b(.*)\bEND\b", text, re.DOTALL)
        assert body
        alone = re.sub(r"RAISE\(.*?\)", "1", re.sub(r"\bNEW\.", ":", re.sub(r"--.*", "", body[1])))
        for number, statement in enumerate(alone.strip().removesuffix(";").split(";")):
            found[f"{name}-{number}"] = statement
    return found


QUERIES = statements()

#: Tables that grow with what runs do.
LARGE = {
    *(
        "runs",
        "events",
        "inbox",
        "mail_keys",
        "step_details",
        "attributes",
        "patches",
        "callbacks",
        "updates",
    ),
    *("streams", "stream_items", "stream_writers", "publications", "publication_waits", "gathered", "usage"),
    *(
        "budget_accounts",
        "budget_holds",
        "budget_waits",
        "checkpoints",
        "checkpoint_values",
        "checkpoint_writes",
    ),
    *("donors", "data_keys", "dedups", "budgets", "subscriptions"),
}

#: Indexes all of whose entries are looked for, or any one.
NARROW = re.compile(
    r"USING (COVERING )?INDEX (publications_new|publication_waits_new|runs_(line|due|slots|kinds|entities|children)"
    r"|usage_by_time|budgets_untold|budgets_by_workflow|subscriptions_by_event|remainders_full|sqlite_autoindex)"
)

#: What is about everything there is, and rarely done; lists that end after a page.
ABOUT_ALL = {
    *("fence_runs", "live_runs", "stamps", "limit_queue", "rank_line", "usage_report", "checkpoint_heads"),
    *("any_budget", "budgets", "subscriptions"),
    *("find", "oldest_run", "namespaces", "waiting", "waiting_within", "let_go"),
}


def plan(connection: apsw.Connection, text: str) -> list[str]:
    numbered = re.findall(r"\?(\d+)", text)
    given = dict.fromkeys(re.findall(r"[:@](\w+)", text)) or (None,) * (
        max(map(int, numbered)) if numbered else text.count("?")
    )
    return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", given)]


def table_of(step: str, text: str) -> str:
    """Which table a step of a plan looks at; steps tell its alias."""
    name = step.split()[1]
    found = re.search(rf"(\w+) AS {re.escape(name)}\b", text)
    return found[1] if found else name


def make(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(str(path))
        await store.open()
        await store.close()

    asyncio.run(main())


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> apsw.Connection:
    path = tmp_path_factory.mktemp("plans") / "runs.db"
    make(path)
    return apsw.Connection(str(path))


@pytest.mark.parametrize("name", sorted(set(QUERIES) - ABOUT_ALL))
def test_no_statement_reads_a_whole_table(database: apsw.Connection, name: str) -> None:
    text = QUERIES[name]
    whole = [
        step
        for step in plan(database, text)
        if ("AUTOMATIC" in step or (step.startswith("SCAN") and table_of(step, text) in LARGE))
        and not NARROW.search(step)
    ]
    assert whole == []


def test_statistics_that_somebody_made_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    make(path)
    connection = apsw.Connection(str(path))
    before = {name: plan(connection, text) for name, text in QUERIES.items()}
    connection.execute(
        "INSERT INTO workers (name, host, pid, born, started_at, lease_until, queues, workflows, version, code, "
        "heard_at, schema) VALUES ('w', 'h', 1, 1, 1, 1, '[]', '[]', '', '', 1, 1); ANALYZE"
    )
    connection.close()
    connection = apsw.Connection(str(path))
    assert {name: plan(connection, text) for name, text in QUERIES.items()} != before
    connection.close()
    make(path)
    connection = apsw.Connection(str(path))
    assert {name: plan(connection, text) for name, text in QUERIES.items()} == before
