"""What pages get of an engine: to look, and nothing else."""

from __future__ import annotations

import pytest
from test_api import adds
from web_kit import run

import perdure
from perdure.api.handle import Handle
from perdure.api.schedules import ScheduleHandle
from perdure.web.dashboard.looking import to_look_at


def test_pages_look_and_change_nothing() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            await engine.run(adds(1), id="r")
            await engine.schedules.create("hourly", adds(1), every=3600)
            looked = to_look_at(engine)
            assert (await looked.get("r").info()).id == looked.get("r").id == "r"
            assert [item async for item in looked.runs()]
            assert await looked.queues.list()
            assert (await looked.schedules.get("hourly").info()).name == "hourly"
            may = {
                name for name in dir(Handle) if not name.startswith("_") and hasattr(looked.get("r"), name)
            }
            assert not may & {
                "answer", "cancel", "fork", "pause", "query", "resolve", "resume", "retry", "send", "set_attributes",
                "terminate", "update",
            }  # fmt: skip
            allowed = {
                name for name in dir(perdure.Engine) if not name.startswith("_") and hasattr(looked, name)
            }
            assert not allowed & {
                "answer", "call_entity", "callbacks", "close", "entity", "publish", "run", "start", "start_many",
                "unsubscribe",
            }  # fmt: skip
            assert {
                name for name in dir(ScheduleHandle) if hasattr(looked.schedules.get("hourly"), name)
            } >= {"info"}
            for part, verb in (
                ("queues", "pause"),
                ("limits", "block"),
                ("budgets", "raise_by"),
                ("schedules", "create"),
            ):
                with pytest.raises(AttributeError, match=r"Desk\.send"):
                    getattr(getattr(looked, part), verb)
            with pytest.raises(AttributeError, match=r"Desk\.send"):
                _ = looked.schedules.get("hourly").pause

    run(main)
