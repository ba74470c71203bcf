"""Statements that go from one table to another never read a whole one on their way, whatever statistics say.

A join may be turned round: once statistics say that a table is empty, as it is after a quiet hour, reading all of it
costs nothing, and the plan is kept while the table fills. So rows are found by keys that are there already: of an
array, of a subquery that is one value, or of LATERAL with OFFSET 0, which the planner can't take apart.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from helpers.postgres import Server
from perdure.storage.postgres import PostgresStore
from perdure.storage.postgres.connection import _FEW_ROWS, QUERIES

#: Those that were found to read whole tables, by what they are for.
STATEMENTS = {
    "clients": ["keys_of", "lock_newest", "lock_all_newest", "rows_by_id"],
    "replays": ["histories", "last_events"],
    "ends": ["live_children", "lock_errands", "mail_of_unbegun", "successor", "make_way", "generation"],
    "callbacks": [
        *("callback", "callback_as_it_stands", "is_of_run", "withdraw_callback"),
        *("open_questions", "questions", "questions_of_run", "reseal_questions"),
    ],
    "streams": ["run_ended", "stream_items"],
    "updates": ["update_row", "update_rows", "take_inquiries"],
    "money": [
        *(
            "budgets_for",
            "untold_budgets",
            "lock_accounts",
            "keep_accounts",
            "waits_for",
            "waiting_for",
            "drop_hold",
            "holds_for",
        ),
        *("kin", "usage_entries", "usage_report_of", "usage_report_since", "spent_within", "keep_limits"),
    ],
    "queues": ["enter_lines", "put_in_lines", "schedules_free"],
    "publications": [
        "subscriptions_to",
        "number_publications",
        "looked_back",
        "end_waits",
        "forget_publications",
    ],
    "searches": [
        "find_among",
        "children_of",
        "having_text",
        "having_number",
        "events_within",
        "length_within",
    ],
    "checkpoints": ["values_of_checkpoint", "checkpoint_ancestors"],
    "retention": [
        *("ended_runs", "orphans", "family", "forked", "forget_remainders", "keep_usage"),
        *("drop_events", "drop_inbox_item", "drop_item"),
        *(name for name in QUERIES if name.startswith("sweep_")),
    ],
    "auditing": ["standings", "keys_of_id"],
    "keys": ["data_keys_page", "rewrap_data_key", "erase_data_key"],
    "moving": ["lock_runs_of", "held_for", "pack_runs", "pack_items", "let_go", "erase_items"],
    "rotation": [
        name
        for name in QUERIES
        if name
        in ("kept_events", "kept_mail", "kept_details", "kept_questions", "kept_answers", "kept_items")
    ],
}

#: Tables that are small, or that a statement is about as a whole: of remainders each is looked at, for instance.
SMALL = ("queues", "moves", "schedules", "inquiries", "remainders", "workers", "usage_totals")

#: Indexes all of which may be read: they know nothing but what is looked for.
NARROW = ("runs_unbegun", "runs_with_mail", "budgets_untold")

#: Conditions of a search, which are tried on each run.
ASKED = ("asked", "v")

#: From where on a page of a table is read.
PAGED = re.compile(r"\(+(ROW\(|(opened_at|at) >= |(id|run|token_hash) > |(ended_at|number) < )")

#: What statistics may say when a plan is made.
STANDINGS = {
    "a new database": [],
    "empty tables": ["VACUUM ANALYZE"],
    "runs, and nothing else": ["VACUUM ANALYZE", "runs", "ANALYZE perdure.runs"],
    "ids and runs": ["VACUUM ANALYZE", "runs", "ids", "ANALYZE perdure.runs, perdure.ids"],
    "all but runs": ["VACUUM ANALYZE", "ids", "events", "money", "updates", "ANALYZE"],
}

FILLS = {
    "runs": """
        INSERT INTO perdure.runs (run, id, workflow, status, queue, fingerprint, seq, chain, epoch, created_at,
                                  updated_at, semantics, on_parent_close, parent, owner, ended_at)
        SELECT n, 'r' || n, 'w' || n % 9, 'running', 'q', '', 3, 0, 1, n, n, 1, 'cancel', n - 1,
               CASE WHEN n % 3 = 0 THEN 1 END, CASE WHEN n % 3 = 1 THEN n END
        FROM generate_series(1, 5000) AS n""",
    "ids": "INSERT INTO perdure.ids SELECT 'r' || n, n FROM generate_series(1, 5000) AS n",
    "events": "INSERT INTO perdure.events SELECT n / 5, n % 5, 0, '' FROM generate_series(5, 5000) AS n",
    "money": """
        INSERT INTO perdure.budget_waits SELECT n, 's', 'b', 'o' || n, '', '' FROM generate_series(1, 5000) AS n""",
    "updates": """
        INSERT INTO perdure.updates
        SELECT 'r' || n, 'u' || n, n, '', 'requested', NULL FROM generate_series(1, 5000) AS n""",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(autovacuum="off")
    yield server
    server.remove()


def prepared_when(server: Server, standing: str) -> psycopg.Connection[Any]:
    """A connection to a database of which statistics say so."""
    database = server.new_database()

    async def make() -> None:
        store = PostgresStore(server.socket_url(database))
        await store.open()
        await store.close()

    asyncio.run(make())
    connection = psycopg.connect(server.socket_url(database), autocommit=True)
    connection.execute(_FEW_ROWS)
    connection.execute("SET plan_cache_mode = force_generic_plan")
    for part in STANDINGS[standing]:
        connection.execute(FILLS.get(part, part).encode())
    return connection


@pytest.mark.parametrize("standing", STANDINGS)
def test_what_is_not_settled_is_found_among_all_that_is(server: Server, standing: str) -> None:
    """While there are no publications, one index costs as much as the other; and the plan stays when there are."""
    with prepared_when(server, standing) as connection:
        for name in ("publications_unsettled", "lock_clock", "publications_pending"):
            used = set(re.findall(r"'Index Name': '(publications_\w+)'", repr(plan_of(connection, name))))
            assert used - {"publications_new"} == {"publications_open"}, name


@pytest.mark.parametrize("standing", STANDINGS)
def test_no_join_reads_a_whole_table_whatever_statistics_say(server: Server, standing: str) -> None:
    wrong: dict[str, list[str]] = {}
    with prepared_when(server, standing) as connection:
        first = first_columns(connection)
        for name in (name for names in STATEMENTS.values() for name in names):
            found = list(what_is_read(plan_of(connection, name), first))
            assert found, f"{name} reads nothing"
            if bad := [what for what in found if what.endswith("WHOLE")]:
                wrong[name] = bad
    assert wrong == {}


def first_columns(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """By index, the column that leads it."""
    return dict(
        connection.execute(
            "SELECT c.relname, coalesce(a.attname, '') FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
            "LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        ).fetchall()
    )


def plan_of(connection: psycopg.Connection[Any], name: str) -> dict[str, Any]:
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, QUERIES[name]).replace("%%", "%")
    connection.execute(f"PREPARE {name} AS {text}".encode())
    nulls = f" ({', '.join(['NULL'] * len(names))})" if names else ""
    ((found,),) = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{nulls}".encode())
    plan: dict[str, Any] = found[0]["Plan"]
    return plan


def what_is_read(plan: dict[str, Any], first: dict[str, str]) -> Iterator[str]:
    """How a plan comes to rows of tables; those ways end with WHOLE that may lead through all of one."""
    kind, table, condition = plan["Node Type"], plan.get("Relation Name", ""), plan.get("Index Cond", "")
    index = plan.get("Index Name", "")
    if (table and kind not in ("ModifyTable", "Bitmap Heap Scan")) or index:
        bounded = condition.lstrip("(").startswith((f"{first.get(index)} = ", "split_part(id"))
        whole = not (bounded or PAGED.match(condition) or table in SMALL or index in NARROW)
        yield f"{kind} of {table} by {index} where {condition} {'WHOLE' if whole else ''}"
    elif plan.get("Conflict Arbiter Indexes"):
        yield f"{kind} by {plan['Conflict Arbiter Indexes']}"
    if kind == "Nested Loop" and from_nowhere(plan["Plans"][1]) and not from_nowhere(plan["Plans"][0]):
        alias = plan["Plans"][1].get("Alias")
        if plan["Plans"][0].get("Relation Name") not in SMALL and alias not in ASKED:
            yield f"the other way round: {alias} WHOLE"
    for part in plan.get("Plans", ()):
        yield from what_is_read(part, first)


def from_nowhere(plan: dict[str, Any]) -> bool:
    """Whether a part of a plan has its rows of no table."""
    inner = plan.get("Plans", ())
    return "Relation Name" not in plan and all(from_nowhere(part) for part in inner)
