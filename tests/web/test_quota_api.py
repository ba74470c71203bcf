"""Quotas over HTTP: admins give them, whoever sees one namespace sees its own, and who has used it up gets 429."""

from __future__ import annotations

from contextlib import AsyncExitStack

import httpx
import pytest
from web_kit import BASE, run, serving

import perdure
from perdure import HttpClient, Quota, Rate
from perdure.web import Access, Role, Tokens, create_app


@perdure.workflow(name="quotas.waits")
async def waits() -> None:
    await perdure.receive("go")


def test_quotas_are_given_listed_and_taken_away() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            body = {"runs": 5, "starts": {"limit": 10, "per": 60}, "usd": 2.5, "per": "day"}
            assert (await client.put("/api/v1/quotas/acme", json=body)).status_code == 204
            (told,) = (await client.get("/api/v1/quotas")).json()
            assert (told["namespace"], told["quota"]["runs"], told["runs"], told["starts"]) == (
                "acme",
                5,
                0,
                1,
            )
            assert "T00:00:00" in told["renews_at"]
            burst = {"starts": {"limit": 1, "per": 60, "burst": 5}}
            for wrong in ({"runs": -1}, burst, {"per": "week"}, {"x": 1}):
                assert (await client.put("/api/v1/quotas/acme", json=wrong)).status_code == 422, wrong
            assert (await client.put("/api/v1/quotas/:x", json={})).status_code == 422
            assert (await client.delete("/api/v1/quotas/acme")).status_code == 204
            assert (await client.get("/api/v1/quotas")).json() == []

    run(main)


def test_who_sees_one_namespace_sees_its_own_quota_and_gives_none() -> None:
    async def main() -> None:
        tokens = Tokens()
        acme = tokens.issue("ann", Role.ADMIN, namespace="acme")
        viewer = tokens.issue("vic", Role.OPERATOR)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(perdure.Engine("memory:"))
            await engine.quotas.set("acme", Quota(runs=1))
            await engine.quotas.set("other", Quota(runs=1))
            transport = httpx.ASGITransport(create_app(engine, Access(tokens=tokens)))
            ann = await stack.enter_async_context(HttpClient(BASE, token=acme, transport=transport))
            vic = await stack.enter_async_context(HttpClient(BASE, token=viewer, transport=transport))
            assert [info.namespace for info in await ann.quotas.list()] == ["acme"]
            for client in (ann, vic):
                with pytest.raises(perdure.PerdureError):
                    await client.quotas.set("acme", Quota(runs=100))
            await ann.start("quotas.waits", id="1")
            with pytest.raises(perdure.PerdureError, match="its quota is 1"):
                await ann.start("quotas.waits", id="2")
            assert (await engine.quotas.list())[0].runs == 1

    run(main)


def test_clients_of_a_server_have_quotas_too() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            transport = httpx.ASGITransport(create_app(engine))
            async with HttpClient(BASE, transport=transport) as client:
                quota = Quota(runs=5, starts=Rate(10, per=60), storage=10**9)
                await client.quotas.set("acme", quota)
                info = await client.quotas.get("acme")
                assert info is not None
                assert (info.quota, info.runs, info.storage) == (quota, 0, 0)
                assert await client.quotas.get("other") is None
                await client.quotas.remove("acme")
                assert await client.quotas.list() == []

    run(main)
