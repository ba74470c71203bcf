"""Secrets over HTTP: a reference is taken, and a value in its place is refused and not repeated."""

from __future__ import annotations

from typing import Any

import pytest
from web_kit import run, serving

import perdure
from perdure import Secret, step, workflow

VALUE = "sk_live_0123456789"


@step
async def length_of(key: Secret[str]) -> int:
    return len(key.reveal())


@workflow(name="web.pays")
async def pays(key: Secret[str]) -> int:
    given = await perdure.ask("Which other key?", Secret[str], key="other")
    return await length_of(key) + await length_of(given)


def test_only_references_are_taken(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("KEY_OF_WEB_TEST", "abcdefghijk")
    reference = {"from": "env", "name": "KEY_OF_WEB_TEST"}
    wrong: list[Any] = [VALUE, {"from": "env", "value": VALUE}, {**reference, "also": VALUE}, [VALUE]]

    async def main() -> None:
        async with serving() as (engine, client):
            for key in wrong:
                answer = await client.post(
                    "/api/v1/runs", json={"workflow": "web.pays", "kwargs": {"key": key}}
                )
                assert answer.status_code == 422
                assert "its value is never taken" in answer.text
                assert VALUE not in answer.text
            started = await client.post(
                "/api/v1/runs", json={"workflow": "web.pays", "kwargs": {"key": reference}, "id": "r"}
            )
            assert started.status_code == 201
            questions: list[Any] = []
            while not questions:
                questions = [question async for question in engine.questions()]
            path = f"/api/v1/questions/{questions[0].id}"
            schema = (await client.get(path)).json()["form"]
            assert schema["x-perdure-secret"] is True
            for key in wrong:
                answer = await client.post(f"{path}/answer", json={"value": key})
                assert answer.status_code == 422
                assert VALUE not in answer.text
            assert (await client.post(f"{path}/answer", json={"value": reference})).status_code == 200
            assert await engine.get("r").result(timeout=60) == 22
            assert "abcdefghijk" not in (await client.get("/api/v1/runs/r/history")).text

    run(main)
    assert VALUE not in caplog.text
