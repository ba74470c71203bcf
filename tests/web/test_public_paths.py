"""Probes are open to everybody, by exactly their paths; and they say nothing but how the server is."""

from __future__ import annotations

import pytest
from web_kit import run, serving

from perdure import Health
from perdure.web import Access, Role, Tokens


def closed() -> Access:
    made = Tokens()
    made.issue("ann", Role.ADMIN)
    return Access(tokens=made)


@pytest.mark.parametrize("name", ["healthz", "readyz"])
def test_paths_that_look_like_public_ones_arent(name: str) -> None:
    """Peers were open to whoever asked for something that ended, or began, in the right way."""

    async def main() -> None:
        async with serving(access=closed()) as (_, client):
            assert (await client.get(f"/{name}")).status_code == 200
            for path in (
                f"/api/v1/runs/{name}", f"/api/v1/runs/{name}/events", f"/x/{name}", f"/{name}/", f"/{name}/runs",
                f"//{name}", f"/{name.upper()}", f"/{name}%2F..%2Fapi%2Fv1%2Fruns", f"/{name};/api/v1/runs",
                f"/api/v1/runs/../../{name}/x", f"/login/{name}",
            ):  # fmt: skip
                for method in ("GET", "POST", "DELETE"):
                    answer = await client.request(method, path)
                    assert answer.status_code in (401, 404, 405), f"{method} {path}: {answer.status_code}"
                    assert b"live" not in answer.content, path
                    assert answer.status_code == 401 or "/api/" not in path

    run(main)


def test_what_is_wrong_is_told_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(access=closed()) as (engine, client):
            well = await client.get("/readyz")
            assert (well.status_code, well.json()) == (200, {"status": "ready", "reasons": []})

            async def ill() -> Health:
                return Health(True, False, ["the database doesn't answer"])

            monkeypatch.setattr(engine, "health", ill)
            told = await client.get("/readyz")
            assert told.status_code == 503
            assert told.json() == {"status": "not ready", "reasons": ["the database doesn't answer"]}
            assert (await client.get("/healthz")).json() == {"status": "live", "reasons": []}

    run(main)
