"""How much each namespace may have, over HTTP: whoever sees one namespace sees its own quota, admins give them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from perdure.api.quotas import QuotaInfo
from perdure.core.quotas import Quota
from perdure.core.rates import Rate
from perdure.errors import UsageError
from perdure.web.engines import EngineHere, EngineOfAll

router = APIRouter(tags=["fleet"])

Namespace = Annotated[str, Path(min_length=1, max_length=63)]


class RateIn(BaseModel):
    """So many per so many seconds."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(ge=1, le=10**9)
    per: float = Field(gt=0, le=10**9)
    burst: int | None = Field(None, ge=1, le=10**9)


class QuotaIn(BaseModel):
    """How much a namespace may have. What isn't given isn't limited."""

    model_config = ConfigDict(extra="forbid")

    runs: int | None = Field(None, ge=0, le=10**12)
    starts: RateIn | None = None
    storage: int | None = Field(None, ge=0, le=10**18)
    usd: float | None = Field(None, ge=0, lt=10**9)
    per: Literal["day", "month", "ever"] = "month"


class QuotaOut(BaseModel):
    """A quota, and what is used of it."""

    namespace: str
    quota: QuotaIn
    runs: int
    starts: int | None
    starts_at: datetime | None
    storage: int | None
    usd: float | None
    renews_at: datetime | None


@router.get("/quotas")
async def quotas(engine: EngineHere) -> list[QuotaOut]:
    """All quotas, with what is used of them; for who sees one namespace, its own."""
    return [_quota(info) for info in await engine.quotas.list()]


@router.put("/quotas/{namespace}", status_code=204)
async def set_quota(engine: EngineOfAll, namespace: Namespace, body: QuotaIn) -> None:
    """Give a namespace a quota, in place of the one it has."""
    given: dict[str, Any] = body.model_dump()
    if body.starts is not None:
        try:
            given["starts"] = Rate(**body.starts.model_dump())
        except ValueError as error:
            raise UsageError(str(error)) from None
    await engine.quotas.set(namespace, Quota(**given))


@router.delete("/quotas/{namespace}", status_code=204)
async def remove_quota(engine: EngineOfAll, namespace: Namespace) -> None:
    """Let a namespace have as much as it likes."""
    await engine.quotas.remove(namespace)


def _quota(info: QuotaInfo) -> QuotaOut:
    quota, rate = info.quota, info.quota.starts
    return QuotaOut(
        namespace=info.namespace,
        quota=QuotaIn(
            runs=quota.runs,
            starts=None if rate is None else RateIn(limit=rate.limit, per=rate.per, burst=rate.burst),
            storage=quota.storage,
            usd=quota.usd,
            per=quota.per,
        ),
        runs=info.runs,
        starts=info.starts,
        starts_at=info.starts_at,
        storage=info.storage,
        usd=info.usd,
        renews_at=info.renews_at,
    )
