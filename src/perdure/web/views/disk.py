"""What the overview says of the room that a database takes."""

from __future__ import annotations

from datetime import datetime

from perdure.api.keeping import DiskUsage
from perdure.api.wording import size

Line = tuple[str, str, datetime | None]


def disk_lines(use: DiskUsage, most: int = 4) -> list[Line]:
    """Names, figures, and moments."""
    lines: list[Line] = []
    if use.bytes:
        free = f", {size(use.free)} free" if use.free else ""
        lines.append(("size", size(use.bytes) + free, None))
    if use.log:
        lines.append(("log", size(use.log), None))
    lines.append(("runs", f"about {use.runs:,}" if use.runs > 1000 else f"{use.runs:,}", None))
    if use.oldest is not None:
        lines.append(("oldest", "", use.oldest))
    lines += [(one.workflow, size(one.bytes), None) for one in use.workflows[:most]]
    if use.rules:
        lines.append(("to be removed", f"{use.due:,}{' or more' if use.due_more else ''}", None))
    return lines
