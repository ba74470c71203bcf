"""What is kept and what goes, over HTTP: the part of a client that is about old runs and erasing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perdure.api.erasing import Erased
from perdure.api.keeping import DiskUsage, Pruned, RetentionState
from perdure.errors import UsageError
from perdure.runtime.health import Health
from perdure.runtime.retention import Retention, rules_given
from perdure.web.typed import typed


class RemoteKeeping:
    """What HttpClient has of it."""

    if TYPE_CHECKING:

        async def request(
            self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
        ) -> Any: ...

    async def disk(self) -> DiskUsage:
        """How much room the database takes, as `Engine.disk`."""
        return typed(await self.request("GET", "/disk"), DiskUsage)

    async def retention(self) -> RetentionState | None:
        """Who removes old runs, and by which rules, as `Engine.retention`."""
        found = await self.request("GET", "/retention")
        return None if found is None else typed(found, RetentionState)

    async def prune(self, rules: Sequence[Retention], *, dry: bool = False) -> Pruned | None:
        """Remove runs that have been kept long enough, as `Engine.prune`; takes an admin.

        If the connection breaks meanwhile, some are gone; do it again.

        Raises:
            UsageError: a rule names an archive, which is a place of the server.
        """
        given = rules_given(rules)
        if any(rule.archive for rule in given):
            msg = (
                "prune() over HTTP writes no archives, which are places of the server: prune there, or by "
                "Engine(retention=...)"
            )
            raise UsageError(msg)
        told = [
            {"after": rule.after, "workflow": rule.workflow or None, "status": list(rule.statuses)}
            for rule in given
        ]
        done = await self.request("POST", "/retention/prune", json={"rules": told, "dry": dry})
        if done is None:
            return None
        kinds = {(kind["workflow"], kind["status"]): kind["runs"] for kind in done["kinds"]}
        return Pruned(done["runs"], kinds, done["kept"], done["files"], done["looked"])

    async def erase(self, *, subject: str | None = None, run: str | None = None) -> Erased:
        """Destroy the key of a subject's data, or of one run's, as `Engine.erase`; takes an admin."""
        return typed(await self.request("POST", "/erasures", json={"subject": subject, "run": run}), Erased)

    async def health(self) -> Health:
        """How the server's engine is, as `Engine.health`."""
        return typed(await self.request("GET", "/health"), Health)
