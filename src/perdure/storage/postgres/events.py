"""Writing events that no driver appends: a store makes runs, and ends some by itself."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.chain import link
from perdure.storage.postgres.database import Database


async def append_by_itself(
    db: Database, places: Sequence[tuple[int, int, int]], events: Sequence[bytes]
) -> None:
    """Write one event each to the histories of different runs.

    Args:
        places: the run, the seq of the event, and the run's chain before it.
    """
    written = sorted(
        (run, seq, link(chain, event), event) for (run, seq, chain), event in zip(places, events, strict=True)
    )
    runs = [run for run, _, _, _ in written]
    chains = [chain for _, _, chain, _ in written]
    data = [event for _, _, _, event in written]
    await db.run("insert_events", runs=runs, seqs=[seq for _, seq, _, _ in written], links=chains, data=data)
    await db.run("set_chains", runs=runs, chains=chains)
