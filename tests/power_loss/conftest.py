"""Logs are checkpointed and lengthened often here: a loss of power often meets a checkpoint, or zeros behind a log."""

from __future__ import annotations

import pytest

from perdure.storage.sqlite import checkpoint, log_room


@pytest.fixture(autouse=True)
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_PASSIVE_PAGES", 25)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PAGES", 120)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PATIENCE", 0.01)
    monkeypatch.setattr(log_room, "_WORTH_IT", 2)
    monkeypatch.setattr(log_room, "_NEAR", 4)
    monkeypatch.setattr(log_room, "_STEP", 8)
