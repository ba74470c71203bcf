"""A store that syncs less than it should, to show that the images would tell."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.storage.sqlite import connection
from perdure.storage.sqlite.database import Database


def syncing_less(monkeypatch: pytest.MonkeyPatch, wanted: str, given: str, then: int) -> None:
    """Let the store believe that it has set `wanted`."""
    real = Database.pragma

    def pragma(self: Database, name: str, value: int | str | None = None) -> Any:
        return real(self, name, given if (name, value) == ("synchronous", wanted) else value)

    monkeypatch.setattr(Database, "pragma", pragma)
    monkeypatch.setattr(connection, "_SYNCHRONOUS_FULL", then)
