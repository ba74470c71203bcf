"""What of other runs stays when some are removed, and what keeps a run there."""

from __future__ import annotations

from perdure.storage.records import Delivery, MailKind, ParentPolicy, RunRow, Successor
from perdure.storage.retention import FAMILY, Removal
from perdure.storage.streams import Emit
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.retention import remove, sweep_all


async def a_run_stays_while_what_its_first_generation_started_goes_on(bench: Bench) -> None:
    worker = await bench.worker()
    child = bench.new("child", owner=worker, parent_op="c", on_parent_close=ParentPolicy.ABANDON)
    row = await bench.put(await bench.make("a", owner=worker), b"x", children=[child])
    new = bench.new("a", owner=worker, generation=2, created_at=NOW + 1)
    await bench.put(row, b"end", status="continued", successor=Successor(new))
    row = await bench.put(await bench.row("a"), b"end", status="completed")
    assert row.generation == 2
    assert await bench.store.retention.needed([row.run]) == {row.run: FAMILY}
    await bench.put(await bench.row("child"), b"end", status="completed")
    assert await bench.store.retention.needed([row.run]) == {}


async def what_is_removed_is_nobody_elses(bench: Bench) -> None:
    """Runs older and newer than those that go keep their histories and their mail, whatever is swept."""
    worker = await bench.worker()
    rows: list[RunRow] = []
    for number in range(5):
        row = await bench.make(f"r{number}", owner=worker)
        await bench.store.send(row.id, b"kept", now=NOW, kind=MailKind.MESSAGE, key="k")
        rows.append(await bench.put(row, b"x", effects=[Emit("out", b"item")]))
    going = [await bench.put(rows[number], b"end", status="completed") for number in (1, 3)]
    assert await remove(bench, *going) == [Removal.GONE] * 2
    await sweep_all(bench, rows=1)
    for number in (0, 2, 4):
        assert list(await bench.history(rows[number])) == [b"first", b"x"]
        assert await bench.inbox(rows[number]) == [b"kept"]
        page = await bench.store.streams.read(f"r{number}", "out", after=0, limit=9)
        assert page is not None
        assert [item.data for item in page.rows] == [b"item"]
        assert await bench.store.send(f"r{number}", b"again", now=NOW, key="k") is Delivery.REPEATED


CHECKS: tuple[Check, ...] = (
    a_run_stays_while_what_its_first_generation_started_goes_on,
    what_is_removed_is_nobody_elses,
)
