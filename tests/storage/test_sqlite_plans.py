"""The queries use the indexes that were made for them, so that they stay fast with millions of runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.storage.sqlite import connection
from perdure.storage.sqlite.connection import open_database
from perdure.storage.sqlite.database import Database

QUERIES = connection._QUERIES

#: Which index must serve which query.
EXPECTED = {
    "due": "runs_due",
    "live_within": "runs_within",
    "next_at": "runs_due",
    "stranded": "runs_due",
    "unblock": "runs_stranded",
    "mail_of_unbegun": "runs_unbegun",
    "ended_runs": "runs_ended",
    "orphans": "runs_children",
    "forked": "donors_by_id",
    "kinds_of_entities": "runs_entities",
    "find_entities": "runs_entities",
    "mail": "runs_with_mail",
    "owned": "runs_owned",
    "poisoned": "runs_owned",
    "suspected": "runs_suspected",
    "may_claim": "runs_suspected",
    "may_claim ": "runs_tried",  # both
    "release_all": "runs_owned",
    "live_children": "runs_children",
    "find_children": "runs_children",
    "would_terminate": "runs_children",
    "rows_by_id": "runs_current",
    "key_of": "runs_current",
    "generation": "runs_earlier",
    "generation ": "runs_current",  # both
    "inbox": "inbox_of_run",
    "drop_inbox": "inbox_of_run",
    "mail ": "inbox_of_run",  # both
    "schedules_due": "schedules_due",
    "next_schedule_at": "schedules_due",
    "schedules_free": "schedules_waiting",
    "find_with": "attributes_by_value",
    "stranded_pinned": "runs_pinned",
    "unsettled": "stream_writers_open",
    "lines": "runs_line",
    "enter_lines": "runs_line",
    "next_in_lines": "runs_line",
    "line": "runs_line",
    "line_levels": "runs_line",
    "line_lanes": "runs_line",
    "line_lanes_upto": "runs_line",
    "line_firsts": "runs_line",
    "stranded_in_line": "runs_line",
    "slots": "runs_slots",
    "slot_holders": "runs_slots",
    "slots_here": "runs_owned",
    "dedup_holder": "runs_dedup",
    "publications_pending": "publications_new",
    "publications_pending ": "publications_unsettled",
    "publications_pending  ": "publication_waits_new",
    "publications_new": "publications_new",
    "publications_unsettled": "publications_unsettled",
    "publications_after": "publications_by_name",
    "publications_named": "publications_by_name",
    "publications_numbered": "publications_numbered",
    "forget_publications": "publications_numbered",
    "waits_new": "publication_waits_new",
    "takers": "publication_waits_by_match",
    "gatherings_due": "gatherings_due",
    "of_statuses": "runs_kinds",
    "of_kind": "runs_kinds",
    "tallies_of": "runs_kinds",
    "finished": "runs_ended",
    "took": "runs_ended",
    "driven_since": "runs_owned",
}

#: Tables that grow with use. Listing (`find`) may walk through runs, newest first, as may moving them all.
LARGE = ("runs", "events", "inbox", "updates", "step_details", "r", "c", "d", "n", "u")
WALKS = {"find"}
LARGE = ("runs", "events", "inbox", "updates", "r", "c", "d", "n", "u", "st", "item", "attr")
WALKS = {"find", "find_named", "stamps", "live_runs", "tallies"}
#: So may an operator who wants to know how much there is of everything, and a queue that gets other limits.
WALKS |= {"usage_report"}  # adds up all that was spent
WALKS |= {"kinds_of_entities"}  # counts them in their index
WALKS |= {"spent_within"}  # the runs of one namespace, found by their ids
WALKS |= {"namespaces"}  # counts the runs of each in their index
WALKS |= {"oldest_run"}  # the first row
WALKS |= {"table_sizes"}  # every page, of a small file
WALKS |= {"fence_runs"}  # all live runs of a database that is restored
WALKS |= {"queue_counts", "slot_counts", "due_counts", "limit_queue", "rank_line"}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_database(str(tmp_path / "test.db"))
    yield db
    db.close()


def plan(db: Database, query: str) -> list[str]:
    text = QUERIES[query]
    # A query is planned without its values, as for a table of which nothing is known.
    numbered = [int(number) for number in re.findall(r"\?(\d+)", text)]
    values = (None,) * max(numbered, default=text.count("?")) or Nulls()
    return [row[3] for row in db.connection.execute("EXPLAIN QUERY PLAN " + text, values)]


class Nulls(dict[str, None]):
    """Bindings that have every name."""

    def __missing__(self, key: str) -> None:
        return None


@pytest.mark.parametrize(("query", "index"), EXPECTED.items())
def test_index_is_used(db: Database, query: str, index: str) -> None:
    assert any(index in step for step in plan(db, query.strip())), plan(db, query.strip())


@pytest.mark.parametrize("query", sorted(QUERIES))
def test_no_large_table_is_walked_through(db: Database, query: str) -> None:
    steps = plan(db, query)
    walks = [step for step in steps if step.startswith("SCAN") and step.split()[1] in LARGE]
    # The first of an index, for `ORDER BY ... LIMIT 1`, is no walk.
    walks = [step for step in walks if "INDEX runs_due" not in step and "INDEX runs_line" not in step]
    assert not walks or query in WALKS, steps


def test_claiming_needs_no_sorting_of_what_is_due(db: Database) -> None:
    """However many are due, a claim reads its limit of each queue and workflow from the index, in order."""
    db.connection.execute("BEGIN")
    db.connection.execute(
        """
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
        INSERT INTO runs (id, workflow, status, queue, fingerprint, seq, chain, epoch, created_at, updated_at,
                          wake_at, semantics, on_parent_close)
        SELECT 'r' || n, 'w' || (n % 3), 'queued', 'q' || (n % 2), x'', 1, 0, 0, 0, 0, n, 1, 'cancel' FROM n
        """
    )
    db.commit()
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    db.connection.set_progress_handler(count, 10)
    db.connection.execute(
        "INSERT INTO workers VALUES (7, 'w', 'h', 1, 2, 0, 0, '[]', '[]', 'v1', 'c1', 0, 0, 0, 0, 1)"
    )
    steps = 0
    bindings = {"queues": '["q0","q1"]', "workflows": '["w0","w1"]', "now": 19_000, "limit": 10, "worker": 7}
    assert [run for (run,) in db.rows("due", bindings)] == [1, 3, 4, 6, 7, 9, 10, 12, 13, 15]
    assert db.value("next_at", {"queues": '["q1"]', "workflows": '["w2"]', "worker": 7}) == 5
    assert db.value("next_at", {"queues": '["q1"]', "workflows": '["nobody"]', "worker": 7}) is None
    assert db.rows("stranded", {"now": 20_000, "limit": 5})
    # 10 operations of SQLite's machine each; going through all rows takes more than 20,000.
    assert steps < 500
