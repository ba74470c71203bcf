"""What isn't one run's, over HTTP: queues, limits, schedules, budgets, callbacks, as an engine has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from perdure.api.budgets import BudgetInfo
from perdure.api.entitylist import EntityKind, EntityPage
from perdure.api.limits import LimitInfo
from perdure.api.queues import QueueInfo
from perdure.api.quotas import QuotaInfo
from perdure.api.scheduleinfo import ScheduleInfo
from perdure.core.quotas import Quota
from perdure.core.retry import seconds
from perdure.errors import UnknownScheduleError
from perdure.web.remote import RemoteHandle, Wire
from perdure.web.typed import typed


class _Held:
    """Things of one kind, by name."""

    def __init__(self, wire: Wire, path: str) -> None:
        self._wire = wire
        self._path = path

    async def _all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._wire.request("GET", self._path)
        return found

    async def _named(self, name: str) -> dict[str, Any] | None:
        return next((each for each in await self._all() if each["name"] == name), None)

    async def _ask(self, method: str, name: str, *action: str, params: Any = None, json: Any = None) -> Any:
        path = "/".join([self._path, quote(name, safe=""), *action])
        return await self._wire.request(method, path, params=params, json=json)


class RemoteQueues(_Held):
    """As `engine.queues`; queues are given by their names. Changing them takes an admin."""

    async def list(self) -> list[QueueInfo]:
        """All queues that are defined, served, or hold anything."""
        return [typed(each, QueueInfo) for each in await self._all()]

    async def get(self, name: str) -> QueueInfo | None:
        """One queue; None if nothing is known of it."""
        found = await self._named(name)
        return None if found is None else typed(found, QueueInfo)

    async def pause(self, name: str) -> None:
        """Let none of its runs go on but those that workers have."""
        await self._ask("POST", name, "pause")

    async def resume(self, name: str) -> None:
        """Let a paused or draining queue go on."""
        await self._ask("POST", name, "resume")

    async def drain(self, name: str) -> None:
        """Let none of its runs begin."""
        await self._ask("POST", name, "drain")

    async def set(self, name: str, **limits: Any) -> QueueInfo:
        """Give a queue other limits than its code does. As `engine.queues.set`."""
        return typed(await self._ask("PUT", name, json=msgspec.to_builtins(limits)), QueueInfo)

    async def reset(self, name: str) -> QueueInfo:
        """Let the limits hold again that code gives to a queue."""
        return typed(await self._ask("POST", name, "reset"), QueueInfo)


class RemoteLimits(_Held):
    """As `engine.limits`; rate limits are given by their names. Changing them takes an admin."""

    async def list(self) -> list[LimitInfo]:
        """All rate limits that are known."""
        return [typed(each, LimitInfo) for each in await self._all()]

    async def get(self, name: str) -> LimitInfo | None:
        """One rate limit; None if nothing is known of it."""
        found = await self._named(name)
        return None if found is None else typed(found, LimitInfo)

    async def block(self, name: str, duration: float | timedelta) -> None:
        """Let nothing begin that has this limit, for so many seconds from now."""
        await self._ask("POST", name, "block", json={"seconds": seconds(duration, "duration")})

    async def unblock(self, name: str) -> None:
        """End a block."""
        await self._ask("POST", name, "unblock")

    async def reset(self, name: str) -> None:
        """As `engine.limits.reset`."""
        await self._ask("POST", name, "reset")


class RemoteQuotas(_Held):
    """As `engine.quotas`. Giving them takes an admin."""

    async def list(self) -> list[QuotaInfo]:
        """The quotas of all namespaces that have one, with what is used of them."""
        return [typed(each, QuotaInfo) for each in await self._all()]

    async def get(self, namespace: str) -> QuotaInfo | None:
        """One namespace's quota; None if it has none."""
        return next((info for info in await self.list() if info.namespace == namespace), None)

    async def set(self, namespace: str, quota: Quota) -> None:
        """Give a namespace a quota, in place of the one it has. As `engine.quotas.set`."""
        await self._ask("PUT", namespace, json=msgspec.to_builtins(quota))

    async def remove(self, namespace: str) -> None:
        """Let a namespace have as much as it likes."""
        await self._ask("DELETE", namespace)


class RemoteSchedule:
    """One schedule. Making it does no I/O; its methods do. Those that change it take an admin.

    Attributes:
        name: its name.
    """

    def __init__(self, held: RemoteSchedules, name: str) -> None:
        self.name = name
        self._held = held

    async def info(self) -> ScheduleInfo:
        """The schedule at this moment. Raises UnknownScheduleError."""
        found = await self._held._named(self.name)
        if found is None:
            msg = f"there is no schedule {self.name!r}"
            raise UnknownScheduleError(msg)
        return typed(found, ScheduleInfo)

    async def pause(self, reason: str | None = None) -> None:
        """Let it start nothing."""
        await self._held._ask("POST", self.name, "pause", json={"reason": reason})

    async def resume(self) -> None:
        """Let it go on."""
        await self._held._ask("POST", self.name, "resume")

    async def trigger(self) -> RemoteHandle[Any]:
        """Start one of its runs now."""
        made = await self._held._ask("POST", self.name, "trigger")
        return RemoteHandle(self._held._wire, made["id"])

    async def backfill(self, start: datetime, end: datetime) -> int:
        """Let it make up for the slots from `start` up to `end`; returns how many there are."""
        body = {"start": start.isoformat(), "end": end.isoformat()}
        return int((await self._held._ask("POST", self.name, "backfill", json=body))["count"])

    async def update(self, **timing: Any) -> ScheduleInfo:
        """Change what is given of `cron`, `tz`, `every`, `at`, `jitter`, `overlap`, `catch_up`, `queue`."""
        return typed(await self._held._ask("PATCH", self.name, json=plain_timing(timing)), ScheduleInfo)

    async def delete(self) -> None:
        """Remove it; the runs that it has started go on."""
        await self._held._ask("DELETE", self.name)


class RemoteSchedules(_Held):
    """As `engine.schedules`. Changing them takes an admin."""

    async def create(
        self,
        name: str,
        workflow: str,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        paused: bool = False,
        if_exists: Literal["attach", "update", "fail"] = "attach",
        **timing: Any,
    ) -> RemoteSchedule:
        """Let runs be started by the clock.

        Args:
            workflow: its durable name.
            args, kwargs: its arguments, as plain data.
            timing: one of `cron`, `every` and `at`, and `tz`, `jitter`, `overlap`, `catch_up`, `queue`, as for
                `engine.schedules.create`.

        Raises:
            ConfigurationError: the timing can't be used.
            ScheduleConflictError: there is another schedule of this name.

        Example:
            >>> await client.schedules.create("nightly", "app.report", cron="30 2 * * *")  # doctest: +SKIP
        """
        body = {
            "workflow": workflow,
            "args": msgspec.to_builtins(args),
            "kwargs": msgspec.to_builtins(dict(kwargs or {})),
            "paused": paused,
            "if_exists": if_exists,
            **plain_timing(timing),
        }
        await self._ask("PUT", name, json=body)
        return self.get(name)

    def get(self, name: str) -> RemoteSchedule:
        """A schedule by its name, existing or not. Does no I/O."""
        return RemoteSchedule(self, name)

    async def list(self) -> list[ScheduleInfo]:
        """All schedules, by name."""
        return [typed(each, ScheduleInfo) for each in await self._all()]


class RemoteBudgets(_Held):
    """As `engine.budgets`. Changing them takes an admin."""

    async def list(self) -> list[BudgetInfo]:
        """All budgets, with the accounts that have asked for money."""
        return [typed(each, BudgetInfo) for each in await self._all()]

    async def get(self, name: str) -> BudgetInfo | None:
        """One budget; None if there is none of this name."""
        found = await self._named(name)
        return None if found is None else typed(found, BudgetInfo)

    async def raise_by(
        self, name: str, *, usd: Decimal | float | str = 0, tokens: int = 0, owner: str | None = None
    ) -> None:
        """Raise the cap of one account. What waits for it goes on. As `engine.budgets.raise_by`."""
        await self._ask("POST", name, "raise", json={"usd": _usd(usd), "tokens": tokens, "owner": owner})

    async def close_breaker(self, name: str, *, owner: str | None = None) -> None:
        """Close a breaker that a spike has opened."""
        await self._ask("POST", name, "close", params={"owner": owner})

    async def set(
        self, name: str, *, usd: Decimal | float | str | None = None, tokens: int | None = None
    ) -> None:
        """Give all accounts of a budget other caps than its code does; None is no cap."""
        await self._ask("PUT", name, json={"usd": None if usd is None else _usd(usd), "tokens": tokens})

    async def reset(self, name: str) -> None:
        """Let the caps hold again that its code gives to a budget."""
        await self._ask("POST", name, "reset")

    async def remove(self, name: str) -> None:
        """Forget a budget that no code declares any more."""
        await self._ask("DELETE", name)


class RemoteCallbacks(_Held):
    """As `engine.callbacks`. Raise UnknownCallbackError, CallbackCompletedError, CallbackExpiredError."""

    async def complete(self, token: str, value: Any = None) -> None:
        """Complete what a run waits for."""
        await self._ask("POST", token, "complete", json={"value": msgspec.to_builtins(value)})

    async def fail(self, token: str, message: str) -> None:
        """Let what a run waits for fail."""
        await self._ask("POST", token, "fail", json={"message": message})

    async def heartbeat(self, token: str) -> None:
        """Say that what a run waits for is still being worked on."""
        await self._ask("POST", token, "heartbeat")


def plain_timing(timing: Mapping[str, Any]) -> dict[str, Any]:
    """Lengths of time as seconds, moments as texts."""
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else msgspec.to_builtins(value)
        for name, value in timing.items()
    }


def _usd(amount: Decimal | float | str) -> str:
    return format(Decimal(str(amount)), "f")


class RemoteEntities(_Held):
    """As `engine.entities`."""

    async def kinds(self) -> list[EntityKind]:
        """The kinds that have had calls, by name."""
        return [typed(each, EntityKind) for each in await self._all()]

    async def page(
        self, kind: str, *, text: str | None = None, size: int = 50, cursor: str | None = None
    ) -> EntityPage:
        """Entities of one kind, those made last first. Arguments as for `engine.entities.page`."""
        given = {"text": text, "size": size, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        return typed(await self._ask("GET", kind, params=params), EntityPage)
