"""How `perdure worker` is told to tell metrics."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest


def test_a_missing_package_is_told_before_anything_runs(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "prometheus_client" else found(name)
    )
    told = cli.fails("worker", "flows", "--metrics-port", "0")
    assert "pip install 'perdure[metrics]'" in told
