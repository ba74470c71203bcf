"""`--attr customer=x --attr "total>=100"`: what a listing asks of attributes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from perdure.cli.trouble import Trouble

_ASKED = re.compile(r"([^=<>!\s]+)\s*(=|!=|<=|>=|<|>)\s*(.*)", re.DOTALL)


def asked_of(texts: Sequence[str]) -> dict[str, list[tuple[str, Any]]]:
    """From the option's texts to what `engine.runs(attributes=...)` takes.

    A value is looked for in every way it can be read: `order=42` finds the number and the text.

    Raises:
        Trouble: a text compares nothing.
    """
    asked: dict[str, list[tuple[str, Any]]] = {}
    for text in texts:
        match = _ASKED.fullmatch(text)
        if match is None:
            raise Trouble(
                f"--attr {text!r} asks nothing: write name=value, or name>=value with < <= > >= !=."
            )
        name, operator, value = match.groups()
        readings = _readings(value)
        asked.setdefault(name, []).append(("in", readings) if operator == "=" else (operator, readings[0]))
    return asked


def _readings(text: str) -> list[Any]:
    """All that a text can mean, the most special first."""
    found: list[Any] = []
    if text in ("true", "false"):
        found.append(text == "true")
    try:
        number = float(text)
        found.append(int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else number)
    except ValueError:
        pass
    try:
        found.append(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError):
        pass
    return [*found, text]
