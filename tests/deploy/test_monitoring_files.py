"""The dashboard for Grafana and the alerts for Prometheus ask for metrics and labels that there are.

Where promtool is at hand it judges every query, and shows that alerts ring when they should, and only then.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from perdure.cli.app import app
from perdure.runtime.metrics.catalogue import CATALOGUE, table

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "perdure.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
GUIDE = ROOT / "docs" / "guide" / "monitoring.md"

#: Labels that Prometheus adds.
ADDED = {"instance", "job", "le"}
ROWS = ["Overview", "Throughput", "Latency", "Queues and limits", "Failures", "Workers", "Cost"]

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed")


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries() -> Iterator[tuple[str, str]]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def metric_of(name: str) -> str:
    """The catalogue's name of what a query asks for: a histogram has three series."""
    plain = re.sub(r"_(bucket|sum|count)$", "", name)
    return plain if plain in CATALOGUE and CATALOGUE[plain].kind == "histogram" else name


def asked(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics, each with the labels that are asked of it."""
    for name, selector in re.findall(r"\b((?:perdure|process)_\w+)(\{[^}]*\})?", expr):
        yield metric_of(name), set(re.findall(r"(\w+)\s*[=!]~?", selector))


def test_every_query_asks_for_what_there_is() -> None:
    seen: set[str] = set()
    for title, expr in queries():
        found = list(asked(expr))
        assert found, title
        labels = {label for name, _ in found for label in CATALOGUE[name].labels} | ADDED
        for name, selected in found:
            assert selected <= {*CATALOGUE[name].labels, *ADDED}, (title, name, selected)
            seen.add(name)
        for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr):
            assert {label.strip() for label in grouped.split(",")} <= labels, (title, grouped)
        if "_bucket" in expr:
            assert "le" in expr, title
    assert seen == set(CATALOGUE), "a metric that nothing shows"


def test_what_is_of_the_whole_database_is_never_summed_over_who_tells_it() -> None:
    for title, expr in queries():
        for metric in CATALOGUE.values():
            if metric.scope == "database" and metric.name in expr:
                pattern = rf"(max|min)( by \([^)]*\))? ?\({metric.name}\b"
                assert len(re.findall(pattern, expr)) == len(re.findall(rf"\b{metric.name}\b", expr)), title


def test_counters_are_asked_for_their_rates() -> None:
    for title, expr in queries():
        for name, _ in asked(expr):
            if CATALOGUE[name].kind != "gauge":
                assert re.search(rf"(rate|increase)\({name}", expr), (title, name)


def test_the_dashboard_is_whole() -> None:
    loaded = dashboard()
    assert [panel["title"] for panel in loaded["panels"] if panel["type"] == "row"] == ROWS
    ids = [panel["id"] for panel in loaded["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in loaded["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in loaded["templating"]["list"]}
    for _, expr in queries():
        assert set(re.findall(r"\$(\w+)", expr)) <= variables | {"__rate_interval"}
    for variable in loaded["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
            assert label in {*CATALOGUE[metric].labels, *ADDED}


def test_alerts_tell_what_to_do_by_commands_that_there_are() -> None:
    group: Any = typer.main.get_command(app)
    names = {rule["alert"] for rule in rules()}
    assert len(names) == len(rules())
    for wanted in (
        "Blocked",
        "QueueOld",
        "Takeovers",
        "NoWorkers",
        "CommitsSlow",
        "Budget",
        "TimersLate",
        "StoreErrors",
    ):
        assert any(wanted in name for name in names), wanted
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["runbook"]) > 80, rule["alert"]
        for command in re.findall(r"`perdure ([^`]+)`", rule["annotations"]["runbook"]):
            words = command.split()
            assert words[0] in group.commands, command
            inner = getattr(group.commands[words[0]], "commands", None)
            if inner and len(words) > 1 and words[1].islower():
                assert words[1] in inner, command


def test_the_guide_has_the_catalogue() -> None:
    assert table().strip() in GUIDE.read_text(), (
        "docs/guide/monitoring.md needs the table of the catalogue anew"
    )


@needs_promtool
def test_every_query_is_one(tmp_path: Path) -> None:
    exprs = [re.sub(r"\$\w+", ".*", expr.replace("$__rate_interval", "5m")) for _, expr in queries()]
    given = [{"record": f"q:{n}", "expr": expr} for n, expr in enumerate(exprs)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": given}]}))
    for path in (tmp_path / "rules.yml", ALERTS):
        done = subprocess.run(
            ["promtool", "check", "rules", path], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_ring_when_they_should(tmp_path: Path) -> None:
    series = {
        'perdure_db_runs_blocked{workflow="w",code="step"}': "0x5 3x60",
        'perdure_db_workers{state="alive"}': "1x10 0x60",
        'perdure_db_queue_depth{queue="a"}': "5x60",
        'perdure_db_queue_workers{queue="a"}': "0x60",
        'perdure_db_queue_workers{queue="b"}': "0x60",
        'perdure_db_budget_used_ratio{budget="team"}': "0.5x20 0.95x60",
    }
    expected = {
        "PerdureRunsBlocked": (12, {"workflow": "w", "code": "step", "severity": "warning"}),
        "PerdureNoWorkers": (20, {"severity": "critical"}),
        "PerdureQueueUnserved": (10, {"queue": "a", "severity": "critical"}),
        "PerdureBudgetNearlySpent": (30, {"budget": "team", "severity": "warning"}),
    }

    def ringing(name: str, minute: int, labels: list[dict[str, str]]) -> dict[str, Any]:
        return {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": [{"exp_labels": each} for each in labels],
        }

    given = yaml.safe_load(ALERTS.read_text())
    for group in given["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations")
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(given))
    tests = [ringing(name, minute, [labels]) for name, (minute, labels) in expected.items()]
    tests += [
        ringing("PerdureRunsBlocked", 7, []),
        ringing("PerdureNoWorkers", 9, []),
        ringing("PerdureBudgetNearlySpent", 10, []),
    ]
    whole = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": tests,
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(whole))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
