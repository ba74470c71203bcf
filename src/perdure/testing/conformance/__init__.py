"""What every store must do, as tests: the storage seam's contract, checked.

Each check states a promise of `perdure.storage.protocol` in its name and docstring. A check is a plain
async function, so neither pytest nor a plugin is needed to run it; with pytest, a store's author writes

    import pytest
    from perdure.testing.conformance import CHECKS, run_check

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_store_conforms(check, tmp_path):
        run_check(check, lambda: MyStore(tmp_path / "test.db"))

The factory returns a new, unopened store each time it is called. All stores it returns during one check
use one database, which must be empty when the check begins. To see the values in a failed assertion, put
`pytest.register_assert_rewrite("perdure.testing.conformance")` into conftest.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.storage.protocol import Store
from perdure.testing.conformance import (
    appending,
    attributes,
    budget_raises,
    budgets,
    callbacks,
    checkpoints,
    claiming,
    clients,
    dedups,
    details,
    endings,
    entities,
    errands,
    generations,
    handlers,
    ledger,
    limits,
    lines,
    mail,
    messages,
    moving,
    namespaces,
    pauses,
    publications,
    questions,
    queues,
    quotas,
    removing,
    retention,
    schedules,
    streams,
    subscriptions,
    survey,
    suspicion,
    totals,
    unbegun,
    versions,
    watching,
    workers,
)
from perdure.testing.conformance.bench import Bench, Check

__all__ = ["CHECKS", "Check", "run_check"]

#: Every check, in the order of the protocol's verbs.
CHECKS: tuple[Check, ...] = (
    *clients.CHECKS,
    *mail.CHECKS,
    *handlers.CHECKS,
    *messages.CHECKS,
    *appending.CHECKS,
    *endings.CHECKS,
    *generations.CHECKS,
    *details.CHECKS,
    *claiming.CHECKS,
    *queues.CHECKS,
    *lines.CHECKS,
    *dedups.CHECKS,
    *workers.CHECKS,
    *suspicion.CHECKS,
    *streams.CHECKS,
    *attributes.CHECKS,
    *survey.CHECKS,
    *namespaces.CHECKS,
    *versions.CHECKS,
    *callbacks.CHECKS,
    *questions.CHECKS,
    *schedules.CHECKS,
    *limits.CHECKS,
    *quotas.CHECKS,
    *ledger.CHECKS,
    *checkpoints.CHECKS,
    *budgets.CHECKS,
    *budget_raises.CHECKS,
    *entities.CHECKS,
    *errands.CHECKS,
    *pauses.CHECKS,
    *publications.CHECKS,
    *subscriptions.CHECKS,
    *moving.CHECKS,
    *removing.CHECKS,
    *retention.CHECKS,
    *totals.CHECKS,
    *unbegun.CHECKS,
    *watching.CHECKS,
)


def run_check(check: Check, factory: Callable[[], Store]) -> None:
    """Run one check in an event loop of its own, and close the stores it opened."""

    async def run() -> None:
        bench = Bench(factory)
        try:
            await bench.open()
            await check(bench)
            await bench.prove()
        finally:
            await bench.close()

    asyncio.run(run())
