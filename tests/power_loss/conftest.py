"""Logs are checkpointed often here, so that a loss of power often meets a checkpoint."""

from __future__ import annotations

import pytest

from perdure.storage.sqlite import checkpoint


@pytest.fixture(autouse=True)
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_PASSIVE_PAGES", 25)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PAGES", 120)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PATIENCE", 0.01)
