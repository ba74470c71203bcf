"""The first release of a program: what test_deploys.py replaces while its runs go on."""

from __future__ import annotations

import perdure
from perdure import step, workflow


@step
async def reserve(order: str) -> str:
    return "reserved by 1"


@step
async def charge(order: str) -> str:
    return "charged by 1"


@workflow(name="orders.order")
async def order(id: str) -> list[str]:
    done = [await reserve(id)]
    await perdure.receive("paid", bool)
    return [*done, await charge(id)]


@workflow(name="orders.strict", pinned=True)
async def strict(id: str) -> list[str]:
    done = [await reserve(id)]
    await perdure.receive("paid", bool)
    return [*done, await charge(id)]


@workflow(name="orders.retired")
async def retired(id: str) -> list[str]:
    """The next release doesn't have this one any more."""
    done = [await reserve(id)]
    await perdure.receive("paid", bool)
    return [*done, await charge(id)]
