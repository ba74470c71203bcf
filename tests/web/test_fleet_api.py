"""What holds for all, over HTTP: limits of queues, backfills, rate limits, entities."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from test_api import adds, ok
from web_kit import run, serving

import perdure


@dataclass
class Words:
    words: list[str] = field(default_factory=list)


@perdure.entity(name="fleet.Book")
class Book:
    state: Words

    async def write(self, word: str) -> int:
        self.state.words.append(word)
        return len(self.state.words)


def test_limits_of_queues_are_set_and_reset() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            name = "of/slashes"
            body = {"concurrency": 3, "rate": {"limit": 5, "per": 60}}
            told = await ok(client, "PUT", f"/queues/{name}", json=body)
            assert (told["concurrency"], told["rate"]["limit"]) == (3, 5)
            assert told["overridden"] == ["concurrency", "rate"]
            told = await ok(client, "PUT", f"/queues/{name}", json={"concurrency": None})
            assert (told["concurrency"], told["rate"]["limit"]) == (None, 5)
            assert (await ok(client, "POST", f"/queues/{name}/reset"))["overridden"] == []
            assert (await ok(client, "POST", f"/queues/{name}/pause"))["paused"]
            for wrong in ({"concurrency": 0}, {"rate": {"limit": 1, "per": 0}}, {"nonsense": 1}):
                answer = await client.put(f"/api/v1/queues/{name}", json=wrong)
                assert answer.status_code == 422, wrong
            burst = {"rate": {"limit": 1, "per": 1, "burst": 7}}
            assert (await client.put(f"/api/v1/queues/{name}", json=burst)).status_code == 422

    run(main)


def test_schedules_are_filled_up() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.schedules.create("every/minute", adds(1), every=60, paused=True, overlap="allow")
            now = datetime.now(UTC)
            times = {"start": (now - timedelta(seconds=1)).isoformat(), "end": now.isoformat()}
            assert await ok(client, "POST", "/schedules/every/minute/backfill", json=times) == {"count": 0}
            for wrong in ({"start": "2026-01-01T00:00:00", "end": times["end"]}, {"start": times["end"]}):
                answer = await client.post("/api/v1/schedules/every/minute/backfill", json=wrong)
                assert answer.status_code == 422
            told = (await ok(client, "GET", "/schedules"))[0]
            assert (told["fired"], told["skipped"], told["missed"], told["buffered"]) == (0, 0, 0, [])
            answer = await client.delete("/api/v1/schedules/every/minute")
            assert answer.status_code == 204

    run(main)


def test_rate_limits_are_reset() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await ok(client, "POST", "/limits/a/b/block", json={"seconds": 60})
            assert (await ok(client, "GET", "/limits"))[0]["blocked_until"] is not None
            await ok(client, "POST", "/limits/a/b/reset")
            (found,) = await engine.limits.list() or (None,)
            assert found is None or found.blocked_until is None

    run(main)


def test_entities_are_listed() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            assert await ok(client, "GET", "/entities") == []
            for key in ("a/1", "a/2", "b"):
                await engine.entity(Book, key).write("moss")
            await engine.entity(Book, "b").write("fern" * 100)
            assert await ok(client, "GET", "/entities") == [{"name": "fleet.Book", "count": 3}]
            first = await ok(client, "GET", "/entities/fleet.Book", params={"size": 2})
            second = await ok(
                client, "GET", "/entities/fleet.Book", params={"size": 2, "cursor": first["next"]}
            )
            found = [*first["entities"], *second["entities"]]
            assert sorted(item["key"] for item in found) == ["a/1", "a/2", "b"]
            assert second["next"] is None
            (book,) = (await ok(client, "GET", "/entities/fleet.Book", params={"text": "/b"}))["entities"]
            assert (book["run"], book["kind"]) == ("fleet.Book/b", "fleet.Book")
            assert 400 < book["state_size"] < 500
            assert (await ok(client, "GET", f"/runs/{book['run']}"))["id"] == book["run"]
            assert (await ok(client, "GET", "/entities/unknown"))["entities"] == []
            wrong = await client.get("/api/v1/entities/fleet.Book", params={"cursor": "x!"})
            assert wrong.status_code == 422

    run(main)
