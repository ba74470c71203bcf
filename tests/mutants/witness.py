"""A plugin of pytest that writes down what happens, as it happens: whoever hangs or is killed has told by then.

Lines of JSON go to the file named by PERDURE_WITNESS: which test begins, and which fails, with the first line of why.
"""

from __future__ import annotations

import json
import os

import pytest

_PATH = os.environ["PERDURE_WITNESS"]


def _write(**line: object) -> None:
    with open(_PATH, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _write(began=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _write(failed=report.nodeid, when=report.when, why=str(getattr(crash, "message", report.longrepr)))
    elif report.passed and report.when == "call":
        _write(passed=report.nodeid)


def pytest_sessionfinish(exitstatus: int) -> None:
    _write(exit=int(exitstatus))
