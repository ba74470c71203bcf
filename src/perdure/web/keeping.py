"""What is kept, and what goes: old runs, the data of a subject, and how the engine is that does all this.

Removing old runs concerns the whole database. Erasing reaches what whoever asks may see. Both take an admin.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import Field

from perdure.runtime.retention import Retention
from perdure.web.engines import EngineHere, EngineOfAll, EngineServed
from perdure.web.shapes import In, Name, Out, RunId, Seconds
from perdure.web.shapes_overview import RetentionOut

router = APIRouter(tags=["keeping"])


class RuleIn(In):
    """A rule, by which ended runs go. Archives are places of the server: only its own rules name them."""

    after: Seconds | None = Field(description="Seconds after their end; null = never.")
    workflow: Name | None = None
    status: Annotated[list[str], Field(max_length=10)] = Field(
        default_factory=list, description="Only those that ended so; all, if it is empty."
    )


class PruneIn(In):
    rules: Annotated[list[RuleIn], Field(min_length=1, max_length=100)]
    dry: bool = Field(False, description="Remove nothing, only count.")


class KindOut(Out):
    workflow: str
    status: str
    runs: int


class PrunedOut(Out):
    """What went, or would."""

    runs: int
    kinds: list[KindOut]
    kept: dict[str, int] = Field(description="Runs that are old enough and stay, by why.")
    files: int
    looked: int


class EraseIn(In):
    """Whose key is to be destroyed: exactly one of these."""

    subject: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    run: RunId | None = None


class ErasedOut(Out):
    keys: int = Field(description="How many were destroyed.")
    terminated: list[str] = Field(description="Ids of the runs that were live.")


class HealthOut(Out):
    live: bool
    ready: bool
    reasons: list[str]


@router.get("/retention")
async def retention(engine: EngineOfAll) -> RetentionOut | None:
    """Who removes old runs, and by which rules; null if nobody ever did."""
    found = await engine.retention()
    return None if found is None else RetentionOut.model_validate(msgspec.to_builtins(found))


@router.post("/retention/prune")
async def prune(engine: EngineOfAll, body: PruneIn) -> PrunedOut | None:
    """Remove runs that have been kept long enough, by these rules alone; null if somebody else was at it all the time.

    If the request is cut off, some are gone; ask again for the others.
    """
    rules = [Retention(rule.after, workflow=rule.workflow, status=rule.status or None) for rule in body.rules]
    done = await engine.prune(rules, dry=body.dry)
    if done is None:
        return None
    kinds = [KindOut(workflow=name, status=status, runs=runs) for (name, status), runs in done.kinds.items()]
    return PrunedOut(runs=done.runs, kinds=kinds, kept=done.kept, files=done.files, looked=done.looked)


@router.post("/erasures")
async def erase(engine: EngineHere, body: EraseIn) -> ErasedOut:
    """Destroy the key of a subject's data, or of one run's. It can't be taken back."""
    done = await engine.erase(subject=body.subject, run=body.run)
    return ErasedOut(keys=done.keys, terminated=list(done.terminated))


@router.get("/health")
async def health(engine: EngineServed) -> HealthOut:
    """Whether nothing hangs in the server, and whether it can work now. Probes ask /healthz and /readyz."""
    return HealthOut.model_validate(msgspec.to_builtins(await engine.health()))
