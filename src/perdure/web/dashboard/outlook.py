"""What the pages Overview and Why show, as plain data: figures, charts, and what an action sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from perdure.api.overview import Overview, WorkflowLoad
from perdure.api.wording import duration
from perdure.core.stuck import Action, Group, Held

#: Workflows that a chart of lengths shows.
CHARTED = 8

_STARTS = {"hour": "%H:%M", "day": "%H:%M", "week": "%a %H:%M"}


class Figure(NamedTuple):
    """One number that counts, and where it leads."""

    name: str
    value: str
    hint: str = ""
    tone: str = ""
    path: str = ""


def figures(found: Overview) -> list[Figure]:
    """The numbers at the top."""
    runs = found.runs
    failed = sum(part.failed for part in found.ends)
    completed = sum(part.completed for part in found.ends)
    blocked, paused = runs.get("blocked", 0), runs.get("paused", 0)
    span = f"last {found.window}"
    return [
        Figure("Running", f"{runs.get('running', 0):,}", path="/runs?status=running"),
        Figure("Waiting", f"{runs.get('waiting', 0):,}", path="/runs?status=waiting"),
        Figure("Queued", f"{runs.get('queued', 0):,}", path="/runs?status=queued"),
        Figure(
            "Blocked",
            f"{blocked:,}",
            f"{paused:,} paused" if paused else "",
            "bad" if blocked else "",
            "/why",
        ),
        Figure("Completed", f"{completed:,}", span, path="/runs?status=completed"),
        Figure("Failed", f"{failed:,}", span, "bad" if failed else "", "/runs?status=failed"),
        Figure("Spent today", f"${found.spent:.2f}", f"{found.calls:,} calls", path="/budgets"),
    ]


def ends_chart(found: Overview) -> dict[str, Any]:
    """What ended when, as stacked columns."""
    form = _STARTS[found.window]
    told = [part.at.astimezone(UTC).strftime(form) for part in found.ends]
    series = [
        ("Completed", "var(--pd-good)", [part.completed for part in found.ends]),
        ("Failed", "var(--pd-bad)", [part.failed for part in found.ends]),
        ("Others", "var(--pd-dim)", [part.others for part in found.ends]),
    ]
    return {
        **_frame(),
        "legend": {"right": 0, "top": 0, "textStyle": _TEXT, "itemWidth": 12, "itemHeight": 12},
        "xAxis": {
            "type": "category",
            "data": told,
            "axisLabel": _DIM,
            "axisLine": _LINE,
            "axisTick": {"show": False},
        },
        "yAxis": {"type": "value", "minInterval": 1, "axisLabel": _DIM, "splitLine": _LINE},
        "series": [_bars(name, colour, values, stack="ends") for name, colour, values in series],
    }


def ends_told(found: Overview) -> str:
    """The same for those who don't see it."""
    completed, failed = (sum(getattr(part, name) for part in found.ends) for name in ("completed", "failed"))
    return f"Runs that ended in the last {found.window}: {completed:,} completed, {failed:,} failed"


def lengths_chart(found: Overview) -> dict[str, Any]:
    """How long runs take, by workflow, the longest last: charts count from below."""
    known = [load for load in found.workflows if load.p95 is not None][:CHARTED]
    known.sort(key=lambda load: load.p95 or 0.0)
    return {
        **_frame(),
        "grid": {"left": 8, "right": 24, "top": 28, "bottom": 4, "containLabel": True},
        "legend": {"right": 0, "top": 0, "textStyle": _TEXT, "itemWidth": 12, "itemHeight": 12},
        "xAxis": {
            "type": "value",
            "axisLabel": {**_DIM, "formatter": "{value} s"},
            "splitLine": _LINE,
            "splitNumber": 4,
        },
        "yAxis": {
            "type": "category",
            "data": [short(load.name) for load in known],
            "axisLabel": _TEXT,
            "axisLine": _LINE,
            "axisTick": {"show": False},
        },
        "series": [
            _bars("Half within", "var(--pd-wait)", [_rounded(load.p50) for load in known]),
            _bars("95 % within", "var(--pd-busy)", [_rounded(load.p95) for load in known]),
        ],
    }


def workflow_cells(load: WorkflowLoad) -> dict[str, str]:
    """A row of the table of workflows."""
    return {
        "id": load.name,
        "runs": f"{sum(load.runs.values()):,}",
        "live": f"{sum(load.runs.get(name, 0) for name in ('queued', 'running', 'waiting')):,}",
        "blocked": f"{load.runs.get('blocked', 0):,}",
        "failed": f"{load.runs.get('failed', 0):,}",
        "p50": "" if load.p50 is None else duration(load.p50),
        "p95": "" if load.p95 is None else duration(load.p95),
    }


def short(name: str) -> str:
    """A workflow's name in a narrow place."""
    told = ".".join(name.rsplit(".", 2)[-2:])
    return told if len(told) <= 28 else "…" + told[-27:]


def _rounded(seconds: float | None) -> float:
    return float(f"{seconds or 0.0:.3g}")


# A chart measures its texts by the name of a font, so "inherit" would cut them off.
_FONT: Mapping[str, Any] = {"fontFamily": "system-ui, 'Segoe UI', Roboto, sans-serif", "fontSize": 12}
_TEXT: Mapping[str, Any] = {**_FONT, "color": "var(--pd-text)"}
_DIM: Mapping[str, Any] = {**_FONT, "color": "var(--pd-dim)", "hideOverlap": True}
_SPLIT: Mapping[str, Any] = {"splitLine": {"lineStyle": {"color": "var(--pd-line)"}}, "splitNumber": 3}
_LINE: Mapping[str, Any] = {"lineStyle": {"color": "var(--pd-line)"}}


def _frame() -> dict[str, Any]:
    return {
        "animation": False,
        "grid": {"left": 16, "right": 24, "top": 34, "bottom": 4, "containLabel": True},
        # not as markup: names are foreign texts
        "tooltip": {"trigger": "axis", "renderMode": "richText", "axisPointer": {"type": "none"}},
    }


def _bars(name: str, colour: str, values: Sequence[float], stack: str | None = None) -> dict[str, Any]:
    bar: dict[str, Any] = {
        "type": "bar",
        "name": name,
        "data": list(values),
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "barMaxWidth": 18,
    }
    return bar if stack is None else {**bar, "stack": stack}


# -- what doesn't go on ---------------------------------------------------------------------------------

#: How much a cause asks for somebody's attention.
TONES = {
    "pause": "hold",
    "question": "wait",
    "limit": "wait",
    "queue": "hold",
    "slow": "busy",
    "budget": "hold",
}

#: Where a person does what no single call does.
PLACES = {
    "question": ("/questions", "Answer"),
    "limit": ("/queues", "See the limits"),
    "queue": ("/queues", "See the queues"),
    "worker": ("/workers", "See the workers"),
    "budget": ("/budgets", "See the budgets"),
}


def request(
    action: Action, held: Held | None = None, asked: str = ""
) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body of an action, for one run or for all. A step is decided about as it was seen to wait."""
    path = action.path
    if held is not None:
        path = path.replace("{id}", quote(held.id)).replace("{step}", quote(held.step, safe=""))
    body = None if action.body is None else dict(action.body)
    if body is not None and held is not None and "{step}" in action.path:
        body["since"] = held.since
    if action.asks:
        body = {**(body or {}), action.asks: asked}
    return action.method, path, body


def targets(group: Group, action: Action) -> list[Held | None]:
    """For whom an action is to be done: each of the runs that are known, or once."""
    return list(group.runs) if action.each else [None]


def since(group: Group) -> datetime | None:
    """When the longest one began to wait."""
    return None if group.since is None else datetime.fromtimestamp(group.since, UTC)


def merged(groups: Sequence[Group], more: Sequence[Group]) -> list[Group]:
    """Groups of one page, and those of the next."""
    made = {_key(group): group for group in groups}
    for group in more:
        old = made.get(_key(group))
        if old is None:
            made[_key(group)] = group
            continue
        starts = [each.since for each in (old, group) if each.since is not None]
        made[_key(group)] = Group(
            old.kind,
            old.title,
            old.what,
            old.count + group.count,
            old.more or group.more,
            min(starts, default=None),
            old.todo,
            (*old.runs, *group.runs),
            old.actions,
        )
    return sorted(made.values(), key=lambda group: -group.count)


def _key(group: Group) -> tuple[str, str, str]:
    first = group.runs[0] if group.runs else None
    step = "" if first is None else first.step.partition(":")[0]
    return (
        group.kind,
        group.title + ("" if first is None else first.workflow),
        step or group.what * (first is None),
    )
