"""Arrays that are packed by hand mean what was put in."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from helpers.postgres import new_database
from perdure.storage.postgres.arrays import ADAPTERS, blobs, integers, reals

CASES = [
    (integers, "bigint[]", [0, -1, 2**63 - 1, -(2**63)]),
    (integers, "bigint[]", [7, None, -7, None]),
    (integers, "bigint[]", [None]),
    (integers, "bigint[]", [5]),
    (reals, "double precision[]", [0.0, -1.5, 1e300, 1_700_000_000.123456]),
    (reals, "double precision[]", [1, 2]),
    (blobs, "bytea[]", [b"", b"\0\xff", b"x" * 100_000]),
]


@pytest.mark.parametrize(("pack", "kind", "items"), CASES)
def test_the_server_reads_what_was_packed(pack: object, kind: str, items: Sequence[object]) -> None:
    with psycopg.connect(new_database(), autocommit=True, context=ADAPTERS) as connection:
        statement = f"SELECT pg_typeof(%(a)b), unnest(%(a)b::{kind})".encode()
        found = connection.execute(statement, {"a": pack(items)}, binary=True).fetchall()  # type: ignore[operator]
        assert [item for _, item in found] == list(items)
        assert len(connection.execute(b"SELECT unnest(%b)", [pack(items)]).fetchall()) == len(items)  # type: ignore[operator]


def test_large_batches_too() -> None:
    with psycopg.connect(new_database(), autocommit=True, context=ADAPTERS) as connection:
        for number in (1, 2, 999, 1000):
            row = connection.execute(
                b"SELECT sum(i), sum(r) FROM unnest(%b, %b) AS a (i, r)",
                [integers(range(number)), reals([0.5] * number)],
            ).fetchone()
            assert row == (sum(range(number)), number / 2)
