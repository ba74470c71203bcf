"""The second release: steps were added, before and after the place where live runs stand, and a workflow is gone."""

from __future__ import annotations

import perdure
from perdure import step, workflow


@step
async def check(order: str) -> str:
    return "checked by 2"


@step
async def reserve(order: str) -> str:
    return "reserved by 2"


@step
async def invoice(order: str) -> str:
    return "invoiced by 2"


@step
async def charge(order: str) -> str:
    return "charged by 2"


@workflow(name="orders.order")
async def order(id: str) -> list[str]:
    done: list[str] = []
    if perdure.patched("check first"):
        done.append(await check(id))
    done.append(await reserve(id))
    await perdure.receive("paid", bool)
    if perdure.patched("send an invoice"):
        done.append(await invoice(id))
    return [*done, await charge(id)]


@workflow(name="orders.strict", pinned=True)
async def strict(id: str) -> list[str]:
    """It may change at will: the runs of the first release never see this."""
    done = [await check(id), await reserve(id)]
    await perdure.receive("paid", bool)
    return [*done, await invoice(id), await charge(id)]
