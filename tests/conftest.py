"""What all tests share: no environment of the developer's machine, and one Hypothesis profile.

This file's folder is on the path of every test, so that `from helpers...` works.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest

from helpers.memory import folder_in_memory

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # throw-away environments may lack it
    pass
else:
    settings.register_profile(
        "perdure",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    settings.load_profile("perdure")


if os.environ.get("PERDURE_TEST_HICCUPS"):
    from helpers.hiccups import hiccups as hiccups


if os.environ.get("PERDURE_CANARY") == "1":
    from helpers import canary_plugin
    from helpers.canary_plugin import canaries_are_silent as canaries_are_silent

    canary_plugin.install()

if (folder := folder_in_memory(4 << 30)) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)  # pytest's name for where `tmp_path` is

#: Clients of providers load the trusted certificates, 50 ms each time: once is enough where all is local.
ssl.create_default_context = functools.cache(ssl.create_default_context)

#: Nothing that is imported or collected is garbage, and there is much of it to look at.
gc.disable()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs deaf to Ctrl-C. The programs that tests interrupt mustn't inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_database_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    if "PERDURE_URL" in os.environ:
        monkeypatch.delenv("PERDURE_URL")


@pytest.fixture(autouse=True)
def no_telemetry_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test installs watches no engine of the tests after it."""
    monkeypatch.setattr("perdure.runtime.observing._installed", [])


@pytest.fixture
def no_definitions_of_others() -> Iterator[None]:
    """Hide what other tests' modules define, and workers register: queues, budgets, workflows started by events."""
    from perdure.runtime import definitions, queues

    kept = dict(definitions._workflows), dict(queues._queues)
    for name, definition in kept[0].items():
        if definition.on or definition.budgets:
            del definitions._workflows[name]
    queues._queues.clear()
    yield
    for registry, before in zip((definitions._workflows, queues._queues), kept, strict=True):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def pytest_collection_finish() -> None:
    """Let garbage collections pass over all that was imported: many tests make one after each turn."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have counted or measured (see tests/acceptance/conftest.py)."""
    if seed := os.environ.get("PERDURE_TEST_HICCUPS"):
        terminalreporter.write_line(f"on a machine that hiccups (repeat it with PERDURE_TEST_HICCUPS={seed})")
    if os.environ.get("PERDURE_CANARY") == "1":
        terminalreporter.write_line(
            "PERDURE_CANARY=1: every step has used a secret; a hit is an error at teardown"
        )
    counted: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
            elif name == "tally" and report.when == "call":
                counted[value[0]] += value[1]
    if counted:
        told = ", ".join(f"{number:,} {what}" for what, number in counted.items())
        failed = len(terminalreporter.getreports("failed"))
        verdict = f"{failed} tests failed" if failed else "0 lost, 0 recorded twice, 0 stuck, 0 damaged"
        terminalreporter.write_line(f"PROOF: {told}: {verdict}")
