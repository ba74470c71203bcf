"""Overview and Why in a real browser: an empty place says how to begin, and what is stuck gets going by a button."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from helpers.browser import SOAK, Chrome, Site, browser, server, shot

pytestmark = pytest.mark.acceptance

EVIL = "<img src=x onerror='window.hurt=1'>"
MODULE = f"""
import asyncio
import perdure

@perdure.workflow(name="look.greets")
async def greets(n: int) -> int:
    await asyncio.sleep(0.01 * n)
    if n % 4 == 3:
        raise ValueError("no threes")
    return n

@perdure.workflow(name="look.{EVIL}")
async def waits(n: int) -> int:
    return await perdure.receive("go", int)

@perdure.workflow(name="look.asks")
async def asks() -> bool:
    return await perdure.ask("Shall we go on with <b>it</b>?", bool)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("outlook")
    (folder / "look.py").write_text(MODULE)
    with server(folder, "dev", "look") as found:
        yield found


@pytest.fixture
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def _start(site: Site, workflow: str, *args: object, id: str) -> None:
    body = {"workflow": workflow, "args": args, "id": id}
    httpx.post(f"{site.url}/api/v1/runs", json=body, timeout=60).raise_for_status()


def _pause(site: Site, id: str) -> None:
    httpx.post(f"{site.url}/api/v1/runs/{id}/pause", json={"reason": "lunch"}, timeout=60).raise_for_status()


def test_an_empty_place_says_how_to_begin_and_then_shows_what_goes_on(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url)
    expect(page.get_by_text("No run yet")).to_be_visible()
    expect(page.get_by_text("perdure run hello:hello")).to_be_visible()
    for n in range(8):
        _start(site, "look.greets", n, id=f"g-{n}")
    for n in range(3):
        _start(site, f"look.{EVIL}", n, id=f"w-{n}")
        _pause(site, f"w-{n}")
    _start(site, "look.asks", id="a")
    figure = page.locator(".pd-figure", has_text="Completed")
    expect(figure.locator(".pd-number")).to_have_text("6", timeout=60_000)
    expect(page.locator(".pd-figure", has_text="Failed").locator(".pd-number")).to_have_text("2")
    expect(page.get_by_role("img", name="Runs that ended in the last hour")).to_be_visible()
    expect(page.locator(".pd-chart svg").first).to_be_visible()
    expect(page.get_by_role("link", name="look.greets")).to_be_visible()
    page.get_by_role("link", name="Week").click()
    expect(page.locator(".pd-figure", has_text="Completed")).to_contain_text("last week")
    assert page.evaluate("window.hurt") is None
    shot(page, "overview")


def test_all_paused_runs_go_on_by_one_button(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/why")
    card = page.locator(".pd-card", has=page.get_by_role("heading", name="Paused"))
    expect(card.get_by_role("link", name="w-2")).to_be_visible(timeout=60_000)
    expect(card).to_contain_text("lunch")
    asked = page.locator(".pd-card", has=page.get_by_role("heading", name="They wait for an answer"))
    expect(asked).to_contain_text("Shall we go on with <b>it</b>?")
    expect(asked.get_by_role("link", name="Answer")).to_be_visible()
    shot(page, "why")
    card.get_by_role("button", name="Resume (3)").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_contain_text("all 3 runs")
    dialog.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("done for 3")).to_be_visible()
    expect(card).to_have_count(0, timeout=60_000)
    found = httpx.get(f"{site.url}/api/v1/runs", params={"status": "paused"}, timeout=60).json()
    assert found["runs"] == []


@pytest.mark.parametrize(
    ("dark", "phone", "end"), [(False, True, "-phone"), *([(True, False, "-dark")] if SOAK else [])]
)
def test_they_fit_any_screen(site: Site, chrome: Chrome, dark: bool, phone: bool, end: str) -> None:
    for path, name in (("/", "overview"), ("/why", "why")):
        page = chrome.open(site.url, path=path, dark=dark, phone=phone)
        expect(page.locator("h1")).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{path} is wider than the screen by {wide} px"
        shot(page, name + end)
        page.close()
