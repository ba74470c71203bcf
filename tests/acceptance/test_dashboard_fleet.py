"""Queues, rate limits, schedules, workers, entities and budgets in a real browser: each page's main task."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.browser import PERDURE, SOAK, Chrome, Site, browser, ready, server, shot
from perdure.web import Role, Tokens

pytestmark = pytest.mark.acceptance

MODULE = """
import asyncio
from dataclasses import dataclass, field

import perdure

SLOW = perdure.Queue("slow/one", concurrency=2)
MODEL = perdure.RateLimit("model", requests=perdure.Rate(5, per=3600, burst=5))

@perdure.workflow(name="fleet.waits")
async def waits(n: int) -> int:
    return await perdure.receive("go", int)

@perdure.step(limit=MODEL)
async def asks(n: int) -> int:
    return n

@perdure.workflow(name="fleet.asks")
async def asks_much(n: int) -> int:
    return sum(await asyncio.gather(*(asks(i) for i in range(n))))

@perdure.workflow(name="fleet.reports")
async def reports(what: str) -> str:
    return what

@perdure.step(spends=perdure.Spend(cost="1.00"), name="fleet.calls")
async def calls(n: int) -> int:
    perdure.record_usage(model="a model", cost="1.00")
    return n

@perdure.workflow(name="fleet.spends", budget=perdure.Budget(usd=2.0))
async def spends(n: int) -> int:
    done = 0
    for number in range(n):
        done += await calls(number)
    return done

@dataclass
class State:
    items: list[str] = field(default_factory=list)

@perdure.entity(name="fleet.Cart")
class Cart:
    state: State

    async def add(self, item: str) -> int:
        self.state.items.append(item)
        return len(self.state.items)

@perdure.workflow(name="fleet.shops")
async def shops() -> None:
    for user in range(3):
        await perdure.entity(Cart, f"user-{user}").add("a tent" * (user + 1))
"""

SCHEDULES = """
import asyncio
import perdure
import fleet

async def main():
    async with perdure.Engine(worker=False) as engine:
        await engine.schedules.create("nightly", fleet.reports("daily"), cron="30 2 * * *")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("fleet")
    (found / "fleet.py").write_text(MODULE)
    (found / "schedules.py").write_text(SCHEDULES)
    return found


def post(site: Site, path: str, body: Any = None) -> Any:
    answer = httpx.post(f"{site.url}/api/v1{path}", json=body or {}, timeout=60)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def get(site: Site, path: str) -> Any:
    answer = httpx.get(f"{site.url}/api/v1{path}", timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def environment(folder: Path) -> dict[str, str]:
    paths = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PERDURE_URL": "sqlite:///site.db", "PYTHONPATH": paths}


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with server(folder, "dev", "fleet", "--queues", "default,slow/one") as found:
        script = [PERDURE[0], "schedules.py"]
        subprocess.run(script, cwd=folder, env=environment(folder), check=True, timeout=120)
        for number in range(5):
            body = {"workflow": "fleet.waits", "args": [number], "id": f"w-{number}", "queue": "slow/one"}
            post(found, "/runs", body)
        post(found, "/runs", {"workflow": "fleet.asks", "args": [8], "id": "asks"})
        post(found, "/runs", {"workflow": "fleet.shops", "id": "shops"})
        post(found, "/runs", {"workflow": "fleet.spends", "args": [4], "id": "spends"})
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def dialog(page: Page) -> Any:
    return page.locator(".q-dialog .pd-dialog")


def test_a_queue_is_watched_paused_and_limited(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/queues")
    expect(row(page, "slow/one")).to_contain_text("2 of 2")
    expect(row(page, "slow/one")).to_contain_text("full")
    shot(page, "queues")
    row(page, "slow/one").get_by_role("link").click()
    page.wait_for_url("**/queues/named/slow%2Fone")
    ready(page)
    expect(page.get_by_text("2 of 2")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    dialog(page).get_by_role("button", name="Pause").click()
    expect(page.locator("#content .pd-badge")).to_have_text("paused")
    assert get(site, "/queues")[-1]["paused"]
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#content .pd-badge")).to_have_text("full")
    page.get_by_label("Runs at once").fill("many")
    page.get_by_role("button", name="Set limits").click()
    expect(page.get_by_text("a whole number of at least 1")).to_be_visible()
    page.get_by_label("Runs at once").fill("4")
    page.get_by_role("button", name="Set limits").click()
    expect(page.get_by_text("4 of 4")).to_be_visible()  # another two run at once
    expect(page.get_by_text("4 (set by an operator)")).to_be_visible()
    shot(page, "queue")
    page.get_by_role("button", name="Take the code's again").click()
    dialog(page).get_by_role("button", name="Take the code's").click()
    expect(page.get_by_text("set by an operator")).to_be_hidden()
    page.close()


def test_a_rate_limit_is_watched_blocked_and_reset(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/queues")
    expect(row(page, "model")).to_contain_text("waiting")
    row(page, "model").get_by_role("link").click()
    page.wait_for_url("**/queues/limit/model")
    ready(page)
    expect(page.get_by_text("3 wait")).to_be_visible()
    shot(page, "rate-limit")
    page.get_by_role("button", name="Block").click()
    dialog(page).get_by_label("Minutes").fill("5")
    dialog(page).get_by_role("button", name="Block").click()
    expect(page.get_by_text("Blocked until")).to_be_visible()
    page.get_by_role("button", name="Unblock").click()
    expect(page.get_by_text("Blocked until")).to_be_hidden()
    page.get_by_role("button", name="Reset").click()
    dialog(page).get_by_role("button", name="Reset").click()
    expect(page.get_by_text("3 wait")).to_be_hidden()
    page.close()


def test_a_schedule_is_paused_run_and_deleted(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/schedules")
    expect(row(page, "nightly")).to_contain_text("30 2 * * * (UTC)")
    shot(page, "schedules")
    row(page, "nightly").get_by_role("link").click()
    page.wait_for_url("**/schedules/nightly")
    ready(page)
    expect(page.locator("#content dt").filter(has_text="02:30:00 UTC")).to_have_count(5)
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("row").filter(has_text="by hand")).to_contain_text("completed")
    shot(page, "schedule")
    page.get_by_role("button", name="Pause").click()
    dialog(page).get_by_label("Why").fill("holidays")
    dialog(page).get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: holidays")).to_be_visible()
    expect(page.get_by_text("It is paused.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#content .pd-badge").first).to_have_text("active")
    page.get_by_role("button", name="Fill up").click()
    dialog(page).get_by_label("From (UTC)").fill("yesterday")
    dialog(page).get_by_role("button", name="Fill up").click()
    expect(dialog(page).get_by_text("a moment, as in")).to_be_visible()
    dialog(page).get_by_label("From (UTC)").fill("2026-01-01 00:00:00")
    dialog(page).get_by_label("To (UTC)").fill("2026-01-03 00:00:00")
    dialog(page).get_by_role("button", name="Fill up").click()
    expect(page.get_by_role("row").filter(has_text="2026-01-02 02:30:00 UTC")).to_contain_text("completed")
    page.get_by_role("button", name="Delete").click()
    dialog(page).get_by_role("button", name="Delete").click()
    expect(page.get_by_text("It was deleted.")).to_be_visible()
    assert get(site, "/schedules") == []
    page.close()


def test_a_worker_is_seen_coming_draining_and_dying(site: Site, folder: Path, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/workers")
    expect(page.get_by_role("row")).to_have_count(2)  # the head, and the server's own
    command = [*PERDURE, "worker", "fleet", "--name", "the second", "--version", "v7"]
    started = subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL)
    try:
        second = page.get_by_role("row").filter(has_text="the second")
        expect(second).to_contain_text("alive")
        expect(page.get_by_role("heading", name="v7")).to_be_visible()
        shot(page, "workers")
        started.send_signal(signal.SIGKILL)
        expect(second).to_have_count(0)  # its runs were taken over
    finally:
        started.kill()
        started.wait()
    page.close()


def test_entities_are_found_by_kind_and_key(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/entities")
    expect(row(page, "fleet.Cart")).to_contain_text("3")
    row(page, "fleet.Cart").get_by_role("link").click()
    page.wait_for_url("**/entities/fleet.Cart")
    ready(page)
    expect(row(page, "user-2")).to_contain_text(" B")
    shot(page, "entities")
    page.get_by_label("Find by key").fill("user-1")
    page.get_by_label("Find by key").press("Enter")
    page.wait_for_url("**/entities/fleet.Cart?text=user-1")
    ready(page)
    expect(page.locator("tbody tr")).to_have_count(1)
    assert str(row(page, "user-1").get_by_role("link").get_attribute("href")).endswith(
        "/runs/fleet.Cart/user-1"
    )
    page.close()


def test_a_budget_that_is_used_up_is_raised(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/budgets")
    expect(row(page, "fleet.spends")).to_contain_text("1 waiting")
    shot(page, "budgets")
    row(page, "fleet.spends").get_by_role("link").click()
    page.wait_for_url("**/budgets/fleet.spends")
    ready(page)
    expect(page.get_by_text("$2.00 of $2.00")).to_be_visible()
    shot(page, "budget")
    page.get_by_role("button", name="Raise").click()
    dialog(page).get_by_label("US dollars").fill("much")
    dialog(page).get_by_role("button", name="Raise").click()
    expect(dialog(page).get_by_text("an amount, as in 2.50").first).to_be_visible()
    dialog(page).get_by_label("US dollars").fill("2.50")
    dialog(page).get_by_role("button", name="Raise").click()
    expect(page.get_by_text("of $4.50")).to_be_visible()
    deadline = time.monotonic() + 60
    while get(site, "/runs/spends/result")["status"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"] if SOAK else ["light"])
def test_they_fit_on_a_phone(site: Site, chrome: Chrome, theme: Any) -> None:
    for name, path in (
        ("queues", "/queues"),
        ("queue", "/queues/named/slow%2Fone"),
        ("schedules", "/schedules"),
        ("workers", "/workers"),
        ("entities", "/entities/fleet.Cart"),
        ("budget", "/budgets/fleet.spends"),
    ):
        page = chrome.open(site.url, path=path, phone=True, dark=theme == "dark")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        shot(page, f"{name}-phone{'-dark' if theme == 'dark' else ''}")
        page.close()


def test_who_may_only_look_presses_nothing(folder: Path, chrome: Chrome) -> None:
    made = Tokens()
    token = made.issue("vera", Role.VIEWER)
    made.save(folder / "tokens.json")
    with server(folder, "serve", "--tokens", "tokens.json", database="sqlite:///site.db") as site:
        context = chrome.context.browser.new_context()
        page = context.new_page()
        page.goto(f"{site.url}/queues/named/slow%2Fone")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/queues/named/**")
        ready(page)
        for name in ("Pause", "Drain", "Set limits"):
            expect(page.get_by_role("button", name=name)).to_be_disabled()
        context.close()
